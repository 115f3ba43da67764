"""Make models for pre-training on plain text, and evaluate them on held-out text."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.corpora.sequences import TextExamples
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.step import Term
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.load import load, open_model
from tfdistill.models.names import kept_directory, model_directory
from tfdistill.models.stored_model import StoredModel
from tfdistill.system.lazy import tf
from tfdistill.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

OBJECTIVES: dict[str, str] = {"mlm": "masked_lm", "mlm+nsp": "pretraining"}


def make_model(
    source: str,
    objective: str = "mlm",
    *,
    encoder: str | None = None,
    tokenizer: str = "demo:minilm",
    changes: dict[str, Any] | None = None,
    opened: StoredModel | None = None,
) -> tuple[TextModel, bool]:
    """Make the model to pre-train. Returns it, and whether its encoder has been trained before.

    Args:
        source: a preset (`tfdistill.models.presets.PRESETS`), or what `tfdistill.load` reads, with a new head if its own is
            for another objective.
        objective: "mlm" or "mlm+nsp".
        encoder: for a preset: a directory whose encoder has the preset's architecture and gives weights and vocabulary.
        tokenizer: for a preset with random weights: a directory with the vocabulary, or demo:minilm (uncased English).
        changes: fields of the preset's config to change, for instance {"num_hidden_layers": 6}.
        opened: what `open_start` returned for these arguments, if it was called before.

    Raises:
        UserError: unknown preset, objective or directory, or an encoder of another architecture.
    """
    opened = opened or open_start(source, objective, encoder=encoder, changes=changes)
    head = OBJECTIVES[objective]
    if source not in presets.PRESETS:
        return load(opened or source, task=head, new_head=True), True
    if encoder is None:
        return presets.new(source, tokenizer=_tokenizer(tokenizer), task=head, **(changes or {})), False
    model = load(opened or encoder, task=head, new_head=True)
    preset = presets.config(source, **{"vocab_size": model.config.vocab_size, **(changes or {})})
    other = [model.family] if type(preset) is not type(model.config) else []
    for name, size in asdict(preset).items() if not other else ():
        value = getattr(model.config, name)
        other += [f"{name} {value} (preset {size})"] if isinstance(value, int) and value != size else []
    if other:
        raise UserError(
            f"{encoder} has another architecture than the preset '{source}': {', '.join(other)}. Use the directory in its place."
        )
    return model, True


def open_start(
    source: str, objective: str, *, encoder: str | None = None, changes: dict[str, Any] | None = None
) -> StoredModel | None:
    """Check the arguments of `make_model` without TensorFlow, and return the model directory among them, if there is one.

    Raises:
        UserError: as in `make_model`, except about another architecture.
    """
    if objective not in OBJECTIVES:
        raise UserError(f"`--objective {objective}` is unknown. Use {' or '.join(OBJECTIVES)}.")
    if source not in presets.PRESETS:
        if encoder is not None or changes:
            what = "--from" if encoder is not None else "--config"
            known = ", ".join(presets.PRESETS)
            raise UserError(f"`{what}` needs a preset, and '{source}' is not one. Remove it, or use one of {known}.")
        return open_model(source)
    return None if encoder is None else open_model(encoder)


def _tokenizer(source: str) -> Tokenizer:
    return Tokenizer.from_directory(kept_directory(source) or model_directory(source))


def terms(objective: str) -> tuple[Term, ...]:
    """Return the terms of an objective: the sum of both losses, each a mean, as in BERT."""
    masked = HardLabels(task="masked_lm", name="masked_lm")
    if objective == "mlm":
        return (masked,)
    return (masked, HardLabels(task="next_sentence", name="next_sentence"))


# --- scores ---------------------------------------------------------------------------------------------------------


def evaluate(model: TextModel, examples: TextExamples, *, batch_size: int = 32, seed: int = 0) -> dict[str, float]:
    """Evaluate a model on masked sequences. The same seed gives the same masks.

    Returns:
        masked_accuracy (share of the masked tokens that are ranked first), masked_loss (mean cross-entropy, nats), and
        for pairs next_sentence_accuracy and next_sentence_loss.
    """
    pairs = examples.next_sentence and model.nsp_head is not None
    want = ("logits", "nsp_logits") if pairs else ("logits",)

    @tf.function(reduce_retracing=True)
    def sums(batch: Any) -> list[Any]:
        features, labels = model.features(batch["student"], want, training=False), batch["labels"]
        totals = _sums(features.logits, labels["masked_labels"], labels["masked_weights"])
        if pairs:
            known = tf.ones_like(labels["next_sentence"], tf.float32)
            totals += _sums(features.nsp_logits, labels["next_sentence"], known)
        return totals

    total = np.zeros(6 if pairs else 3)
    for batch in examples.dataset(batch_size, seed=seed, shuffle=False):
        total += [float(value) for value in sums(batch)]
    scores = {"masked_accuracy": total[0] / max(total[2], 1), "masked_loss": total[1] / max(total[2], 1)}
    if pairs:
        scores |= {"next_sentence_accuracy": total[3] / total[5], "next_sentence_loss": total[4] / total[5]}
    return {name: float(value) for name, value in scores.items()}


def _sums(logits: Any, labels: Any, weights: Any) -> list[Any]:
    """Return hits, cross-entropy and count, each summed over tokens of weight 1."""
    hits = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return [tf.reduce_sum(hits * weights), tf.reduce_sum(loss * weights), tf.reduce_sum(weights)]


@dataclass(frozen=True)
class HeldOutText:
    """Evaluates models on held-out sequences, with the same masks each time."""

    examples: TextExamples
    batch_size: int

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def fingerprint(self) -> str:
        """Return the fingerprint of the sequences."""
        return self.examples.fingerprint

    def __call__(self, model: TextModel) -> dict[str, float]:
        """Return the scores of `evaluate`."""
        return evaluate(model, self.examples, batch_size=self.batch_size)

    def sample(self, rows: int) -> Any:
        """Return the model's inputs for the first `rows` sequences at most."""
        return self.examples.batch(np.arange(min(rows, len(self.examples))), seed=0, epoch=0)["student"]
