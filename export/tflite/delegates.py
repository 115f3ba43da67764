"""Which operators of a file the GPU, NNAPI and Core ML delegates take, by the conditions that the delegates themselves check.

Read from TensorFlow Lite's sources: gpu_compatibility.cc, nnapi_delegate.cc (with Android 11 or newer) and coreml_delegate.mm with its
builders. Only what distinguishes operators of our files is looked at; not tried on a device. A delegate that leaves operators in the
middle of the graph costs a way to the processor and back at each, so a small part that is left can undo the gain. Imports no
TensorFlow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from tfdistill.export.tflite.runtime import Operator, read_operators

_FLOATS = ("FLOAT32", "FLOAT16")


def delegates(content: bytes) -> dict[str, dict[str, Any]]:
    """For "gpu", "nnapi" and "core_ml": `takes` and `leaves`, how many operators of which kind.

    Raises UserError for a damaged file.
    """
    found = read_operators(content)
    said = {}
    for name, takes in (("gpu", _gpu), ("nnapi", _nnapi), ("core_ml", _core_ml)):
        taken = Counter(each.name for each in found if takes(each))
        left = Counter(each.name for each in found if not takes(each))
        said[name] = {"takes": dict(sorted(taken.items())), "leaves": dict(sorted(left.items()))}
    return said


def _always(_: Operator) -> bool:
    return True


def _by_kind(conditions: dict[str, Callable[[Operator], bool]]) -> Callable[[Operator], bool]:
    return lambda operator: operator.name in conditions and conditions[operator.name](operator)


def _reads(*types: str) -> Callable[[Operator], bool]:
    return lambda operator: operator.inputs[0].type in types


def _gives(*types: str) -> Callable[[Operator], bool]:
    return lambda operator: operator.outputs[0].type in types


def _up_to(version: int, *types: str) -> Callable[[Operator], bool]:
    """Version, and where they are named the types that it may read first."""
    return lambda operator: operator.version <= version and (not types or operator.inputs[0].type in types)


# --- GPU ------------------------------------------------------------------------------------------------------------


def _gpu_cast(operator: Operator) -> bool:
    numbers = ("FLOAT32", "INT32")
    before, after = operator.inputs[0].type, operator.outputs[0].type
    boolean = (before == "BOOL" and after in _FLOATS) or (before in _FLOATS and after == "BOOL")
    return boolean or (before in numbers and after in numbers)


def _gpu_gather(operator: Operator) -> bool:
    rows, ids = operator.inputs[:2]
    return rows.type != "INT32" and ids.type == "INT32" and len(ids.shape) == 1


_gpu = _by_kind(
    {
        **dict.fromkeys(("ADD", "BATCH_MATMUL", "CONCATENATION", "FULLY_CONNECTED", "GELU", "LOGISTIC"), _always),
        **dict.fromkeys(("MAXIMUM", "MUL", "QUANTIZE", "RELU", "RESHAPE", "RSQRT", "SOFTMAX"), _always),
        **dict.fromkeys(("SUB", "TANH", "TRANSPOSE"), _always),
        **dict.fromkeys(("MEAN", "SUM"), lambda operator: operator.inputs[1].constant),
        "CAST": _gpu_cast,
        "DEQUANTIZE": lambda operator: operator.inputs[0].type != "INT16",
        "GATHER": _gpu_gather,
        "PAD": lambda operator: operator.inputs[1].shape in ((3, 2), (4, 2)),
        "STRIDED_SLICE": lambda operator: len(operator.inputs[0].shape) in (3, 4),
    }
)

# --- NNAPI ----------------------------------------------------------------------------------------------------------

_BYTES = ("UINT8", "INT8")


def _nnapi_lstm(operator: Operator) -> bool:
    hybrid = operator.inputs[0].type == "FLOAT32" and operator.inputs[1].type in _BYTES
    return operator.version <= 2 and not hybrid


_nnapi = _by_kind(
    {
        "ADD": _up_to(2, *_FLOATS, *_BYTES, "INT32"),
        "CAST": lambda operator: all(
            each.type in ("FLOAT32", "INT32", *_BYTES) for each in (operator.inputs[0], operator.outputs[0])
        ),
        "CONCATENATION": _up_to(2, *_FLOATS, *_BYTES),
        "DEQUANTIZE": _up_to(2, *_BYTES),
        "FULLY_CONNECTED": lambda operator: operator.version <= 5 and operator.outputs[0].type != "INT16",
        "GATHER": lambda operator: (
            operator.version <= 2 and operator.inputs[1].type == "INT32" and operator.inputs[1].shape != ()
        ),
        "LOGISTIC": _up_to(2, *_FLOATS, *_BYTES),
        "MAXIMUM": _up_to(3, "FLOAT32", *_BYTES, "INT32"),
        "MEAN": _up_to(2, "FLOAT32", *_BYTES),
        "MUL": _up_to(2, *_FLOATS, *_BYTES, "INT32"),
        "PAD": _up_to(2, *_FLOATS, *_BYTES),
        "QUANTIZE": lambda operator: operator.version <= 2 and operator.outputs[0].type in _BYTES,
        "RELU": _up_to(2, *_FLOATS, *_BYTES),
        "RESHAPE": _up_to(1, *_FLOATS, *_BYTES),
        "RSQRT": _up_to(1, *_FLOATS),
        "SOFTMAX": lambda operator: operator.version <= 2 and operator.outputs[0].type in ("FLOAT32", *_BYTES),
        "STRIDED_SLICE": _up_to(2),
        "SUB": _up_to(3, *_FLOATS, *_BYTES, "INT32"),
        "SUM": _up_to(1, "FLOAT32"),
        "TANH": _up_to(2, *_FLOATS, *_BYTES),
        "TRANSPOSE": _up_to(2),
        "UNIDIRECTIONAL_SEQUENCE_LSTM": _nnapi_lstm,
    }
)

# --- Core ML --------------------------------------------------------------------------------------------------------


def _core_ml_dense(operator: Operator) -> bool:
    """A single row and float weights; version 6 is the one without a bias."""
    rows, weights = operator.inputs[:2]
    single = all(size == 1 for size in rows.shape[:-1])
    return operator.version <= 6 and rows.type == "FLOAT32" and weights.type in _FLOATS and single


def _core_ml_sum(operator: Operator) -> bool:
    """Shapes that broadcast among batches, heights with widths, and channels, seen as four axes."""
    first, second = ((1,) * (4 - len(each.shape)) + each.shape for each in operator.inputs[:2])
    scalar = any(each.constant and max(each.shape, default=1) == 1 for each in operator.inputs[:2])
    planes = first[1:3] == second[1:3] or (1, 1) in (first[1:3], second[1:3])
    channels = first[3] == second[3] or 1 in (first[3], second[3])
    return (
        operator.version == 1
        and _reads("FLOAT32")(operator)
        and (first[0] == second[0] or scalar)
        and planes
        and channels
    )


def _core_ml_mean(operator: Operator) -> bool:
    return operator.version == 1 and _reads("FLOAT32")(operator) and len(operator.inputs[0].shape) == 4


_core_ml = _by_kind(
    {
        **dict.fromkeys(("ADD", "MUL"), _core_ml_sum),
        **dict.fromkeys(("LOGISTIC", "RELU", "SOFTMAX", "TANH"), _up_to(1, "FLOAT32")),
        "FULLY_CONNECTED": _core_ml_dense,
        "MEAN": _core_ml_mean,
    }
)
