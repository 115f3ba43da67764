"""Ranges of a float .tflite file's activations, for static quantization. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

# What lies so far below the largest score of a row has no weight in its softmax: exp(-12) is 6e-6.
_DEPTH = 12.0
# gelu(-5) is -1.4e-6, and all below is nearer to 0.
_GELU_LEAST = -5.0


def ranges(
    content: bytes, rows: Iterable[Mapping[str, np.ndarray]], operators: Collection[str]
) -> dict[str, dict[str, np.ndarray]]:
    """`min` and `max` of each float tensor that `operators` read or give, by its name, over all rows.

    AI Edge Quantizer's own calibration takes moving averages, which cut off what few rows reach; in BERT, that is where
    outlying channels are. Two ranges are narrower than what was seen, where nothing is lost by it: scores of padding are
    clipped to where softmax makes nothing of them (the mask adds -100 or less, and int8 would spend most of its steps between
    that and the first score), and inputs of GELU to where it is 0.

    Args:
        content: the file.
        rows: calibration data, int32 (1, length) by input.
        operators: builtin names such as "FULLY_CONNECTED".
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # Without XNNPACK, which keeps its tensors to itself.
    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=plain,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    all_operators = interpreter._get_ops_details()
    computed = {index for operator in all_operators for index in operator["outputs"]}
    readers: dict[int, set[str]] = {}  # of each tensor that counts; weights do not
    for operator in all_operators:
        if operator["op_name"] in operators:
            for index in computed.intersection((*operator["inputs"], *operator["outputs"])):
                if details[index]["dtype"] is np.float32:
                    readers.setdefault(index, set())
            for index in readers.keys() & set(operator["inputs"]):
                readers[index].add(operator["op_name"])
    seen: dict[int, list[tuple[float, float]]] = {index: [] for index in readers}
    for row in rows:
        runner(**row)
        for index, names in readers.items():
            values = interpreter.get_tensor(index)
            least, most = float(values.min()), float(values.max())
            if "SOFTMAX" in names:
                least = max(least, float(values.max(axis=-1).min()) - _DEPTH)
            if "GELU" in names:
                least = max(least, min(_GELU_LEAST, most))
            seen[index].append((least, most))
    made = {}
    for index, pairs in seen.items():
        shape, (least, most) = (1,) * len(details[index]["shape"]), (min(pairs)[0], max(most for _, most in pairs))
        made[details[index]["name"]] = {
            "min": np.full(shape, least, np.float32),
            "max": np.full(shape, most, np.float32),
        }
    return made
