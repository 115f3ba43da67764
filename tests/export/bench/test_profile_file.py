"""Profile whole files in LiteRT, and cut out the operators that its profiler refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tfdistill.errors import UserError
from tfdistill.export.bench.profile import profile_file
from tfdistill.export.bench.stateful import alone, has_state, without_state
from tfdistill.export.tflite.operators import operators
from tfdistill.export.tflite.runtime import TFLiteModel

pytestmark = pytest.mark.heavy


def test_profile(files):
    found = profile_file(files[0], runs=6, warmup=1)
    kinds = {(each["kind"].partition(" (")[0], each["runtime"]) for each in found["kinds"]}
    assert {("GATHER", "built-in"), ("Fully Connected", "delegate"), ("Softmax", "delegate")} <= kinds
    assert found["accounted_ms"] == pytest.approx(sum(each["ms"] for each in found["operators"]), abs=0.01)
    assert found["accounted_ms"] + found["remainder_ms"] == pytest.approx(found["total_ms"], abs=0.001)
    assert found["remainder_ms"] >= 0 and found["unprofiled_ms"] > 0 and found["partitions"] == 1
    assert (found["runs"], found["tokens"], found["length"], found["timed_alone"]) == (6, 8, 8, [])
    assert profile_file(files[0], runs=2, warmup=1, tokens=3)["tokens"] == 3


def test_profile_of_a_file_with_a_state(files):
    # LiteRT's CompiledModel has no variables, which a fused LSTM needs.
    content = files[1].read_bytes()
    assert has_state(content) and not has_state(files[0].read_bytes())
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in operators(content)
    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" not in operators(without_state(content))
    assert [operators(part) for _, part in alone(content, 8)] == [{"UNIDIRECTIONAL_SEQUENCE_LSTM": 1}] * 2
    found = profile_file(files[1], runs=3, warmup=1)
    assert found["timed_alone"] == ["UNIDIRECTIONAL_SEQUENCE_LSTM"] and found["tolerance"] == 0.1
    assert [each["kind"] for each in found["operators"][-2:]] == ["UNIDIRECTIONAL_SEQUENCE_LSTM"] * 2


def test_the_profiled_run_is_the_run_that_is_measured(files):
    code = (
        "import sys; from pathlib import Path; from tfdistill.export.bench.litert_profiler import Profiled\n"
        "file = Profiled(Path(sys.argv[1]), 1, 5); file.profiled_run(); print(*file.output())"
    )
    done = subprocess.run([sys.executable, "-c", code, files[0]], capture_output=True, text=True, check=True)
    expected = TFLiteModel(files[0]).row([0, 1, 2, 3, 0])
    assert [float(word) for word in done.stdout.split()] == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_cannot_be_profiled(files, tmp_path):
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes(files[0].read_bytes()[:5000])
    for path, tokens in ((damaged, None), (files[0], 99)):
        with pytest.raises(UserError, match=r"\.tflite.*--profile"):
            profile_file(path, tokens=tokens)
