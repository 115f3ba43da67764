"""Test what is in a bundle, and that a file that is not good enough does not become one."""

from __future__ import annotations

import json
import platform
import shutil
from importlib import metadata
from zipfile import ZipFile

import numpy as np
import pytest
from bundles import PIECES, measured, read, reseal

from tfdistill.commands.compare import rows_of as side_by_side
from tfdistill.data.splits import Split
from tfdistill.export.bundle.bundle import BundleData, export_bundle, judge
from tfdistill.export.bundle.golden import golden_vectors
from tfdistill.export.bundle.request import ExportRequest
from tfdistill.export.tflite.accuracy_gate import AccuracyDropped
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.export.verify import verify_bundle
from tfdistill.text.tokenizer import Tokenizer

pytestmark = pytest.mark.heavy

FILES = [
    "README.md",
    "golden.json",
    "labels.txt",
    "manifest.json",
    "model.tflite",
    "recipe.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
]


def test_files(exported):
    _, out = exported
    assert sorted(path.name for path in out.iterdir()) == FILES
    assert (out / "labels.txt").read_text() == "no\nyes\n" and read(out / "recipe.json") == {"name": "r"}
    assert Tokenizer.from_directory(out).vocabulary == tuple(PIECES)
    with ZipFile(out / "model.tflite") as within:
        assert {name: within.read(name) for name in within.namelist()} == {
            name: (out / name).read_bytes() for name in ("vocab.txt", "labels.txt")
        }


def test_manifest(exported):
    manifest = read(exported[1] / "manifest.json")
    assert sorted(manifest["files"]) == [name for name in FILES if name != "manifest.json"]
    expected = {
        "version": 4,
        "family": "bert",
        "task": "classification",
        "label_names": ["no", "yes"],
        "quantization": "dynamic_int8",
        "quantizer": "tensorflow",
        "length": 10,
        "lengths": [10],
        "max_length": 16,
        "output": "logits",
        "mediapipe": False,
        "text_in": None,
        "latency": None,
        "judged": False,
        "max_drop": None,
        "test": None,
    }
    assert {key: manifest[key] for key in expected} == expected
    assert manifest["parity"]["rows"] == 3 and manifest["parity"]["max_abs_difference"] < 0.1
    assert manifest["parity_random"]["rows"] == 6 and 0 < manifest["parity_random"]["max_abs_difference"] < 0.1
    assert manifest["operators"]["FULLY_CONNECTED"] > 0 and set(manifest["delegates"]) == {"gpu", "core_ml"}
    assert 0 < manifest["zipped_bytes"] < manifest["files"]["model.tflite"]["bytes"]
    versions = manifest["versions"]
    assert list(versions) == ["python", "tfdistill", "tensorflow", "keras", "ai-edge-litert"]
    assert versions["python"] == platform.python_version() and versions["keras"] == metadata.version("keras")


def test_golden_vectors(exported):
    vectors = read(exported[1] / "golden.json")["vectors"]
    assert len(vectors) == len({vector["text"] for vector in vectors}) == 100
    empty = vectors[2]
    assert (empty["text"], empty["token_ids"], empty["segment_ids"]) == ("", [2, 3], [0, 0])
    for vector in vectors:
        odds = np.exp(vector["logits"][1] - vector["logits"][0])
        assert vector["probabilities"] == pytest.approx([1 / (1 + odds), odds / (1 + odds)], abs=1e-5)
    assert max(len(vector["token_ids"]) for vector in vectors) == 10


def test_readme(exported):
    text = (exported[1] / "README.md").read_text("utf-8")
    for part in ("int32 [1, 10]", "float32 [1, 2]", "`no`, `yes`", "Kotlin", "Swift", "JavaScript", "lower-case"):
        assert part in text


def test_compare_reads_its_score(exported):
    manifest = read(exported[1] / "manifest.json")
    (row,) = side_by_side([exported[1]], split="dev")
    assert (row.kind, row.split, row.metric, row.score) == ("bundle", "dev", "accuracy", manifest["parity"]["accuracy"])
    assert row.bytes == manifest["files"]["model.tflite"]["bytes"] and row.latency_ms is None


def test_a_bundle_is_replaced_as_a_whole(exported, tmp_path):
    model, bundle = exported
    shutil.copytree(bundle, tmp_path / "old")
    (tmp_path / "old.report.json").write_text("{}")  # of an earlier refusal
    out = export_bundle(model, tmp_path / "old", length=10, quantize="weight_int8")
    manifest = read(out / "manifest.json")
    assert manifest["quantization"] == "weight_int8" and "recipe.json" not in manifest["files"]
    assert manifest["versions"]["ai-edge-quantizer"] == metadata.version("ai-edge-quantizer")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    verify_bundle(out)


