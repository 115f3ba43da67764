"""Read a .tflite file and list its operators, without running it. Imports no TensorFlow."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tfdistill.errors import UserError

# A file that takes text, and what it needs besides built-in operators: TensorFlow Text's tokenizer.
TEXT_MODEL = "model-text.tflite"
TEXT_OPERATORS = ("custom:FastBertNormalize", "custom:FastWordpieceTokenizeWithOffsets")


def read_file(path: str | os.PathLike) -> bytes:
    """Read a .tflite file.

    Raises:
        UserError: the file is missing, or does not begin like a .tflite file.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; expected a .tflite file") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected a .tflite file") from error
    if content[4:8] != b"TFL3":
        raise UserError(f"{path} is not a .tflite file, or damaged ({len(content)} bytes); export it again")
    return content


class Tensor(NamedTuple):
    """The type of a tensor ("FLOAT32", "INT8" and so on), its shape, and whether the file holds its values."""

    type: str
    shape: tuple[int, ...]
    constant: bool


class Operator(NamedTuple):
    """An operator: builtin name or "custom:NAME", version, inputs (without omitted optional ones) and outputs."""

    name: str
    version: int
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def read_operators(content: bytes, name: str = "the file") -> list[Operator]:
    """List the operators of all subgraphs.

    Args:
        content: a .tflite file.
        name: its name, for the error message.

    Raises:
        UserError: the flatbuffer is damaged.
    """
    from ai_edge_litert import schema_py_generated as schema

    def by_code(kind: type) -> dict[int, str]:
        return {code: key for key, code in vars(kind).items() if not key.startswith("_")}

    names, types = by_code(schema.BuiltinOperator), by_code(schema.TensorType)
    listed: list[Operator] = []
    try:
        model = schema.Model.GetRootAs(content, 0)
        codes = [model.OperatorCodes(n) for n in range(model.OperatorCodesLength())]
        for subgraph in (model.Subgraphs(n) for n in range(model.SubgraphsLength())):
            tensors = []
            for each in (subgraph.Tensors(n) for n in range(subgraph.TensorsLength())):
                shape = tuple(each.Shape(n) for n in range(each.ShapeLength()))
                buffer = model.Buffers(each.Buffer())
                tensors.append(Tensor(types[each.Type()], shape, buffer.DataLength() > 0 or buffer.Offset() > 1))
            for each in (subgraph.Operators(n) for n in range(subgraph.OperatorsLength())):
                code = codes[each.OpcodeIndex()]
                builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
                custom = builtin == schema.BuiltinOperator.CUSTOM
                kind = f"custom:{code.CustomCode().decode()}" if custom else names[builtin]
                inputs = [tensors[each.Inputs(n)] for n in range(each.InputsLength()) if each.Inputs(n) >= 0]
                outputs = [tensors[each.Outputs(n)] for n in range(each.OutputsLength())]
                listed.append(Operator(kind, code.Version(), tuple(inputs), tuple(outputs)))
    except Exception as error:  # a damaged flatbuffer fails in many ways
        raise UserError(f"{name} is damaged ({type(error).__name__}: {error}); export it again") from error
    return listed


def operators(content: bytes, name: str = "the file") -> dict[str, int]:
    """Count the operators of all subgraphs by name; see `read_operators`."""
    return dict(sorted(Counter(each.name for each in read_operators(content, name)).items()))


def check_operators(counts: dict[str, int], name: str = "the file") -> None:
    """Raise UserError for operators that a plain interpreter does not have."""
    if counts.keys() & set(TEXT_OPERATORS):
        raise UserError(
            f"{name} needs TensorFlow Text's operators, which a plain interpreter does not have; use the model.tflite next to it"
        )
    custom = [key.removeprefix("custom:") for key in counts if key.startswith("custom:")]
    if custom:
        raise UserError(
            f"{name} needs the operators {', '.join(custom)}, which a plain interpreter does not have; export it again"
        )
