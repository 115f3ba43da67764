"""Describe the outputs of a forward pass: one registry of all features, and the values of one batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tfdistill.distill.foreign import has_features, logits_of
from tfdistill.errors import UserError


@dataclass(frozen=True)
class Feature:
    """One kind of model output.

    Args:
        axes: one letter for each axis: B example, L token, A attention head, H hidden unit, C class.
        layered: whether there is one tensor for each layer.
    """

    axes: str
    layered: bool = False

    @property
    def per_token(self) -> bool:
        return "L" in self.axes

    @property
    def per_pair(self) -> bool:
        """Whether there is a value for each pair of tokens."""
        return self.axes.count("L") == 2


# Matching, the teacher cache, the range check of fp16 and the encoders read this table. A new feature needs an entry here,
# a field of `Features`, and encoders that offer it.
FEATURES = {  # inputs of others first: the range check names the first feature that overflows
    "embeddings": Feature("BLH"),
    "hidden_states": Feature("BLH", layered=True),
    "attention_scores": Feature("BALL", layered=True),
    "queries": Feature("BLH", layered=True),
    "keys": Feature("BLH", layered=True),
    "values": Feature("BLH", layered=True),
    "pooled": Feature("BH"),
    "logits": Feature("BC"),  # (B, L, C) for heads that answer for each token
    "nsp_logits": Feature("BC"),
}


def feature(name: str) -> Feature:
    """Return the registry's entry. Raises UserError for an unknown name."""
    if name not in FEATURES:
        raise UserError(f"feature '{name}' is unknown; expected one of {', '.join(FEATURES)}")
    return FEATURES[name]


@dataclass(frozen=True)
class Features:
    """Outputs of one forward pass. Features that were not requested are None.

    Args:
        logits: (B, C), before softmax or sigmoid; (B, L, C) for heads that answer for each token.
        nsp_logits: (B, 2), next sentence or not, of a model for "pretraining", whose `logits` are the masked LM's.
        pooled: (B, H), the vector that the head of a sequence task reads.
        embeddings: (B, L, H), the embedding output ("layer 0").
        hidden_states: tuple of N tensors (B, L, H); layer n is at index n - 1. A BiLSTM has one, its states.
        attention_scores: tuple of N tensors (B, A, L, L), before mask and softmax.
        queries: tuples of N tensors (B, L, A·size), the inputs of self-attention with the heads side by
            side: the projections of the layer's input, with their bias.
        keys: tuples of N tensors (B, L, A·size), like `queries`.
        values: tuples of N tensors (B, L, A·size), like `queries`.
        mask: (B, L), 1 for real tokens and 0 for padding; None for models without padding.
        words: (B, L), the word of each token, below 0 for none, if student and teacher read different tokens
            (`tfdistill.text.alignment`); else None.
    """

    logits: Any = None
    nsp_logits: Any = None
    pooled: Any = None
    embeddings: Any = None
    hidden_states: tuple[Any, ...] | None = None
    attention_scores: tuple[Any, ...] | None = None
    queries: tuple[Any, ...] | None = None
    keys: tuple[Any, ...] | None = None
    values: tuple[Any, ...] | None = None
    mask: Any = None
    words: Any = None

    def layer(self, name: str, number: int) -> Any:
        """Return one tensor of a feature.

        Args:
            name: key of `FEATURES`.
            number: 1..N for features with layers; 0 of the hidden states is the embedding output. Not read for others.

        Raises:
            UserError: the model does not have this layer.
        """
        if not feature(name).layered:
            return getattr(self, name)
        if name == "hidden_states" and number == 0:
            return self.embeddings
        values = getattr(self, name)
        known = [n for n, value in enumerate(values or (), 1) if value is not None]
        if number not in known:
            have = "none" if not known else f"1..{len(known)}" if known[-1] == len(known) else str(known)
            raise UserError(
                f"the model has no layer {number} of {name}; expected one of {have}: change the layer mapping"
            )
        return values[number - 1]


def features_of(model: Any, inputs: Any, want: Iterable[str], training: bool) -> Features:
    """Run `model` once and return the features named in `want`.

    Args:
        model: a model of this library, which has a method `features`, or any other `keras.Model` that returns logits.
        inputs: what the model takes, usually a dict of int32 (B, L).
        want: keys of `FEATURES`.
        training: whether dropout is active.

    Raises:
        UserError: the model does not have one of the features, or returns something that is not logits.
    """
    want = tuple(want)
    if has_features(model):
        return model.features(inputs, want=want, training=training)
    missing = [name for name in want if name != "logits"]
    if missing:
        raise UserError(
            f"{type(model).__name__} returns logits only; received a request for {', '.join(missing)}. "
            "Use a model of tfdistill.models (`tfdistill.load` reads Hugging Face directories and hub: presets)"
        )
    mask = inputs.get("padding_mask") if isinstance(inputs, Mapping) else None
    return Features(logits=logits_of(model, model(inputs, training=training)), mask=mask)
