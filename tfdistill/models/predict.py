"""Logits of a whole corpus, in batches of one length."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import tensorflow as tf

from tfdistill.data.batching import Examples, dataset, plan
from tfdistill.data.dataset import Data
from tfdistill.data.splits import Split
from tfdistill.models.heads import TASKS
from tfdistill.models.text_model import TextModel
from tfdistill.text.encoded import Encoded

# One compiled forward pass for each living model: tracing it again for every scoring would cost more than small scorings.
_FORWARDS: WeakKeyDictionary[TextModel, Callable[[dict[str, Any]], Any]] = WeakKeyDictionary()


def _forward(model: TextModel) -> Callable[[dict[str, Any]], Any]:
    if model not in _FORWARDS:
        reference = weakref.ref(model)
        ids = tf.TensorSpec((None, None), tf.int32)

        def forward(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            living = reference()
            assert living is not None
            return living(inputs, training=False)

        signature = [{"token_ids": ids, "padding_mask": ids, "segment_ids": ids}]
        _FORWARDS[model] = tf.function(forward, input_signature=signature, autograph=False)
    return _FORWARDS[model]


def predict_logits(
    model: TextModel, encoded: Encoded, *, batch_size: int = 64, advance: Callable[..., Any] | None = None
) -> np.ndarray:
    """Float32 logits (n, C), or (n, tokens of the longest row, C) of heads for tokens, in the order of `encoded`.

    Long rows come first, so that memory peaks at the start.
    """
    tokens = (int(encoded.lengths.max(initial=1)),) if TASKS[model.task].reads == "hidden_states" else ()
    logits = np.zeros((len(encoded), *tokens, model.num_outputs), "float32")
    batches = plan(encoded.lengths, batch_size, seed=0, epoch=0, shuffle=False)
    for rows, batch in zip(batches, dataset(Examples(encoded), batch_size, shuffle=False), strict=True):
        found = _forward(model)(batch["student"]).numpy()
        if tokens:
            logits[rows, : found.shape[1]] = found[:, : tokens[0]]
        else:
            logits[rows] = found
        if advance is not None:
            advance(len(rows))
    return logits


def encode(model: TextModel, split: Split, max_length: int) -> Encoded:
    """Tokenize the texts of `split` as `model` reads them."""
    return model.tokenizer.encode(split.texts, split.texts_b, max_length=max_length)


def measure(
    model: TextModel, data: Data, name: str, *, max_length: int, batch_size: int = 64
) -> tuple[Encoded, np.ndarray, Callable[[np.ndarray], dict[str, float]] | None]:
    """The rows of the split `name` of any data, the logits of `model` on them, and what gives logits their scores.

    The last is None for a split without labels; else it takes logits as `predict_logits` gives them.
    """
    rows = data.encode(data.splits[name], model.tokenizer, max_length)
    logits = predict_logits(model, rows.encoded, batch_size=batch_size)
    return rows.encoded, logits, rows.score if data.has_labels(name) else None


def evaluate(model: TextModel, data: Data, name: str, *, max_length: int, batch_size: int = 64) -> dict[str, float]:
    """Scores of `model` on the labelled split `name` of any data, those that count for the data first."""
    _, logits, scores = measure(model, data, name, max_length=max_length, batch_size=batch_size)
    assert scores is not None, f"{name} has no labels"
    return scores(logits)
