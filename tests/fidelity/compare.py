"""Answers in one form, and the comparison; imports neither TensorFlow nor PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

TOLERANCE = 1e-4


def ours(model: Any, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What our model says about a padded batch, cut to the real tokens, in the form of `theirs.answers`."""
    want = ["logits", "embeddings", "hidden_states", "attention_scores"]
    want += ["nsp_logits"] if model.nsp_head is not None else []
    said = model.features(batch, want)
    states = [np.array(state) for state in (said.embeddings, *said.hidden_states)]
    scores = [np.array(score) for score in said.attention_scores]
    logits, lengths = np.array(said.logits), batch["padding_mask"].sum(axis=1)
    rows = list(enumerate(lengths))
    cut = [[score[row, :, :n, :n] for score in scores] for row, n in rows]
    said_rows = {
        "logits": [logits[row, :n] if logits.ndim == 3 else logits[row] for row, n in rows],
        "nsp_logits": [] if said.nsp_logits is None else list(np.array(said.nsp_logits)),
        "hidden_states": [[state[row, :n] for state in states] for row, n in rows],
        "attentions": [[softmax(score) for score in each] for each in cut],
        "attention_scores": cut,
    }
    return flat(said_rows)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def flat(answers: dict[str, Any]) -> dict[str, np.ndarray]:
    """The answers as one vector for each feature."""

    def leaves(value: Any) -> list[np.ndarray]:
        return [leaf for each in value for leaf in leaves(each)] if isinstance(value, list) else [np.ravel(value)]

    return {name: np.concatenate(leaves(value)).astype("float32") for name, value in answers.items() if value}


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Both flat; every expected feature within TOLERANCE."""
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=TOLERANCE, err_msg=name)
