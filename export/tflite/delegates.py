"""Which operators of a file the GPU and Core ML delegates would accept.

The conditions are copied from TensorFlow Lite's sources: gpu_compatibility.cc, and
coreml_delegate.mm with its builders. Only those that distinguish operators of our files are here.
They were not tried on a device, so treat the result as information: a delegate that leaves
operators in the middle of the graph pays a transfer to the processor and back for each of them, so
that a few operators can undo the gain. Imports no TensorFlow.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from tfdistill.export.tflite.operators import Operator, read_operators

Condition = Callable[[Operator], bool]

_FLOATS = ("FLOAT32", "FLOAT16")


def delegates(content: bytes) -> dict[str, dict[str, dict[str, int]]]:
    """Count the operators that each delegate takes and leaves.

    Args:
        content: a .tflite file.

    Returns:
        For each name in `ACCEPTS`: `takes` and `leaves`, the number of operators by kind.

    Raises:
        UserError: the file is damaged.
    """
    operators = read_operators(content)
    counts = {}
    for delegate, accepts in ACCEPTS.items():
        taken = Counter(operator.name for operator in operators if accepts(operator))
        left = Counter(operator.name for operator in operators if not accepts(operator))
        counts[delegate] = {"takes": dict(sorted(taken.items())), "leaves": dict(sorted(left.items()))}
    return counts


def _always(_: Operator) -> bool:
    return True


def _by_kind(conditions: dict[str, Condition]) -> Condition:
    return lambda operator: operator.name in conditions and conditions[operator.name](operator)


# --- GPU ------------------------------------------------------------------------------------------------------------


def _gpu_cast(operator: Operator) -> bool:
    numbers = ("FLOAT32", "INT32")
    before, after = operator.inputs[0].type, operator.outputs[0].type
    boolean = (before == "BOOL" and after in _FLOATS) or (before in _FLOATS and after == "BOOL")
    return boolean or (before in numbers and after in numbers)


def _gpu_gather(operator: Operator) -> bool:
    table, ids = operator.inputs[:2]
    return table.type != "INT32" and ids.type == "INT32" and len(ids.shape) == 1


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

# --- Core ML --------------------------------------------------------------------------------------------------------


def _core_ml_first_version(operator: Operator) -> bool:
    return operator.version == 1 and operator.inputs[0].type == "FLOAT32"


def _core_ml_dense(operator: Operator) -> bool:
    """Accept a single row with float weights. Version 6 is the one without a bias."""
    rows, weights = operator.inputs[:2]
    single = all(size == 1 for size in rows.shape[:-1])
    return operator.version <= 6 and rows.type == "FLOAT32" and weights.type in _FLOATS and single


def _core_ml_sum(operator: Operator) -> bool:
    """Accept shapes, seen as four axes, that broadcast over batches, planes (height and width) and channels."""
    first, second = ((1,) * (4 - len(each.shape)) + each.shape for each in operator.inputs[:2])
    scalar = any(each.constant and max(each.shape, default=1) == 1 for each in operator.inputs[:2])
    batches = first[0] == second[0] or scalar
    planes = first[1:3] == second[1:3] or (1, 1) in (first[1:3], second[1:3])
    channels = first[3] == second[3] or 1 in (first[3], second[3])
    return _core_ml_first_version(operator) and batches and planes and channels


def _core_ml_mean(operator: Operator) -> bool:
    return _core_ml_first_version(operator) and len(operator.inputs[0].shape) == 4


_core_ml = _by_kind(
    {
        **dict.fromkeys(("ADD", "MUL"), _core_ml_sum),
        **dict.fromkeys(("LOGISTIC", "RELU", "SOFTMAX", "TANH"), _core_ml_first_version),
        "FULLY_CONNECTED": _core_ml_dense,
        "MEAN": _core_ml_mean,
    }
)

ACCEPTS: dict[str, Condition] = {"gpu": _gpu, "core_ml": _core_ml}
