"""Read bert_config.json, which google-research/bert and mobilebert write with their checkpoints."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

GOOGLE_CONFIG = "bert_config.json"
# Settings that only MobileBERT has.
_OF_MOBILEBERT = {"intra_bottleneck_size", "trigram_input", "use_bottleneck", "num_feedforward_networks"}
# Tensors of heads, with the class in transformers; the first that a checkpoint has counts.
_CLASSES = {
    "classifier.weight": "ForSequenceClassification",
    "qa_outputs.weight": "ForQuestionAnswering",
    "cls.seq_relationship.weight": "ForPreTraining",
    "cls.predictions.bias": "ForMaskedLM",
}
_BY_TENSORS = "by the tensors"


def as_hugging_face(raw: dict[str, Any]) -> dict[str, Any]:
    """Return config.json for a parsed bert_config.json, without the class, which depends on the tensors."""
    kind = "mobilebert" if _OF_MOBILEBERT & raw.keys() else "bert"
    # The epsilon is a constant in Google's code.
    return {"layer_norm_eps": 1e-12, **raw, "model_type": kind, "architectures": [_BY_TENSORS]}


def with_architecture(raw: dict[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return a config with the class of the model: for a bert_config.json, the tensors decide it."""
    if raw.get("architectures") != [_BY_TENSORS]:
        return raw
    head = next((head for name, head in _CLASSES.items() if name in names), "Model")
    return {**raw, "architectures": [("MobileBert" if raw["model_type"] == "mobilebert" else "Bert") + head]}
