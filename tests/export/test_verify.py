"""Test that bundles are verified without TensorFlow, damaged and hostile ones too."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from bundles import reseal

from tfdistill.errors import UserError
from tfdistill.export.verify import main, verify_bundle

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
NEEDED = {"ai-edge-litert", "numpy", "tokenizers"}


def run(bundle: Path, blocked: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the module as a command, in a process that cannot import `blocked`."""
    script = (
        f"import runpy, sys; sys.modules.update(dict.fromkeys({blocked!r})); sys.argv = ['verify', {str(bundle)!r}]\n"
        "runpy.run_module('tfdistill.export.verify', run_name='__main__')"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)


def test_checks(exported):
    assert [check.name for check in verify_bundle(exported[1])] == ["files", "operators", "golden vectors"]


def test_where_only_litert_and_tokenizers_are_installed(exported):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    required = {re.match(r"[a-z0-9-]+", line)[0] for line in project["dependencies"]}
    assert required >= NEEDED | {"tensorflow", "typer", "rich", "pydantic", "jinja2"}
    blocked = sorted(name.replace("-", "_") for name in required - NEEDED)
    blocked += ["tf_keras", "mediapipe", "ai_edge_quantizer", "click", "huggingface_hub", "transformers"]
    done = run(exported[1], blocked)
    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "ok  files",
        "ok  operators",
        "ok  golden vectors",
    ]


@pytest.mark.parametrize("blocked", ["tokenizers", "ai_edge_litert"])
def test_a_missing_library_is_named_in_one_line(exported, blocked):
    done = run(exported[1], [blocked])
    lines = [line for line in done.stderr.splitlines() if not line.startswith("INFO: Created TensorFlow Lite")]
    assert done.returncode == 2 and len(lines) == 1 and "pip install" in lines[0] and blocked in lines[0]


def test_a_damaged_bundle_is_one_line_and_exit_code_2(exported, bundle, capsys):
    (bundle / "labels.txt").write_text("maybe\n")
    assert main([str(exported[1]), str(bundle)]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 3 and captured.err.count("\n") == 1 and "labels.txt" in captured.err


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {
            "note": "x",
            "zipped_bytes": "many",
            "quantization": "weight_int4",
            "task": "sums",
            "delegates": {"nnapi": {}},
        },
        {"operators": None, "label_names": None, "model_card": None, "judged": "yes"},
    ],
)
def test_bundles_of_other_versions_pass_if_they_are_intact(bundle, change):
    reseal(bundle, lambda manifest: manifest.update(change))
    verify_bundle(bundle)
    reseal(bundle, lambda manifest: [manifest.pop(key) for key in manifest.keys() - {"version", "files", "seal"}])
    verify_bundle(bundle)


@pytest.mark.parametrize("size", [0, 4, 9, 1000])
def test_a_resealed_file_that_is_not_a_model(bundle, size):
    content = (bundle / "model.tflite").read_bytes()
    for damaged in (b"x" * size, content[:size]):
        (bundle / "model.tflite").write_bytes(damaged)
        reseal(bundle)
        with pytest.raises(UserError, match=r"model\.tflite"):
            verify_bundle(bundle)


def test_a_file_that_takes_text_is_checked_for_its_operators(bundle):
    """It may need TensorFlow Text's operators, and must be a model."""
    shutil.copy(bundle / "model.tflite", bundle / "model-text.tflite")
    reseal(
        bundle,
        lambda manifest: manifest["files"].update({"model-text.tflite": dict(manifest["files"]["model.tflite"])}),
    )
    assert [check.name for check in verify_bundle(bundle)] == ["files", "operators", "operators", "golden vectors"]
    (bundle / "model-text.tflite").write_bytes(b"x" * 100)
    reseal(bundle)
    with pytest.raises(UserError, match=r"model-text\.tflite"):
        verify_bundle(bundle)
