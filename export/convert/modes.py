"""Describe the quantization modes: their cost, and the tool that makes each of them for a model family.

Imports no TensorFlow.
"""

from __future__ import annotations

from dataclasses import dataclass

from tfdistill.errors import UserError, nearest

TF, AEQ = "tensorflow", "ai-edge-quantizer"


@dataclass(frozen=True)
class Mode:
    """A quantization mode.

    Args:
        meaning: a description in words.
        bytes: the size of one weight.
        table: how the graph stores the word-piece embeddings: "float", or "int8" with a scale for
            each row.
        calibrated: whether ranges of activations are measured on training data.
        tolerance: how far logits may differ on another processor, as a share of the largest golden
            logit (at least 1).
    """

    meaning: str
    bytes: int
    table: str
    calibrated: bool
    tolerance: float


MODES = {
    "fp32": Mode("float32", 4, "float", False, 1e-3),
    "fp16": Mode("float16 weights", 2, "float", False, 1e-2),
    "dynamic_int8": Mode("int8 weights, activations quantized at run time", 1, "int8", False, 5e-2),
    "weight_int8": Mode("int8 weights, float32 arithmetic", 1, "int8", False, 1e-2),
    "int8": Mode("int8 weights and activations, calibrated", 1, "int8", True, 1e-1),
    "int8_int16": Mode("int8 weights, int16 activations, calibrated", 1, "int8", True, 5e-2),
}

_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
_PLAIN = {"fp32": TF, "fp16": TF, "dynamic_int8": TF, "weight_int8": AEQ, "int8": AEQ, "int8_int16": AEQ}
# The tool that makes each mode, or the operator that no tool can quantize in that way.
SUPPORT = {
    "bert": _PLAIN,
    "pruned_bert": _PLAIN,
    "distilbert": _PLAIN,
    "roberta": _PLAIN,
    "electra": _PLAIN,
    "albert": _PLAIN,
    "mobilebert": _PLAIN,
    "bilstm": {"fp32": TF, "fp16": TF, "dynamic_int8": TF, "weight_int8": _LSTM, "int8": TF, "int8_int16": _LSTM},
    "static": _PLAIN,
}
# Heads that can be exported. Masked-LM heads only serve training.
EXPORTED_HEADS = (
    "classification",
    "multilabel",
    "regression",
    "next_sentence",
    "token_classification",
    "question_answering",
)


def check_mode(mode: str) -> None:
    """Raise UserError for an unknown quantization mode."""
    if mode not in MODES:
        raise UserError(f"quantization '{mode}' is unknown; expected one of {', '.join(MODES)}{nearest(mode, MODES)}")


def tool_for(family: str, mode: str) -> str:
    """Return the tool that quantizes a model family in a mode.

    Raises:
        UserError: no tool can; the message names the operator that is not supported.
    """
    tool = SUPPORT[family][mode]
    if tool in (TF, AEQ):
        return tool
    supported = [name for name, made_by in SUPPORT[family].items() if made_by in (TF, AEQ)]
    raise UserError(
        f"{mode} is not supported for a {family} model, because of its operator {tool}; "
        f"expected one of {', '.join(supported)}"
    )
