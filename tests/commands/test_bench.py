"""`tfdistill bench` on this machine: what it measures, compares, writes and refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bundles import reseal
from typer.testing import CliRunner

from tfdistill.commands.app import app
from tfdistill.errors import UserError

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


def run(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def measured(*words: object) -> dict:
    result = run("bench", *words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A tiny model, its data, and bundles of it with 16 and 8 tokens."""
    from tfdistill.models.hf import load_directory, save_directory

    root = tmp_path_factory.mktemp("bench")
    save_directory(load_directory(TINY, num_outputs=2, label_names=("neg", "pos")), root / "model")
    (root / "data").mkdir()
    rows = "".join(f"{'b c ' * (n % 5 + 1)}{'a' * (n % 2)}\t{('neg', 'pos')[n % 2]}\n" for n in range(20))
    (root / "data" / "dev.tsv").write_text(f"text\tlabel\n{rows}", "utf-8")
    for length in (16, 8):
        words = ["export", root / "model", "--out", root / f"bundle{length}", "--quantize", "fp32", "--length", length]
        result = run(*words, "--data", root / "data")
        assert result.exit_code == 0, (result.output, result.exception)
    return root


@pytest.mark.heavy
def test_one_bundle(work):
    found = measured(work / "bundle16", "--runs", 2)[str(work / "bundle16")]
    assert found["latency_ms"]["median"] > 0 and (found["runs"], found["tokens"]) == (2, 16)
    result = run("bench", work / "bundle16", "--runs", 2)
    assert result.exit_code == 0 and "bundle16" in result.output


@pytest.mark.heavy
def test_lengths_profile_disagreements_and_page(work, tmp_path):
    page = tmp_path / "report.html"
    more = ["--profile", "--data", work / "data", "--model", work / "model", "--report", page]
    short, long = measured(work / "bundle16", "--runs", 2, "--lengths", "16,3", *more)[str(work / "bundle16")]
    assert [(found["tokens"], found["length"]) for found in (short, long)] == [(3, 16), (16, 16)]
    assert "profile" not in short and long["profile"]["tokens"] == 16
    apart = short["disagreements"]
    assert apart["rows"] == 20 and apart["differing"] == 0 and apart["max_difference"] < 1e-4
    manifest = json.loads((work / "bundle16" / "manifest.json").read_text("utf-8"))
    assert apart["accuracy"] == manifest["parity"]["accuracy"] and len(apart["worst"]) == 10
    assert "0 of 20" in page.read_text("utf-8")


@pytest.mark.heavy
def test_another_model_than_the_bundles(work, tmp_path):
    from tfdistill.models.hf import load_directory, save_directory

    save_directory(load_directory(TINY, num_outputs=2, label_names=("bad", "good")), tmp_path / "other")
    result = run("bench", work / "bundle16", "--data", work / "data", "--model", tmp_path / "other")
    assert isinstance(result.exception, UserError) and "--model" in str(result.exception)


@pytest.fixture(scope="module")
def other_head(work):
    """A model of the same sizes, vocabulary and labels, with another head."""
    from tfdistill.models.hf import load_directory, save_directory

    model = load_directory(work / "model")
    model.head.kernel.assign(-model.head.kernel.numpy())
    model.head.bias.assign(-model.head.bias.numpy() + 0.01)
    save_directory(model, work / "other" / "student")
    return work / "other" / "student"


@pytest.mark.heavy
def test_a_model_with_other_weights_is_refused(work, other_head):
    for bundle in (work / "bundle16", work / "bundle16" / "model.tflite"):
        result = run("bench", bundle, "--data", work / "data", "--model", other_head)
        assert isinstance(result.exception, UserError) and f"--model {other_head}" in str(result.exception)
        assert str(bundle) in str(result.exception)


@pytest.mark.heavy
def test_an_older_bundle_with_a_doubtful_model_is_measured_with_a_warning(work, other_head, tmp_path):
    """A run directory is given for its student, and the file for its bundle."""
    older = shutil.copytree(work / "bundle16", tmp_path / "older")
    reseal(older, lambda manifest: manifest.pop("model_sha256"))
    page = tmp_path / "r.html"
    words = ["bench", older / "model.tflite", "--data", work / "data", "--runs", 2]
    result = run(*words, "--model", other_head.parent, "--report", page)
    assert result.exit_code == 0, (result.output, result.exception)
    assert "20 of 20 texts" in result.stderr and "SHA-256" in page.read_text("utf-8")
    result = run(*words, "--model", work / "model")
    assert result.exit_code == 0 and "warning" not in result.stderr and "0 of 20" in result.output


