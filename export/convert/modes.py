"""Quantizations: what each is called, what it costs, and what makes it of which family. Imports no TensorFlow."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from tfdistill.errors import UserError

TF, AEQ = "tensorflow", "ai-edge-quantizer"


@dataclass(frozen=True)
class Mode:
    """A quantization.

    Args:
        meaning: in words.
        bytes: what a weight takes.
        table: how the graph holds its word pieces, "float" or "int8" with a scale for each row.
        calibrated: whether ranges of activations are measured on rows of data.
        tolerance: by how much logits may differ on another processor, as a share of the largest golden logit (at least 1).
    """

    meaning: str
    bytes: float
    table: str
    calibrated: bool
    tolerance: float


MODES = {
    "fp32": Mode("float32", 4, "float", False, 1e-3),
    "fp16": Mode("float16 weights", 2, "float", False, 1e-2),
    "dynamic_int8": Mode("int8 weights, activations quantized as they come", 1, "int8", False, 5e-2),
    "weight_int8": Mode("int8 weights, float32 arithmetic", 1, "int8", False, 1e-2),
    "weight_int4": Mode("int4 weights, int8 word pieces, float32 arithmetic", 0.5, "int8", False, 1e-2),
    "int8": Mode("int8 weights and activations, calibrated", 1, "int8", True, 1e-1),
    "int8_int16": Mode("int8 weights, int16 activations, calibrated", 1, "int8", True, 5e-2),
}

_LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
# What makes a mode, or the operator for which nothing does.
_TRANSFORMER = {
    "fp32": TF,
    "fp16": TF,
    "dynamic_int8": TF,
    "weight_int8": AEQ,
    "weight_int4": AEQ,
    "int8": AEQ,
    "int8_int16": AEQ,
}
SUPPORT = {
    "bert": _TRANSFORMER,
    "pruned_bert": _TRANSFORMER,
    "distilbert": _TRANSFORMER,
    "mobilebert": _TRANSFORMER,
    "bilstm": {
        "fp32": TF,
        "fp16": TF,
        "dynamic_int8": TF,
        "weight_int8": _LSTM,
        "weight_int4": _LSTM,
        "int8": TF,
        "int8_int16": _LSTM,
    },
}
# Tasks whose heads can be exported; masked-LM heads serve training.
TASKS = ("classification", "multilabel", "regression", "next_sentence", "token_classification", "question_answering")


def check_modes(modes: Sequence[str]) -> None:
    """Raises UserError for a quantization there is not."""
    for mode in modes:
        if mode not in MODES:
            near = difflib.get_close_matches(mode, MODES, n=1, cutoff=0.4)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise UserError(f"quantization '{mode}' is unknown; expected one of {', '.join(MODES)}{hint}")
    if isinstance(modes, str) or not modes:
        raise UserError(f"modes is {modes!r}; expected a list of {', '.join(MODES)}")


def tool_for(family: str, mode: str) -> str:
    """What makes `mode` of a model of `family`. Raises UserError, with the operator, when nothing does."""
    tool = SUPPORT[family][mode]
    if tool in (TF, AEQ):
        return tool
    known = [name for name, made_by in SUPPORT[family].items() if made_by in (TF, AEQ)]
    raise UserError(
        f"{mode} is not supported for a {family} model: no quantizer takes the operator {tool} so; "
        f"expected one of {', '.join(known)}"
    )
