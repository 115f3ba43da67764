"""The pruning recipes, run as a user runs them on tiny data: the student is smaller, and what was scored is what is saved."""

import json
from pathlib import Path

import numpy as np
import pytest

from tfdistill.compress.layerdrop import keep_layers
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError
from tfdistill.models.bert import BertConfig
from tfdistill.models.hf import load_directory
from tfdistill.models.predict import evaluate
from tfdistill.recipes import find
from tfdistill.recipes._pruning import scaled, shares
from tfdistill.training.run_directory import run

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


def tiny_data() -> TextData:
    """Texts of letters; the class says whether 'a' is among them."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = rng.integers(0, 2, count)
        texts = [" ".join([*rng.choice(list("bcdefg"), 3), "a" if label else "h"]) for label in labels]
        return Split(texts, labels=labels.astype("int64"))

    return TextData("tiny", {"train": split(48), "dev": split(16), "test": split(16)}, ("neg", "pos"))


@pytest.fixture(scope="module")
def teacher():
    return load_directory(TINY, num_outputs=2, label_names=("neg", "pos"))


@pytest.fixture(scope="module")
def shallow(teacher):
    """Two layers, which make no difference to heads and neurons but to the time."""
    return keep_layers(teacher, [1, 2])


def trained(name, teacher, out, **settings):
    """Result of a run, the report it wrote, and the student as it opens from the directory."""
    module, data = find(name), tiny_data()
    chosen = module.Settings(**{"max_length": 16, "batch_size": 16, "evaluations": 1, "epochs": 1, **settings})
    result = run(module.recipe(teacher, data, chosen), out, seed=3)
    report = json.loads((out / "run.json").read_text("utf-8"))
    student = load_directory(out / "student")
    assert student.count_params() == report["parameters"] == result.student.count_params()
    for split in ("dev", "test"):
        assert evaluate(student, data, split, max_length=16) == report["scores"][split]
    return result, report, student


@pytest.mark.slow
def test_layerdrop_cuts_every_depth_asked_for(teacher, tmp_path):
    result, report, student = trained("layerdrop", teacher, tmp_path / "run", depth="2,1", rate=0.2)
    assert teacher.num_layers == 3 and student.num_layers == 2 and type(student.config) is BertConfig
    assert report["settings"]["layers"] == {"depth-2": [1, 2], "depth-1": [2]}
    shallow = load_directory(tmp_path / "run" / "student-depth-1")
    assert shallow.num_layers == 1 and report["cut"]["depth-1"]["parameters"] == shallow.count_params()
    dev = evaluate(shallow, tiny_data(), "dev", max_length=16)
    assert report["cut"]["depth-1"]["scores"]["dev"] == dev
    # One training, no other after it: the shallow student's layer is the deeper one's second.
    np.testing.assert_array_equal(shallow.encoder.blocks[0].query.kernel, result.student.encoder.blocks[1].query.kernel)


def test_layerdrop_takes_a_rate_or_the_layers_themselves(teacher):
    module, data = find("layerdrop"), tiny_data()
    by_rate = module.recipe(teacher, data, module.Settings(prune_rate=0.5))
    assert by_rate.settings["layers"] == {"depth-2": (1, 3)}
    assert by_rate.student.config.layerdrop == 0.2
    assert module._layers(3, module.Settings(keep="2,3")) == {"depth-2": (2, 3)}
    for wrong in ({"keep": "3,2"}, {"keep": "x"}, {"depth": "4"}, {"depth": ""}, {"depth": "1", "keep": "1"}):
        with pytest.raises(UserError):
            module._layers(3, module.Settings(**wrong))


def test_head_pruning_without_training_leaves_the_other_weights(shallow, tmp_path):
    _, _, student = trained("head_pruning", shallow, tmp_path / "run", epochs=0, share=0.0, step=0.25)
    heads = shallow.config.num_attention_heads
    assert student.config.heads_per_layer == (1, 1)
    assert heads > 1 and student.count_params() < shallow.count_params()
    np.testing.assert_array_equal(
        student.encoder.blocks[0].intermediate.kernel, shallow.encoder.blocks[0].intermediate.kernel
    )
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    removed = [entry["heads_removed"] for entry in log if "heads_removed" in entry]
    assert removed[0] == 0 and removed == sorted(removed) and removed[-1] == 2 * (heads - 1)


@pytest.mark.slow
def test_head_pruning_that_may_lose_nothing_stops(shallow, tmp_path):
    _, _, student = trained("head_pruning", shallow, tmp_path / "run", epochs=0.5, share=1.0, step=0.25)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text("utf-8").splitlines()]
    steps = [entry for entry in log if "heads_removed" in entry]
    kept = [entry for entry in steps if entry["kept"]]
    assert all(entry["dev_score"] >= steps[0]["dev_score"] for entry in kept)
    left = getattr(student.config, "heads_per_layer", None) or (shallow.config.num_attention_heads,) * 2
    gone = sum(shallow.config.num_attention_heads - heads for heads in left)
    assert gone == kept[-1]["heads_removed"]


@pytest.mark.slow
def test_neuron_pruning_reaches_its_widths_in_steps(shallow, tmp_path):
    _, report, student = trained(
        "neuron_pruning", shallow, tmp_path / "run", intermediate=0.5, value=0.5, query_key=0.5, pooler=0.5, steps=2
    )
    sizes, head = shallow.config, shallow.config.hidden_size // shallow.config.num_attention_heads
    config = student.config
    assert config.intermediate_size == scaled(sizes.intermediate_size, 0.5, 8)
    assert set(config.value_sizes) == set(config.query_key_sizes) == {scaled(head, 0.5, 8)}
    assert config.pooler_size == scaled(sizes.hidden_size, 0.5, 8)
    assert len(report["stages"]) == 2 and "widths" in report["stages"][0]["before"]
    assert student.count_params() < shallow.count_params()


@pytest.mark.slow
def test_neuron_pruning_of_the_feed_forward_layers_alone_stays_a_bert(shallow, tmp_path):
    _, _, student = trained("neuron_pruning", shallow, tmp_path / "run", steps=1, measure="magnitude")
    assert type(student.config) is BertConfig
    assert json.loads((tmp_path / "run" / "student" / "config.json").read_text())["model_type"] == "bert"


@pytest.mark.slow
def test_neuron_pruning_narrows_the_residual_stream(shallow, tmp_path):
    _, _, student = trained("neuron_pruning", shallow, tmp_path / "run", hidden=0.5, intermediate=1.0, steps=1)
    assert student.config.hidden_size == scaled(shallow.config.hidden_size, 0.5, 8)
    assert student.encoder.blocks[0].query.kernel.shape[1] == shallow.config.hidden_size


def test_widths():
    assert (
        scaled(1536, 0.3, 8) == 464 and scaled(6, 0.5, 8) == 3 and scaled(8, 0.01, 8) == 8 and scaled(5, 0.01, 8) == 1
    )
    assert shares(4, 0.5) == [0.875, 0.75, 0.625, 0.5]