@pytest.fixture(scope="module")
def file(exported):
    return TFLiteModel(exported[1] / "model.tflite")


def test_a_file_that_loses_too_much_does_not_become_a_bundle(exported, tmp_path):
    """The labels and logits say that Keras is right about all texts. The file cannot be: each text has both classes."""
    model, _ = exported
    rows, _, scores = measured(model, ["a film", "good", "a film", "good"], [0, 0, 1, 1])
    data = BundleData(dev=(rows, np.eye(2)[[0, 0, 1, 1]], scores))
    with pytest.raises(AccuracyDropped, match=r"50\.0 points") as caught:
        export_bundle(model, tmp_path / "b", data, length=10, max_drop=1.0)
    assert [path.name for path in tmp_path.iterdir()] == [caught.value.report.name] == ["b.report.json"]
    report = read(tmp_path / "b.report.json")
    assert report["parity"]["drop"] == 50.0 and report["max_drop"] == 1.0 and report["quantization"] == "dynamic_int8"


@pytest.mark.parametrize(("max_drop", "judged"), [(50.0, True), (None, False)])
def test_a_loss_that_is_allowed(exported, file, tmp_path, max_drop, judged):
    model, _ = exported
    rows, _, scores = measured(model, ["a film", "good", "a film", "good"], [0, 0, 1, 1])
    data = BundleData(dev=(rows, np.eye(2)[[0, 0, 1, 1]], scores), test=(rows, np.eye(2)[[0, 0, 1, 1]], scores))
    entries = judge(ExportRequest.of(model, tmp_path / "b", length=10, max_drop=max_drop), file, data)
    assert entries["judged"] is judged and entries["max_drop"] == max_drop
    assert entries["parity"] == entries["test"] and entries["parity"]["drop"] == 50.0


@pytest.mark.parametrize(("max_drop", "score_of_file"), [(1.0, float("nan")), (None, float("inf"))])
def test_a_score_that_is_not_finite(exported, file, tmp_path, max_drop, score_of_file):
    model, scores = exported[0], iter([1.0, score_of_file])
    rows = model.tokenizer.encode(["a film", "good"], max_length=10)
    data = BundleData(dev=(rows, np.eye(2), lambda _: {"sum": next(scores)}))
    with pytest.raises(AccuracyDropped, match="sum on dev"):
        judge(ExportRequest.of(model, tmp_path / "b", length=10, max_drop=max_drop), file, data)
    assert [path.name for path in tmp_path.iterdir()] == ["b.report.json"]


def test_a_file_without_labels_is_not_judged(exported, file, tmp_path):
    model = exported[0]
    rows = model.tokenizer.encode(["a film", "good"], max_length=10)
    request = ExportRequest.of(model, tmp_path / "b", length=10, max_drop=1.0)
    entries = judge(request, file, BundleData(dev=(rows, np.eye(2), None)))
    assert entries["judged"] is False and entries["parity"]["rows"] == 2 and "drop" not in entries["parity"]


def test_texts_of_the_user(exported, file):
    data = Split([f"a film {n}" for n in range(230)])
    vectors = golden_vectors(exported[0], file, "dynamic_int8", data)["vectors"]
    texts = [vector["text"] for vector in vectors]
    assert len(texts) == 300 and texts[100] == "a film 0" and texts[-1] == "a film 199"


def test_pairs_of_the_user(exported, file, bundle):
    """A model of single texts may get the user's pairs, and then all golden vectors have a second text."""
    golden = golden_vectors(exported[0], file, "dynamic_int8", Split(["a film", "good"], ["not good", "a"]))
    assert golden["vectors"][100]["text_b"] == "not good"
    assert golden["vectors"][100]["token_ids"] == [2, 5, 6, 3, 14, 7, 3]
    (bundle / "golden.json").write_text(json.dumps(golden))
    reseal(bundle)
    assert "102 texts" in verify_bundle(bundle)[-1].detail


class ManyClasses:
    """A file with 100,000 classes."""

    length, outputs = 16, 100_000

    def predict(self, rows, workers: int) -> np.ndarray:
        return np.full((len(rows), self.outputs), -12.345678, np.float32)


def test_golden_vectors_of_many_classes_are_few(exported):
    """`verify` reads files of at most 64 MiB."""
    data = Split(["\x01" * 1_000_000, "a film"])
    golden = golden_vectors(exported[0], ManyClasses(), "fp32", data)
    size = len(json.dumps(golden, indent=1))
    assert 5 <= len(golden["vectors"]) <= 20 and 8e6 < size < 64 * 2**20
    assert golden["left_out"] == 102 - len(golden["vectors"])
