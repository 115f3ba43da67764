"""Test which operators the GPU and Core ML delegates accept, by the conditions in their sources."""

from __future__ import annotations

import pytest
from helpers import tiny_bert, tiny_bilstm

from tfdistill.export.convert.convert import convert_model
from tfdistill.export.tflite.delegates import ACCEPTS, delegates
from tfdistill.export.tflite.operators import Operator, Tensor, operators, read_operators


def of(name: str, *inputs: tuple[str, tuple[int, ...]], gives: str = "FLOAT32", version: int = 1) -> Operator:
    return Operator(
        name, version, tuple(Tensor(kind, shape, False) for kind, shape in inputs), (Tensor(gives, (1, 8), False),)
    )


ROW, ROWS, IDS = ("FLOAT32", (1, 8)), ("FLOAT32", (4, 8)), ("INT32", (4,))


@pytest.mark.parametrize(
    ("operator", "accepted"),
    [
        (of("FULLY_CONNECTED", ROW, ROWS), {"gpu", "core_ml"}),
        (of("FULLY_CONNECTED", ROWS, ROWS), {"gpu"}),  # Core ML multiplies single rows
        (of("FULLY_CONNECTED", ROW, ("INT8", (8, 8)), version=9), {"gpu"}),
        (of("BATCH_MATMUL", ROWS, ROWS), {"gpu"}),
        (of("GELU", ROWS), {"gpu"}),
        (of("SOFTMAX", ROWS), {"gpu", "core_ml"}),
        (of("SOFTMAX", ("INT8", (4, 8)), gives="INT8", version=2), {"gpu"}),
        (of("TANH", ROW), {"gpu", "core_ml"}),
        (of("GATHER", ROWS, IDS), {"gpu"}),
        (of("GATHER", ("INT32", (9, 1)), IDS, gives="INT32"), set()),
        (of("CAST", IDS), {"gpu"}),
        (of("CAST", ("INT8", (4, 8))), set()),
        (of("STRIDED_SLICE", ROWS), set()),
        (of("STRIDED_SLICE", ("FLOAT32", (1, 4, 8))), {"gpu"}),
        (of("PAD", ROWS, ("INT32", (2, 2))), set()),
        (of("DEQUANTIZE", ("INT16", (4, 8)), version=3), set()),
        (of("ADD", ROWS, ROWS), {"gpu", "core_ml"}),
        (of("ADD", ROWS, ("FLOAT32", (4, 1))), {"gpu", "core_ml"}),
        (of("ADD", ("INT8", (4, 8)), ("INT8", (4, 8)), gives="INT8", version=2), {"gpu"}),
        (of("MUL", ("FLOAT32", (2, 4, 8, 3)), ("FLOAT32", (1, 4, 8, 3))), {"gpu"}),
        (of("REVERSE_SEQUENCE", ROWS, IDS), set()),
        (of("UNIDIRECTIONAL_SEQUENCE_LSTM", ROWS, ROWS), set()),
        (of("custom:Mine", ROWS), set()),
    ],
    ids=lambda value: value.name if isinstance(value, Operator) else "",
)
def test_conditions(operator, accepted):
    assert {name for name, accepts in ACCEPTS.items() if accepts(operator)} == accepted


@pytest.mark.heavy
@pytest.mark.parametrize(
    "model", [pytest.param(tiny_bert, marks=pytest.mark.slow), tiny_bilstm], ids=["bert", "bilstm"]
)
def test_every_operator_of_a_file_is_taken_or_left(model, tmp_path):
    content = convert_model(model(), tmp_path, name="tiny", length=8, modes=["fp32"])["fp32"].path.read_bytes()
    counts = delegates(content)
    assert set(counts) == {"gpu", "core_ml"}
    for each in counts.values():
        together = {name: each["takes"].get(name, 0) + each["leaves"].get(name, 0) for name in operators(content)}
        assert together == operators(content)
    dense = [each for each in read_operators(content) if each.name == "FULLY_CONNECTED"]
    assert all(each.inputs[1].constant and not each.inputs[0].constant for each in dense)
    assert ("UNIDIRECTIONAL_SEQUENCE_LSTM" in counts["gpu"]["leaves"]) == (model is tiny_bilstm)
