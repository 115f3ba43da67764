"""What the delegates take, by the conditions in their sources."""

from __future__ import annotations

import pytest
from helpers import tiny_bert, tiny_bilstm

from tfdistill.export.convert.convert import convert_model
from tfdistill.export.tflite import delegates as module
from tfdistill.export.tflite.delegates import delegates
from tfdistill.export.tflite.runtime import Operator, Tensor, operators, read_operators


def of(name: str, *inputs: tuple[str, tuple[int, ...]], gives: str = "FLOAT32", version: int = 1) -> Operator:
    return Operator(
        name, version, tuple(Tensor(kind, shape, False) for kind, shape in inputs), (Tensor(gives, (1, 8), False),)
    )


ROW, ROWS, IDS = ("FLOAT32", (1, 8)), ("FLOAT32", (4, 8)), ("INT32", (4,))


@pytest.mark.parametrize(
    ("operator", "taken"),  # GPU, NNAPI, Core ML
    [
        (of("FULLY_CONNECTED", ROW, ROWS), (True, True, True)),
        (of("FULLY_CONNECTED", ROWS, ROWS), (True, True, False)),  # Core ML multiplies single rows
        (of("FULLY_CONNECTED", ROW, ("INT8", (8, 8)), version=9), (True, False, False)),
        (of("BATCH_MATMUL", ROWS, ROWS), (True, False, False)),
        (of("GELU", ROWS), (True, False, False)),
        (of("SOFTMAX", ROWS), (True, True, True)),
        (of("SOFTMAX", ("INT8", (4, 8)), gives="INT8", version=2), (True, True, False)),
        (of("TANH", ROW), (True, True, True)),
        (of("GATHER", ROWS, IDS), (True, True, False)),
        (of("GATHER", ("INT32", (9, 1)), IDS, gives="INT32"), (False, True, False)),
        (of("CAST", IDS), (True, True, False)),
        (of("CAST", ("INT8", (4, 8))), (False, True, False)),
        (of("STRIDED_SLICE", ROWS), (False, True, False)),
        (of("STRIDED_SLICE", ("FLOAT32", (1, 4, 8))), (True, True, False)),
        (of("PAD", ROWS, ("INT32", (2, 2))), (False, True, False)),
        (of("DEQUANTIZE", ("INT16", (4, 8)), version=3), (False, False, False)),
        (of("ADD", ROWS, ROWS), (True, True, True)),
        (of("ADD", ROWS, ("FLOAT32", (4, 1))), (True, True, True)),
        (of("ADD", ("INT8", (4, 8)), ("INT8", (4, 8)), gives="INT8", version=2), (True, True, False)),
        (of("MUL", ("FLOAT32", (2, 4, 8, 3)), ("FLOAT32", (1, 4, 8, 3))), (True, True, False)),
        (of("REVERSE_SEQUENCE", ROWS, IDS), (False, False, False)),
        (of("UNIDIRECTIONAL_SEQUENCE_LSTM", ROWS, ROWS), (False, True, False)),
        (of("UNIDIRECTIONAL_SEQUENCE_LSTM", ROWS, ("INT8", (4, 8))), (False, False, False)),
        (of("custom:Mine", ROWS), (False, False, False)),
    ],
    ids=lambda value: value.name if isinstance(value, Operator) else "",
)
def test_conditions(operator, taken):
    assert (module._gpu(operator), module._nnapi(operator), module._core_ml(operator)) == taken


@pytest.mark.parametrize(
    "model", [pytest.param(tiny_bert, marks=pytest.mark.slow), tiny_bilstm], ids=["bert", "bilstm"]
)
def test_every_operator_of_a_file_is_taken_or_left(model, tmp_path):
    content = convert_model(model(), tmp_path, name="tiny", length=8, modes=["fp32"])["fp32"].path.read_bytes()
    found = delegates(content)
    assert list(found) == ["gpu", "nnapi", "core_ml"]
    for said in found.values():
        together = {name: said["takes"].get(name, 0) + said["leaves"].get(name, 0) for name in operators(content)}
        assert together == operators(content)
    dense = [each for each in read_operators(content) if each.name == "FULLY_CONNECTED"]
    assert all(each.inputs[1].constant and not each.inputs[0].constant for each in dense)
    assert ("UNIDIRECTIONAL_SEQUENCE_LSTM" in found["gpu"]["leaves"]) == (model is tiny_bilstm)
