"""The recipe layerdrop: depths, rates and layers that remain."""

from __future__ import annotations

import numpy as np
import pytest
from pruned import tiny_data, trained

from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.hf import load_directory
from tfdistill.models.predict import evaluate
from tfdistill.recipes import find


@pytest.mark.slow
def test_layerdrop_cuts_every_depth_asked_for(bert, tmp_path):
    result, report, student = trained("layerdrop", bert, tmp_path / "run", depth="2,1", rate=0.2)
    assert bert.num_layers == 3 and student.num_layers == 2 and type(student.config) is BertConfig
    assert report["settings"]["layers"] == {"depth-2": [1, 2], "depth-1": [2]}
    shallow = load_directory(tmp_path / "run" / "student-depth-1")
    assert shallow.num_layers == 1 and report["cut"]["depth-1"]["parameters"] == shallow.count_params()
    dev = evaluate(shallow, tiny_data(), "dev", max_length=16)
    assert report["cut"]["depth-1"]["scores"]["dev"] == dev
    # One training, no other after it: the shallow student's layer is the deeper one's second.
    np.testing.assert_array_equal(shallow.encoder.blocks[0].query.kernel, result.student.encoder.blocks[1].query.kernel)


@pytest.mark.heavy
def test_layerdrop_takes_a_rate_or_the_layers_themselves(bert):
    module, data = find("layerdrop"), tiny_data()
    by_rate = module.recipe(bert, data, module.Settings(prune_rate=0.5))
    assert by_rate.settings["layers"] == {"depth-2": (1, 3)}
    assert by_rate.student.config.layerdrop == 0.2
    assert module.remaining_layers(3, module.Settings(keep="2,3")) == {"depth-2": (2, 3)}
    for wrong in ({"keep": "3,2"}, {"keep": "x"}, {"depth": "4"}, {"depth": ""}, {"depth": "1", "keep": "1"}):
        with pytest.raises(UserError):
            module.remaining_layers(3, module.Settings(**wrong))
