"""Ranges of a float .tflite file's activations, for static quantization. Imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdistill.export.tflite.flatbuffer import packed, unpacked

# What lies so far below the largest score of a row has no weight in its softmax: exp(-12) is 6e-6.
_DEPTH = 12.0
# gelu(-5) is -1.4e-6, and all below is nearer to 0.
_GELU_LEAST = -5.0


# Static quantization gives these outputs a range of their own.
_FIXED = ("SOFTMAX", "TANH")
# These give the values they read, with one range for both.
_MOVES = ("RESHAPE", "TRANSPOSE")


def ranges(
    content: bytes,
    rows: Iterable[Mapping[str, np.ndarray]],
    operators: Collection[str],
    learned: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """`min` and `max` of each float tensor that `operators` read or give, by its name, over all rows.

    AI Edge Quantizer's own calibration takes moving averages, which cut off what few rows reach; in BERT, that is where
    outlying channels are. Two ranges are narrower than what was seen, where nothing is lost by it: scores of padding are
    clipped to where softmax makes nothing of them (the mask adds -100 or less, and int8 would spend most of its steps between
    that and the first score), and inputs of GELU to where it is 0.

    Of a file with several lengths each signature is measured on the rows that fit into it (on all of them, cut, where none does),
    and the same tensor has one range in all: so they share biases, too, whose scale is that of a product's input.

    Args:
        content: the file. Its signatures are the same graph for different lengths.
        rows: calibration data, int32 (1, longest length) by input, padded at the end.
        operators: builtin names such as "FULLY_CONNECTED".
        learned: the ranges of quantization-aware training, as `learned_ranges` gives them; they take the place of those seen.
    """
    every, given = _signatures(content), list(rows)
    found = [_measured(each.content, fitting(given, each.length), operators, learned or {}) for each in every]
    merged: dict[str, dict[str, np.ndarray]] = {}
    # The same tensor comes of the same operator in each.
    for names in zip(*(each.tensors for each in every), strict=True):
        same = [measured[name] for name, measured in zip(names, found, strict=True) if name in measured]
        if same:
            least, most = min(float(each["min"].min()) for each in same), max(float(each["max"].max()) for each in same)
            for name, measured in zip(names, found, strict=True):
                shape = measured[name]["min"].shape
                merged[name] = {"min": np.full(shape, least, np.float32), "max": np.full(shape, most, np.float32)}
    return merged


def fitting(rows: Sequence[Mapping[str, np.ndarray]], length: int) -> list[dict[str, np.ndarray]]:
    """The rows that have no token behind `length`, cut to it; all of them if there is none."""
    fit = [row for row in rows if not row["padding_mask"][:, length:].any()]
    return [{name: values[:, :length] for name, values in row.items()} for row in fit or rows]


@dataclass(frozen=True)
class _Signature:
    """A file with one of a file's signatures. tensors: names of what is computed, in the order of the operators."""

    content: bytes
    length: int
    tensors: tuple[str, ...]


def _signatures(content: bytes) -> list[_Signature]:
    """A file for each signature, since an interpreter shows the tensors of the first one only."""
    made = []
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
        made.append(_Signature(packed(model), length, names))
    return made


def _measured(
    content: bytes,
    rows: Iterable[Mapping[str, np.ndarray]],
    operators: Collection[str],
    learned: Mapping[str, np.ndarray],
) -> dict[str, dict[str, np.ndarray]]:
    """`ranges` of a file with one signature."""
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
    called = {index: detail["name"] for index, detail in details.items()}
    of_tensors = _of_tensors(all_operators, called, learned)
    made = {}
    for index, pairs in seen.items():
        shape = (1,) * len(details[index]["shape"])
        least, most = of_tensors.get(index, (min(pairs)[0], max(most for _, most in pairs)))
        made[details[index]["name"]] = {
            "min": np.full(shape, least, np.float32),
            "max": np.full(shape, most, np.float32),
        }
    return made


def learned_ranges(tensors: Mapping[str, np.ndarray], factors: Mapping[str, float]) -> dict[str, np.ndarray]:
    """(2,) for each place in a graph.

    Args:
        tensors: of quantization.safetensors, what `tfdistill.models.quantization_aware` calls `activation_ranges`.
        factors: by which the graph scales what a dense layer gives.
    """
    return {
        name: values * (factors.get(name.removesuffix(".gives"), 1.0) if name.endswith(".gives") else 1.0)
        for name, values in tensors.items()
        if not name.endswith(".share")
    }


def _of_tensors(
    operators: list[dict[str, Any]], names: Mapping[int, str], learned: Mapping[str, np.ndarray]
) -> dict[int, tuple[float, float]]:
    """Least and largest value of tensors by index, where `learned` says it.

    Tensors are named after their layers (`tfdistill.export.convert.graph_parts`). One that several layers read gets what
    holds all of their ranges. What comes from a dense layer whose result was not rounded in training keeps to the data.
    """
    found: dict[int, tuple[float, float]] = {}
    fixed = {index for operator in operators if operator["op_name"] in _FIXED for index in operator["outputs"]}
    for operator in operators:
        if operator["op_name"] == "FULLY_CONNECTED" and f"{_scope(names[operator['inputs'][1]])}.gives" not in learned:
            fixed.update(operator["outputs"])

    def take(index: int, key: str) -> None:
        if key in learned and index not in fixed:
            least, most = map(float, learned[key])
            have = found.get(index, (least, most))
            found[index] = min(least, have[0]), max(most, have[1])

    for operator in operators:
        inputs, outputs, kind = operator["inputs"], operator["outputs"], operator["op_name"]
        if kind == "FULLY_CONNECTED":
            layer = _scope(names[inputs[1]])
            take(inputs[0], f"{layer}.reads")
            take(outputs[0], f"{layer}.gives")
        elif kind in ("BATCH_MATMUL", "ADD"):
            take(outputs[0], _scope(names[outputs[0]]))
    moves = [(move["inputs"][0], move["outputs"][0]) for move in operators if move["op_name"] in _MOVES]
    for before, after in (*moves, *((after, before) for before, after in reversed(moves))):
        if before in found and after not in found and after not in fixed:
            found[after] = found[before]
    return found


def _scope(name: str) -> str:
    return name.split(";")[0].rpartition("/")[0]
