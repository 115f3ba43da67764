"""KerasHub presets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import inputs

from tfdistill.models.load import load

pytestmark = pytest.mark.heavy

TINY_BERT = Path(__file__).parent / "tiny_bert"


def test_hub_preset_gives_our_encoder_their_weights(tmp_path):
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.BertBackbone(37, 2, 2, 8, 16, max_sequence_length=16)
    for weight in backbone.weights:
        weight.assign(np.random.default_rng(3).normal(scale=0.3, size=weight.shape))
    backbone.save_to_preset(str(tmp_path / "preset"))
    vocabulary = (TINY_BERT / "vocab.txt").read_text("utf-8").split()
    keras_hub.models.BertTokenizer(vocabulary, lowercase=True).save_to_preset(str(tmp_path / "preset"))
    model = load(f"hub:{tmp_path / 'preset'}", num_outputs=3)
    x = {key: value % 37 for key, value in inputs(pair=True).items()}
    theirs = backbone(x)
    found = model.features(x, ("pooled", "hidden_states"))
    # They approximate GELU by tanh; ours is the exact one that BERT was trained with.
    real = x["padding_mask"][..., None]
    np.testing.assert_allclose(found.hidden_states[-1] * real, theirs["sequence_output"] * real, atol=5e-3)
    np.testing.assert_allclose(found.pooled, theirs["pooled_output"], atol=5e-3)
    assert model.tokenizer.vocabulary == tuple(vocabulary)
