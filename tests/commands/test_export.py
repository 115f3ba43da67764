"""Test `tfdistill export` and `tfdistill verify`: what they write, print and refuse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bundles import read

from tfdistill.commands.export import quantization_advice
from tfdistill.models.hf import load_directory, save_directory

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Return a directory with a random model, `student`, and labelled texts, `data`."""
    root, rng = tmp_path_factory.mktemp("export"), np.random.default_rng(0)
    (root / "data").mkdir()
    for name in ("train", "dev", "test"):
        texts = [" ".join(rng.choice(list("abcdefgh"), rng.integers(1, 6))) for _ in range(20)]
        lines = [f"{text}\t{('pos', 'neg')[number % 2]}" for number, text in enumerate(texts)]
        (root / "data" / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n", "utf-8")
    model = load_directory(TINY, num_outputs=2, label_names=("neg", "pos"))
    model.head.kernel.assign(rng.normal(0, 1, model.head.kernel.shape))
    save_directory(model, root / "student")
    (root / "student" / "recipe.json").write_text(json.dumps({"recipe": "soft_targets", "max_length": 16}))
    return root


def words_of(work: Path, out: Path, *more: object) -> list[object]:
    return ["export", work / "student", "--quantize", "fp32", "--out", out, *more]


@pytest.mark.heavy
def test_export_with_data(work, tfdistill, tmp_path):
    out = tmp_path / "bundle"
    code, printed, err = tfdistill(
        *words_of(work, out, "--data", work / "data", "--card", "license=MIT", "--golden-from-data")
    )
    assert code == 0, err
    manifest = read(out / "manifest.json")
    assert manifest["length"] == 16  # the training length
    assert manifest["model_card"]["license"] == "MIT" and manifest["model_card"]["author"] == "not stated"
    assert manifest["judged"] is True and manifest["max_drop"] == 10.0 and manifest["parity"]["drop"] == 0.0
    assert manifest["parity"]["max_abs_difference"] < 1e-4 and manifest["parity"]["argmax_agreement"] == 1.0
    assert list(manifest["latency"]["by_tokens"]) == ["16"] and manifest["latency"]["runs"] == 50
    assert read(out / "recipe.json") == read(work / "student" / "recipe.json")
    vectors = read(out / "golden.json")["vectors"]
    dev = [line.split("\t")[0] for line in (work / "data" / "dev.tsv").read_text("utf-8").splitlines()[1:]]
    assert [vector["text"] for vector in vectors[100:]] == dev
    for part in (
        hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest(),
        f"{100 * manifest['test']['accuracy']:.1f} %",
        "100.0 %",
        f"tfdistill predict {out}",
    ):
        assert part in printed


@pytest.mark.heavy
def test_export_without_data_then_verify(work, tfdistill, tmp_path):
    code, printed, err = tfdistill(*words_of(work, tmp_path / "bundle", "--lengths", "8,16"))
    assert code == 0, err
    manifest = read(tmp_path / "bundle" / "manifest.json")
    assert manifest["judged"] is False and manifest["lengths"] == [8, 16] and "--data" in printed
    code, printed, err = tfdistill("verify", tmp_path / "bundle")
    assert code == 0 and printed.count("ok  ") == 3, err
    (tmp_path / "bundle" / "labels.txt").write_text("other\n")
    code, printed, err = tfdistill("verify", tmp_path / "bundle")
    assert code == 2 and "labels.txt" in err and err.count("\n") == 1


@pytest.mark.slow
def test_a_file_that_loses_too_much_is_exit_code_3(work, tfdistill, tmp_path):
    """fp32 loses nothing; -1 requires a file that is a point better than Keras."""
    code, _, err = tfdistill(*words_of(work, tmp_path / "bundle", "--data", work / "data", "--max-drop", "-1"))
    assert code == 3 and "--max-drop" in err and "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["bundle.report.json"]
    report = read(tmp_path / "bundle.report.json")
    assert report["max_drop"] == -1.0 and report["parity"]["drop"] == 0.0 and report["test"]["rows"] == 20


@pytest.mark.heavy
def test_export_is_refused_before_the_model_is_evaluated(work, tfdistill, tmp_path, monkeypatch):
    monkeypatch.setattr("tfdistill.models.predict.measure", None)
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "dev.tsv").write_bytes((work / "data" / "dev.tsv").read_bytes())
    for more, part in (
        (["--quantize", "int7", "--data", work / "data"], "int8"),
        (["--length", "400", "--data", work / "data"], "length"),
        (["--quantize", "int8", "--data", tmp_path / "some"], "train"),
        (["--quantize", "int8"], "--data"),
        (["--golden-from-data"], "--data"),
        (["--length", "8", "--lengths", "8"], "--lengths"),
        (["--lengths", "16,x"], "--lengths"),
        (["--card", "licence=x"], "license"),
        (["--card", "author"], "--card"),
        (["--out", tmp_path, "--data", work / "data"], str(tmp_path)),
    ):
        code, _, err = tfdistill(*words_of(work, tmp_path / "bundle", *more))
        assert code == 2 and part in err and err.count("\n") == 1, err
    assert [path.name for path in tmp_path.iterdir()] == ["some"]


@pytest.mark.parametrize(
    ("family", "quantization", "advised"),
    [("bert", "int8", True), ("bert", "dynamic_int8", False), ("bilstm", "int8", False)],
)
def test_static_int8_proposes_quantization_aware_training(family, quantization, advised):
    request = SimpleNamespace(model=SimpleNamespace(family=family), quantization=quantization)
    (line,) = quantization_advice(request, "RUN/student", "DATA") or ("",)
    command = "tfdistill train quantization_aware --teacher RUN/student --data DATA"
    assert (command in line) == advised
