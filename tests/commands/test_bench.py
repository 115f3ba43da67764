"""Test `tfdistill bench` on a bundle: what it measures, compares and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from bundles import read

from tfdistill.data.text_sources import load_data
from tfdistill.export.bundle.bundle import BundleData, export_bundle
from tfdistill.models.hf import load_directory, save_directory
from tfdistill.models.predict import measure

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


class Shipped(NamedTuple):
    """Labelled texts, a model and its bundle."""

    data: Path
    model: Path
    bundle: Path


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Shipped:
    root, rng = tmp_path_factory.mktemp("bench"), np.random.default_rng(0)
    (root / "data").mkdir()
    texts = [" ".join(rng.choice(list("abcdefgh"), rng.integers(1, 6))) for _ in range(20)]
    lines = [f"{text}\t{('pos', 'neg')[number % 2]}" for number, text in enumerate(texts)]
    for name in ("train", "dev"):
        (root / "data" / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n", "utf-8")
    model = load_directory(TINY, num_outputs=2, label_names=("neg", "pos"))
    model.head.kernel.assign(rng.normal(0, 1, model.head.kernel.shape))
    save_directory(model, root / "model")
    dev = measure(model, load_data(str(root / "data"), label_names=("neg", "pos")), "dev", max_length=16)
    out = export_bundle(model, root / "bundle", BundleData(dev=dev), quantize="fp32", length=16)
    return Shipped(root / "data", root / "model", out)


def test_one_measurement(shipped, tfdistill):
    code, out, err = tfdistill("bench", shipped.bundle, "--runs", 5, "--json")
    assert code == 0, err
    assert json.loads(out)[str(shipped.bundle)]["latency_ms"]["median"] > 0


def test_lengths_operators_and_disagreements(shipped, tfdistill, tmp_path):
    page = tmp_path / "report.html"
    more = ["--profile", "--data", shipped.data, "--model", shipped.model, "--report", page]
    code, out, err = tfdistill("bench", shipped.bundle, "--runs", 2, "--lengths", "16,3", "--json", *more)
    assert code == 0, err
    short, long = json.loads(out)[str(shipped.bundle)]
    assert [(row["tokens"], row["length"]) for row in (short, long)] == [(3, 16), (16, 16)]
    assert "profile" not in short and long["profile"]["tokens"] == 16
    apart = short["disagreements"]
    assert apart["rows"] == 20 and apart["differing"] == 0 and apart["max_difference"] < 1e-4
    assert (
        apart["accuracy"] == read(shipped.bundle / "manifest.json")["parity"]["accuracy"] and len(apart["worst"]) == 10
    )
    assert page.is_file()


def test_threads_and_a_baseline(shipped, tfdistill):
    file = shipped.bundle / "model.tflite"
    words = ["bench", shipped.bundle, "--runs", 2, "--threads", "1,2", "--baseline", file, "--json"]
    code, out, err = tfdistill(*words)
    assert code == 0, err
    measured = json.loads(out)
    assert list(measured) == [str(file), str(shipped.bundle)]
    assert [row["threads"] for row in measured[str(shipped.bundle)]] == [1, 2]
    assert [row["faster"] for row in measured[str(file)]] == [1.0, 1.0] and measured[str(shipped.bundle)][0][
        "faster"
    ] > 0


def test_another_model_and_a_damaged_bundle_are_refused(shipped, tfdistill, tmp_path):
    model = load_directory(TINY, num_outputs=2, label_names=("no", "yes"))
    save_directory(model, tmp_path / "other")
    code, _, err = tfdistill("bench", shipped.bundle, "--data", shipped.data, "--model", tmp_path / "other")
    assert code == 2 and err.count("\n") == 1, err
    assert tfdistill("bench", shipped.bundle, "--threads", "1,999")[0] == 2
    damaged = shutil.copytree(shipped.bundle, tmp_path / "damaged")
    (damaged / "labels.txt").write_text("other\n")
    code, _, err = tfdistill("bench", damaged, "--runs", 2)
    assert code == 2 and "labels.txt" in err
