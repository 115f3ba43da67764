"""Models for pre-training on plain text: how they are made, their terms, and their scores on held-out text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.corpora.sequences import TextExamples
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.step import Term
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TASKS: dict[str, str] = {"mlm": "masked_lm", "mlm+nsp": "pretraining"}


def make_model(
    source: str,
    objective: str = "mlm",
    *,
    encoder: str | None = None,
    tokenizer: str = "demo:minilm",
    changes: dict[str, Any] | None = None,
) -> tuple[TextModel, bool]:
    """The model to pre-train, and whether its encoder has been trained before.

    Args:
        source: a preset (`tfdistill.models.presets.PRESETS`), or what `tfdistill.load` reads: its encoder goes on, and its head if it
            is of this objective, else with a new one.
        encoder: for a preset: a directory whose encoder has the preset's architecture and gives weights and vocabulary.
        tokenizer: for a preset with random weights: a directory with the vocabulary, or demo:minilm (uncased English).
        changes: fields of the preset's config to change, for instance {"num_hidden_layers": 6}.

    Raises:
        UserError: unknown preset, objective or directory, or an encoder of another architecture.
    """
    if objective not in TASKS:
        raise UserError(f"objective '{objective}' is unknown; expected {' or '.join(TASKS)}")
    wanted = TASKS[objective]
    if source not in presets.PRESETS:
        if encoder is not None or changes:
            what = "--from" if encoder is not None else "--config"
            known = ", ".join(presets.PRESETS)
            raise UserError(f"{what} goes with a preset, and '{source}' is none; leave it out, or give one of {known}")
        return load(source, task=wanted), True
    if encoder is None:
        return presets.new(source, tokenizer=_tokenizer(tokenizer), task=wanted, **(changes or {})), False
    model = load(encoder, task=wanted)
    expected = asdict(presets.config(source, **{"vocab_size": model.config.vocab_size, **(changes or {})}))
    sizes = {
        name: (value, expected[name])
        for name, value in asdict(model.config).items()
        if type(model.config) is type(presets.PRESETS[source]) and isinstance(value, int) and value != expected[name]
    }
    if type(model.config) is not type(presets.PRESETS[source]) or sizes:
        told = ", ".join(f"{name} {ours} (preset {theirs})" for name, (ours, theirs) in sizes.items()) or model.family
        raise UserError(
            f"{encoder} has another architecture than the preset '{source}': {told}; give the directory in the preset's place"
        )
    return model, True


def _tokenizer(source: str) -> Tokenizer:
    if source == "demo:minilm":
        from tfdistill.data.demo import minilm_directory

        return Tokenizer.from_directory(minilm_directory())
    return Tokenizer.from_directory(source.removeprefix("hf:"))


def terms(objective: str) -> tuple[Term, ...]:
    """The sum of both losses, each a mean, as in BERT."""
    masked = HardLabels(task="masked_lm", name="masked_lm")
    if objective == "mlm":
        return (masked,)
    return (masked, HardLabels(task="next_sentence", name="next_sentence"))


# --- scores ---------------------------------------------------------------------------------------------------------


def evaluate(model: TextModel, examples: TextExamples, *, batch_size: int = 32, seed: int = 0) -> dict[str, float]:
    """Scores of a model on masked sequences; the same seed always gives the same masks.

    Returns:
        masked_accuracy (share of the masked tokens whose piece is ranked first), masked_loss (mean cross-entropy, nats), and
        for pairs next_sentence_accuracy and next_sentence_loss.
    """
    pairs = examples.next_sentence and model.nsp_head is not None
    want = ("logits", "nsp_logits") if pairs else ("logits",)

    @tf.function(reduce_retracing=True)
    def sums(batch: Any) -> list[Any]:
        features, labels = model.features(batch["student"], want, training=False), batch["labels"]
        found = _sums(features.logits, labels["masked_labels"], labels["masked_weights"])
        if pairs:
            known = tf.ones_like(labels["next_sentence"], tf.float32)
            found += _sums(features.nsp_logits, labels["next_sentence"], known)
        return found

    total = np.zeros(6 if pairs else 3)
    for batch in examples.dataset(batch_size, seed=seed, shuffle=False):
        total += [float(value) for value in sums(batch)]
    scores = {"masked_accuracy": total[0] / max(total[2], 1), "masked_loss": total[1] / max(total[2], 1)}
    if pairs:
        scores |= {"next_sentence_accuracy": total[3] / total[5], "next_sentence_loss": total[4] / total[5]}
    return {name: float(value) for name, value in scores.items()}


def _sums(logits: Any, labels: Any, weights: Any) -> list[Any]:
    """Hits, cross-entropy and count, each summed over what has weight 1."""
    hits = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return [tf.reduce_sum(hits * weights), tf.reduce_sum(loss * weights), tf.reduce_sum(weights)]


def told(scores: dict[str, float]) -> str:
    """Scores in words."""
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())
