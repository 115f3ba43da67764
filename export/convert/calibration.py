"""Measure the ranges of a float .tflite file's activations for static quantization. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdistill.export.tflite.flatbuffer import packed, unpacked

# A score this far below the largest score of its row has no weight in the softmax: exp(-12) is 6e-6.
_DEPTH = 12.0
# gelu(-5) is -1.4e-6, and smaller inputs give values nearer to 0.
_GELU_LEAST = -5.0
# Static quantization prescribes the range of these outputs.
_FIXED = ("SOFTMAX", "TANH")
# These operators return the values that they read, so that input and output have one range.
_MOVES = ("RESHAPE", "TRANSPOSE")


def ranges(
    content: bytes,
    rows: Iterable[Mapping[str, np.ndarray]],
    operators: Collection[str],
    learned: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Measure the `min` and `max` of each float tensor that `operators` read or write, over all rows.

    AI Edge Quantizer's own calibration uses moving averages, which cut off values that few rows
    reach; in BERT these are the outlying channels. Two ranges are narrower than the measured
    values, without any loss: scores of padding are clipped where their softmax is 0 (the mask adds
    -100 or less, and int8 would spend most of its steps between that and the first score), and
    inputs of GELU where it is 0.

    If the file has several lengths, each signature is measured on the rows that fit into it (or on
    all rows, cut, if none fits). A tensor has the same range in all signatures, so that they share
    biases, whose scale depends on a product's input.

    Args:
        content: the file. Its signatures are the same graph for different lengths.
        rows: calibration data, int32 (1, longest length) by input, padded at the end.
        operators: builtin names such as "FULLY_CONNECTED".
        learned: the ranges of quantization-aware training (see `learned_ranges`), which replace
            measured ranges.

    Returns:
        Ranges by the tensor's name.
    """
    signatures, examples = _signatures(content), list(rows)
    by_signature = [
        _measured(each.content, fitting(examples, each.length), operators, learned or {}) for each in signatures
    ]
    merged: dict[str, dict[str, np.ndarray]] = {}
    # In each signature the same operator computes the same tensor.
    for names in zip(*(each.tensors for each in signatures), strict=True):
        same = [measured[name] for name, measured in zip(names, by_signature, strict=True) if name in measured]
        if same:
            least, most = min(float(each["min"].min()) for each in same), max(float(each["max"].max()) for each in same)
            for name, measured in zip(names, by_signature, strict=True):
                shape = measured[name]["min"].shape
                merged[name] = {"min": np.full(shape, least, np.float32), "max": np.full(shape, most, np.float32)}
    return merged


def fitting(rows: Sequence[Mapping[str, np.ndarray]], length: int) -> list[dict[str, np.ndarray]]:
    """Return the rows of at most `length` tokens, cut to that length; all rows if there are none."""
    fit = [row for row in rows if not row["padding_mask"][:, length:].any()]
    return [{name: values[:, :length] for name, values in row.items()} for row in fit or rows]


@dataclass(frozen=True)
class _Signature:
    """A file with one signature of another file; `tensors` are the names of computed tensors, by operator."""

    content: bytes
    length: int
    tensors: tuple[str, ...]


def _signatures(content: bytes) -> list[_Signature]:
    """Return a file for each signature, since an interpreter only shows the tensors of the first one."""
    signatures = []
    for number in range(len(unpacked(content).subgraphs)):
        model = unpacked(content)
        graph = model.subgraphs[number]
        model.subgraphs = [graph]
        model.signatureDefs = [each for each in model.signatureDefs if each.subgraphIndex == number]
        for each in model.signatureDefs:
            each.subgraphIndex = 0
        length = int(graph.tensors[graph.inputs[0]].shape[1])
        computed = [index for operator in graph.operators for index in operator.outputs]
        names = tuple(graph.tensors[index].name.decode() for index in computed)
        signatures.append(_Signature(packed(model), length, names))
    return signatures


def _measured(
    content: bytes,
    rows: Iterable[Mapping[str, np.ndarray]],
    operators: Collection[str],
    learned: Mapping[str, np.ndarray],
) -> dict[str, dict[str, np.ndarray]]:
    """Measure the ranges of a file with one signature; see `ranges`."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    # XNNPACK does not show its tensors.
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
    readers: dict[int, set[str]] = {}  # the operators that read each computed tensor; weights do not count
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
    tensor_names = {index: detail["name"] for index, detail in details.items()}
    of_tensors = _learned_by_tensor(all_operators, tensor_names, learned)
    measured = {}
    for index, pairs in seen.items():
        shape = (1,) * len(details[index]["shape"])
        least, most = of_tensors.get(index, (min(pairs)[0], max(most for _, most in pairs)))
        measured[tensor_names[index]] = {
            "min": np.full(shape, least, np.float32),
            "max": np.full(shape, most, np.float32),
        }
    return measured


def learned_ranges(tensors: Mapping[str, np.ndarray], factors: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Return the learned range (2,) of each place in a graph.

    Args:
        tensors: quantization.safetensors (see `activation_ranges` in
            `tfdistill.models.quantization_aware`).
        factors: the scale that the graph applies to each dense layer.
    """
    return {
        name: values * (factors.get(name.removesuffix(".gives"), 1.0) if name.endswith(".gives") else 1.0)
        for name, values in tensors.items()
        if not name.endswith(".share")
    }


def _learned_by_tensor(
    operators: list[dict[str, Any]], names: Mapping[int, str], learned: Mapping[str, np.ndarray]
) -> dict[int, tuple[float, float]]:
    """Return the least and largest value of tensors by index, if `learned` has them.

    Tensors are named after their layers (see `tfdistill.export.convert.graph_parts`). A tensor that
    several layers read gets the union of their ranges. The output of a dense layer that was not
    rounded in training keeps its measured range.
    """
    by_tensor: dict[int, tuple[float, float]] = {}
    fixed = {index for operator in operators if operator["op_name"] in _FIXED for index in operator["outputs"]}
    for operator in operators:
        if operator["op_name"] == "FULLY_CONNECTED" and f"{_scope(names[operator['inputs'][1]])}.gives" not in learned:
            fixed.update(operator["outputs"])

    def widen(index: int, key: str) -> None:
        if key in learned and index not in fixed:
            least, most = map(float, learned[key])
            before = by_tensor.get(index, (least, most))
            by_tensor[index] = min(least, before[0]), max(most, before[1])

    for operator in operators:
        inputs, outputs, kind = operator["inputs"], operator["outputs"], operator["op_name"]
        if kind == "FULLY_CONNECTED":
            layer = _scope(names[inputs[1]])
            widen(inputs[0], f"{layer}.reads")
            widen(outputs[0], f"{layer}.gives")
        elif kind in ("BATCH_MATMUL", "ADD"):
            widen(outputs[0], _scope(names[outputs[0]]))
    moves = [(move["inputs"][0], move["outputs"][0]) for move in operators if move["op_name"] in _MOVES]
    for before, after in (*moves, *((after, before) for before, after in reversed(moves))):
        if before in by_tensor and after not in by_tensor and after not in fixed:
            by_tensor[after] = by_tensor[before]
    return by_tensor


def _scope(name: str) -> str:
    return name.split(";")[0].rpartition("/")[0]
