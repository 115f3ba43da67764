"""Names of tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import inputs, tiny_bert
from safetensors.numpy import load_file, save_file

from tfdistill.models.hf import load_directory, save_directory
from tfdistill.text.tokenizer import Tokenizer

pytestmark = pytest.mark.heavy

TINY_BERT = Path(__file__).parent / "tiny_bert"


def test_names_of_conversions_from_tensorflow_are_known(tmp_path):
    model = tiny_bert(task="masked_lm", outputs=None)
    model.tokenizer = Tokenizer.from_directory(TINY_BERT)
    directory = save_directory(model, tmp_path / "model")
    old = {}
    for name, value in load_file(directory / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        old[name] = value
    save_file(old, directory / "model.safetensors")
    np.testing.assert_array_equal(load_directory(directory)(inputs()), model(inputs()))
