"""What a model says about a batch, made only when asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tfdistill.errors import UserError

NAMES = ("logits", "nsp_logits", "pooled", "embeddings", "hidden_states", "attention_scores")


@dataclass(frozen=True)
class Features:
    """Outputs of one forward pass. Fields nobody asked for are None.

    Shapes (batch B, length L, layers N, width H, heads A, classes C):
        logits: (B, C), before softmax or sigmoid; (B, L, C) of heads that answer for each token.
        nsp_logits: (B, 2), next sentence or not, of a model for "pretraining", whose logits are the masked LM's.
        pooled: (B, H), the vector that the head of a sequence task reads.
        embeddings: (B, L, H), the embedding output ("layer 0").
        hidden_states: tuple of N tensors (B, L, H); layer n stands at index n - 1. A BiLSTM has one, its states.
        attention_scores: tuple of N tensors (B, A, L, L), before mask and softmax.
        mask: (B, L), 1 for real tokens and 0 for padding; None for models that know no padding.
        words: (B, L), the word of each token, below 0 for none, where student and teacher read other pieces
            (`tfdistill.text.alignment`); else None.
    """

    logits: Any = None
    nsp_logits: Any = None
    pooled: Any = None
    embeddings: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attention_scores: tuple[Any, ...] | None = None
    mask: Any = None
    words: Any = None

    def layer(self, name: str, number: int) -> Any:
        """Layer `number` (0 is the embedding output, 1..N the layers) of `hidden_states` or `attention_scores`."""
        if name == "hidden_states" and number == 0:
            return self.embeddings
        values = getattr(self, name)
        known = [n for n, value in enumerate(values or (), 1) if value is not None]
        if number not in known:
            have = "none" if not known else f"1..{len(known)}" if known[-1] == len(known) else str(known)
            raise UserError(f"layer {number} of {name} was asked for, the model has {have}; mend the layer mapping")
        return values[number - 1]


def features_of(model: Any, inputs: Any, want: Iterable[str], training: bool) -> Features:
    """Run `model` once and return the features in `want`.

    Models of this library have a `features` method. Any other `keras.Model` is taken to return logits, which is all
    that can be asked of it. Raises UserError for another feature.
    """
    want = tuple(want)
    if hasattr(model, "features"):
        return model.features(inputs, want=want, training=training)
    missing = [name for name in want if name != "logits"]
    if missing:
        raise UserError(
            f"{type(model).__name__} gives logits only, and {', '.join(missing)} was asked for; "
            "use a model of tfdistill.models (tfdistill.load reads Hugging Face directories and hub: presets)"
        )
    outputs = model(inputs, training=training)
    if isinstance(outputs, Mapping):
        if "logits" not in outputs:
            raise UserError(
                f"{type(model).__name__} returns {sorted(outputs)}; expected a tensor or a dict with 'logits'"
            )
        outputs = outputs["logits"]
    mask = inputs.get("padding_mask") if isinstance(inputs, Mapping) else None
    return Features(logits=outputs, mask=mask)
