"""BERT against numbers of transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from helpers import tiny_bert

from tfdistill.models.hf import load_directory

HERE = Path(__file__).parent
TINY_BERT = Path(__file__).parent / "tiny_bert"


def test_bert_equals_hugging_face():
    """Numbers from transformers, see make_bert_vectors.py: logits, all hidden states, all scores before softmax."""
    expected = json.loads((HERE / "bert_vectors.json").read_text("utf-8"))
    x = {key: np.array(value, "int32") for key, value in expected["inputs"].items()}
    found = load_directory(TINY_BERT).features(x, ("logits", "embeddings", "hidden_states", "attention_scores"))
    np.testing.assert_allclose(found.logits, expected["logits"], atol=1e-5)
    real = x["padding_mask"][..., None]
    states = (found.embeddings, *found.hidden_states)
    for ours, theirs in zip(states, expected["hidden_states"], strict=True):
        np.testing.assert_allclose(ours * real, np.array(theirs) * real, atol=1e-5)
    pairs = x["padding_mask"][:, None, :, None] * x["padding_mask"][:, None, None, :]
    for ours, theirs in zip(found.attention_scores, expected["attention_scores"], strict=True):
        np.testing.assert_allclose(ours * pairs, np.array(theirs) * pairs, atol=1e-5)


def test_fresh_weights_are_drawn_one_by_one():
    model = tiny_bert()
    kernels = [np.array(v) for v in model.encoder.variables if v.path.endswith(("kernel", "embeddings"))]
    for number, kernel in enumerate(kernels):
        for other in kernels[:number]:
            size = min(kernel.size, other.size)
            assert not np.allclose(kernel.ravel()[:size], other.ravel()[:size])
