"""A pruned student exports, and its file is smaller for what was cut."""

import pytest
from helpers import tiny_bert

from tfdistill.compress.embedding import factorise_embedding
from tfdistill.compress.structured import KeptLayer, cut, everything
from tfdistill.export.convert.convert import convert_models
from tfdistill.text.tokenizer import Tokenizer

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(45))]


@pytest.mark.slow
def test_uneven_shapes_export_exactly_and_smaller(tmp_path):
    """`convert_models` itself refuses a file whose logits are not the Keras model's."""
    whole = tiny_bert(layers=2, width=32)
    whole.tokenizer = Tokenizer(VOCABULARY)
    full = everything(whole)
    inner = tuple(range(0, 64, 4))
    first = KeptLayer((1,), ((0, 2, 3),), ((1, 2, 7, 9),), inner)
    second = KeptLayer((0, 1), ((1, 2), (0, 3)), ((0, 1, 3), (1, 2, 3)), inner[:5])
    pruned = cut(whole, type(full)(((1, first), (2, second)), full.hidden[::2], full.pooler[1::3]))
    narrow, _ = factorise_embedding(pruned, 8)
    models = [(whole, "whole"), (pruned, "pruned"), (narrow, "narrow")]
    files = convert_models(models, tmp_path, length=8, modes=("fp32", "dynamic_int8"), workers=1)
    assert [file["fp32"].path.is_file() for file in files] == [True] * 3
    sizes = [file["fp32"].bytes for file in files]
    saved = 4 * (whole.count_params() - pruned.count_params())
    assert sizes[0] - sizes[1] > 0.9 * saved > 40_000