@pytest.mark.parametrize("place", ["file.tflite/report.html", "directory.html"])
def test_a_place_where_no_page_can_be_written_is_refused_before_measuring(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.tflite").touch()
    (tmp_path / "directory.html").mkdir()
    result = run("bench", "file.tflite", "--report", place)
    assert isinstance(result.exception, UserError) and place in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["directory.html", "file.tflite"]


@pytest.mark.heavy
def test_several_threads_against_a_baseline(work):
    file, bundle = work / "bundle16" / "model.tflite", work / "bundle16"
    found = measured(bundle, "--runs", 2, "--threads", "1,2", "--baseline", file)
    assert list(found) == [str(file), str(bundle)]
    assert [each["threads"] for each in found[str(bundle)]] == [1, 2]
    assert [each["faster"] for each in found[str(file)]] == [1.0, 1.0] and found[str(bundle)][0]["faster"] > 0


@pytest.mark.heavy
def test_lengths_that_a_file_does_not_accept_are_skipped(work, tmp_path):
    short, long, page = work / "bundle8", work / "bundle16", tmp_path / "report.html"
    result = run(*("bench", short, "--baseline", long, "--lengths", "4,12", "--runs", 2, "--json", "--report", page))
    assert result.exit_code == 0, (result.output, result.exception)
    assert f"{short} accepts 8 tokens" in result.stderr and f"{short} accepts 8 tokens" in page.read_text("utf-8")
    found = json.loads(result.stdout.splitlines()[-1])
    assert [each["tokens"] for each in found[str(long)]] == [4, 12]
    (only,) = found[str(short)]
    assert only["tokens"] == 4 and only["faster"] > 0
    rows = json.loads(page.with_suffix(".json").read_text("utf-8"))["rows"]
    assert [row["tokens"] for row in rows] == [4, 4]  # the longest example that both ran
    # A short baseline cannot be compared at 12.
    result = run("bench", long, "--baseline", short, "--lengths", "4,12", "--runs", 2)
    assert result.exit_code == 0 and "–" in result.output, result.output
    result = run("bench", short, "--lengths", "9,12", "--runs", 2)
    assert isinstance(result.exception, UserError) and "--lengths 9,12" in str(result.exception)


@pytest.mark.heavy
def test_a_damaged_bundle_is_not_measured(work, tmp_path):
    shutil.copytree(work / "bundle8", tmp_path / "bundle")
    (tmp_path / "bundle" / "labels.txt").write_text("other\n")
    result = run("bench", tmp_path / "bundle", "--runs", 2)
    assert isinstance(result.exception, UserError) and "labels.txt" in str(result.exception)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--threads", "two"], "--threads two"),
        (["--threads", "0"], "--threads 0"),
        (["--threads", "1,999"], "--threads 1,999"),
        (["--report", "r.pdf"], "--report r.pdf"),
        (["--data", "DIR"], "--model"),
        (["--serial", "P1"], "`--serial` needs `--adb`"),
        (["--ios", "R", "--delegate", "gpu"], "`--delegate` needs `--adb`"),
        (["--adb", "--ios", "R"], "`--adb` and `--ios`"),
        (["--ios", "R", "--ios-params", "P"], "`--ios` and `--ios-params`"),
        (["--adb", "--lengths", "8"], "`--lengths`"),
        (["--ios", "R", "--mlperf"], "`--mlperf`"),
        (["--adb", "--threads", "1,2"], "--threads 1,2"),
        (["--ios-params", "P", "--baseline", "BASE"], "`--ios-params`"),
        (["--adb", "P1"], "P1 is missing"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_measuring(tmp_path, monkeypatch, options, named):
    monkeypatch.chdir(tmp_path)
    for name in ("file.tflite", "BASE"):
        (tmp_path / name).touch()
    result = run("bench", "file.tflite", *options)
    assert isinstance(result.exception, UserError) and named in str(result.exception), result.exception
    assert "\n" not in str(result.exception)
