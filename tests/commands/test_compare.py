"""Runs and bundles side by side, from run.json and manifest.json alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tfdistill.commands import app as cli
from tfdistill.commands.compare import PUBLISHED, as_table, rows_of, write_plot
from tfdistill.commands.compare_table import left_out
from tfdistill.errors import UserError
from tfdistill.system.console import show_table
from tfdistill.system.escapes import visible

TEST, DEV = {"accuracy": 0.8, "expected_calibration_error": 0.1}, {"accuracy": 0.9}


def run(path: Path, parameters: int = 100, test: dict | None = TEST, dev: dict | None = DEV, **more) -> Path:
    (path / "student").mkdir(parents=True)
    (path / "student" / "model.safetensors").write_bytes(bytes(4 * parameters))
    scores = {name: values for name, values in (("dev", dev), ("test", test)) if values}
    said = {"recipe": "tinybert", "seed": 1, "data": {"name": "d", "fingerprint": "f"}, "state": "done", "debug": False}
    (path / "run.json").write_text(json.dumps({**said, "scores": scores, "parameters": parameters, **more}))
    return path


def bundle(path: Path, parameters: int = 100, **more) -> Path:
    path.mkdir(parents=True)
    said = {"family": "bert", "parameters": parameters, "quantization": "dynamic_int8"}
    said |= {"parity": {"metric": "accuracy", "accuracy": 0.81}, "test": {"metric": "f1", "f1": 0.7, "accuracy": 0.6}}
    files = {"files": {"model.tflite": {"bytes": 123_456}}}
    (path / "manifest.json").write_text(json.dumps({**said, **files, **more}))
    return path


@pytest.fixture
def runs(tmp_path) -> tuple[Path, Path]:
    teacher = run(tmp_path / "teacher", 750, {"accuracy": 0.9}, recipe="finetune")
    return teacher, run(tmp_path / "student")


def text(rows, width: int = 200) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        show_table(as_table(rows, width), console)
    return capture.get()


def test_factor_and_share_of_the_teachers_score(runs):
    teacher, student = rows_of(runs)
    assert (teacher.kind, teacher.factor, teacher.kept, teacher.score) == ("teacher", 1.0, 1.0, 0.9)
    assert (student.kind, student.factor, student.split, student.metric) == ("run", 7.5, "test", "accuracy")
    assert student.kept == pytest.approx(0.8 / 0.9)
    assert (student.quantization, student.bytes, student.latency_ms) == ("weights", 400, None)
    shown = text([teacher, student])
    for part in ("7.50×", "80.00", "88.9 %", "test accuracy", "750", "tinybert"):
        assert part in shown
    assert " ms " not in shown  # no latencies, no column


def test_teacher_named_apart_and_other_splits_and_scores(runs):
    teacher, student = runs
    rows = rows_of([student], teacher=teacher, split="dev")
    assert [row.kind for row in rows] == ["teacher", "run"] and rows[1].kept == 1.0
    assert rows_of([student], metric="expected_calibration_error")[0].score == 0.1
    again = rows_of([student, teacher], teacher=teacher)
    assert [row.kind for row in again] == ["run", "teacher"]


def test_dev_when_a_run_has_no_test(runs, tmp_path):
    rows = rows_of([*runs, run(tmp_path / "other", test=None)])
    assert {row.split for row in rows} == {"dev"}


def test_size_of_the_teacher_from_the_run_itself(tmp_path):
    (row,) = rows_of([run(tmp_path / "run", 50, teacher={"parameters": 200})])
    assert (row.factor, row.kept) == (4.0, None)
    (row,) = rows_of([run(tmp_path / "alone", teacher=None)])
    assert (row.factor, row.kept) == (None, None)


def test_two_teachers_are_none_unless_named(runs, tmp_path):
    other = run(tmp_path / "teacher2", 1000, recipe="finetune")
    assert rows_of([*runs, other])[1].factor is None
    assert rows_of([*runs, other], teacher=other)[1].factor == 10.0


def test_other_data_is_not_compared(runs, tmp_path):
    other = run(tmp_path / "elsewhere", data={"name": "e", "fingerprint": "g"})
    rows = rows_of([*runs, other])
    assert (rows[2].factor, rows[2].kept) == (7.5, None)
    assert "accuracy (e)" in text(rows) and "accuracy (d)" in text(rows)
    assert "(d)" not in text(rows[:2])


def test_bundles(runs, tmp_path):
    inside = bundle(runs[1] / "int8", 98, parity={"metric": "accuracy", "accuracy": 0.81, "keras_accuracy": 0.9})
    same = {"data": {"name": "d", "fingerprint": "f"}}
    apart = bundle(tmp_path / "bundle [x]", 98, latency={"latency_ms": {"median": 1.5}}, **same)
    bench = tmp_path / "bench.json"
    cases = [(1, 16, 1.0), (2, 64, 2.0), (1, 64, 2.5)]
    measured = [{"threads": threads, "tokens": tokens, "latency_ms": {"median": ms}} for threads, tokens, ms in cases]
    bench.write_text(json.dumps({str(inside): measured}))
    rows = rows_of([*runs, inside, apart], bench=bench, split="dev")
    assert [(row.kind, row.of) for row in rows] == [
        ("teacher", None), ("run", None), ("bundle", str(runs[1])), ("bundle", None)
    ]  # fmt: skip
    first, second = rows[2:]
    assert (first.quantization, first.bytes, first.latency_ms, first.score) == ("dynamic_int8", 123_456, 2.5, 0.81)
    assert first.factor == second.factor == pytest.approx(750 / 98)
    assert first.kept == second.kept == pytest.approx(0.81 / 0.9)
    assert second.latency_ms == 1.5
    (row,) = rows_of([apart], split="test")
    assert (row.split, row.metric, row.score) == ("test", "f1", 0.7)
    (row,) = rows_of([bundle(tmp_path / "unmeasured", test=None)], split="test")
    assert (row.split, row.metric, row.score, row.latency_ms) == (None, None, None, None)
    shown = text(rows)
    assert "dynamic_int8" in shown and "2.50" in shown and "bundle [x]" in shown


@pytest.mark.parametrize(
    "judged",
    [
        {},  # an older bundle, not known to have been judged on the run's data
        {"parity": {"metric": "accuracy", "accuracy": 0.81, "keras_accuracy": 0.5}},
        {"data": {"name": "other", "fingerprint": "g"}},
    ],
)
def test_share_of_a_bundle_judged_on_other_data_is_unknown(runs, tmp_path, judged):
    inside, apart = bundle(runs[1] / "int8", **judged), bundle(tmp_path / "apart", **judged)
    rows = rows_of([*runs, inside, apart], split="dev")
    assert [(row.score, row.kept) for row in rows[2:]] == [(0.81, None)] * 2


def test_method_of_a_bundle_is_its_recipe(runs, tmp_path):
    made = bundle(tmp_path / "b")
    (made / "recipe.json").write_text('{"recipe": "bilstm"}')
    assert [row.method for row in rows_of([made, bundle(tmp_path / "c")])] == ["bilstm", "bert"]


def test_measurements_of_other_bundles_are_refused(runs, tmp_path):
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({str(tmp_path / "other"): {"latency_ms": {"median": 1.0}}}))
    with pytest.raises(UserError, match=r"bench\.json.*other"):
        rows_of([*runs, bundle(runs[1] / "int8")], bench=bench)


@pytest.mark.parametrize("name", ["run[/red]", "[bold]B", "a\x1b[2J", "$x$_{", "\u202ex"])
def test_names_are_shown_as_they_are(tfdistill, tmp_path, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "400")
    teacher = run(tmp_path / name, 750, {"accuracy": 0.9}, recipe="[/]", data={"name": "[/x]", "fingerprint": "f"})
    student = run(tmp_path / "s", data={"name": "d\x9b", "fingerprint": "g"})
    code, out, err = tfdistill("compare", teacher, student, "--teacher", teacher, "--plot", tmp_path / f"{name}.svg")
    assert code == 0, err
    assert visible(name) in out and not any(letter in out + err for letter in "\x1b\x9b\u202e")
    assert "\x1b" not in (tmp_path / f"{name}.svg").read_text("utf-8")
    code, out, err = tfdistill("compare", tmp_path / f"no{name}")
    assert code == 2 and visible(name) in err and err.count("\n") == 1


@pytest.mark.parametrize("width", [60, 80, 100])
def test_a_narrow_table_keeps_numbers_whole(tmp_path, width):
    """Columns are left out instead, the less important ones first."""
    deep = tmp_path / "runs-of-the-last-week"
    teacher = run(deep / "real_teacher", 22_714_371, {"accuracy": 1.0}, recipe="finetune")
    student = run(deep / "real_student", 11_714_371, {"accuracy": 0.909})
    rows = rows_of([teacher, student, bundle(student / "bundle", 11_714_371)])
    printed = text(rows, width)
    assert max(map(len, printed.splitlines())) <= width
    for part in ("100.00", "90.90", "1.94×", "real_student", "accuracy"):
        assert part in printed
    assert ("22,714,371" in printed) == ("parameters" not in left_out(rows, width))
    assert "1.0 " not in printed and "22,714,371" in text(rows, 300) and left_out(rows, None) == []


def test_any_type_in_a_manifest_or_a_recipe(tmp_path):
    """Another's bundle never ends in a traceback."""
    keys = ("family", "parameters", "quantization", "parity", "test", "latency", "files", "data", "metric")
    for number, value in enumerate([None, 1, -1.5, "x", [], [1], {}, {"metric": []}, {"metric": "m", "m": "x"}, True]):
        made = bundle(tmp_path / str(number), **dict.fromkeys(keys, value))
        (made / "recipe.json").write_text(json.dumps({"recipe": value}))
        text(rows_of([made]))


def test_students_cut_from_one_run(runs, tmp_path):
    cut = {
        "6 layers": {"parameters": 100, "scores": {"test": TEST}},
        "3 layers": {"parameters": 75, "scores": {"test": {"accuracy": 0.7}}},
    }
    rows = rows_of([runs[0], run(tmp_path / "pruned", cut=cut)])
    assert [(row.name, row.kind, row.factor, row.score) for row in rows[1:]] == [
        (str(tmp_path / "pruned"), "run", 7.5, 0.8),
        ("3 layers", "cut", 10.0, 0.7),
    ]


def test_unfinished_runs_are_listed_without_scores(runs, tmp_path):
    rows = rows_of([*runs, run(tmp_path / "going", state="running", scores={})])
    assert (rows[2].state, rows[2].score) == ("running", None) and rows[1].split == "test"
    assert "tinybert, running" in text(rows)


def test_published(runs):
    rows = rows_of(runs, published=True)
    assert len(rows) == 2 + len(PUBLISHED) and "TinyBERT, 4 layers" in text(rows)
    tiny = next(row for row in rows if row.name == "TinyBERT, 4 layers")
    assert (tiny.factor, tiny.score, tiny.metric, tiny.kept) == (7.5, pytest.approx(0.864), "f1", None)
    assert len(rows_of([], published=True)) == len(PUBLISHED)


@pytest.mark.heavy
def test_plot(runs, tmp_path):
    path = write_plot(rows_of(runs, published=True), tmp_path / "compare.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert write_plot(rows_of(runs), tmp_path / "compare.svg").read_bytes().lstrip().startswith(b"<?xml")
    with pytest.raises(UserError, match="--plot"):
        write_plot(rows_of(runs), tmp_path / "compare.doc")
    with pytest.raises(UserError, match="--teacher"):
        write_plot(rows_of([runs[1]]), tmp_path / "none.png")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "run.json"),
        ("[]", "run.json"),
        ('{"state": "done"}', "scores"),
        ('{"state": "done", "scores": {"dev": 3}}', "scores"),
    ],
)
def test_damaged_runs(tmp_path, content, message):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UserError, match=message):
        rows_of([tmp_path])


def test_refuses(runs, tmp_path):
    for options, message in (
        ({"split": "train"}, "--split train.*dev, test"),
        ({"metric": "f1"}, "--metric f1.*accuracy"),
        ({"teacher": tmp_path}, "--teacher"),
        ({"bench": runs[0] / "run.json"}, "recipe"),
        ({"bench": tmp_path / "none"}, "none"),
    ):
        with pytest.raises(UserError, match=message):
            rows_of(runs, **options)
    with pytest.raises(UserError, match=r"run\.json"):
        rows_of([tmp_path])
    with pytest.raises(UserError, match="nothing to compare"):
        rows_of([])


def test_command(runs, tmp_path, monkeypatch, capsys):
    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tfdistill", "compare", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    code, out, err = call(*runs, "--json", "--plot", tmp_path / "x.png")
    assert code == 0 and str(tmp_path / "x.png") in err
    assert json.loads(out)[1]["factor"] == 7.5 and (tmp_path / "x.png").is_file()
    code, out, err = call(tmp_path / "none")
    assert code == 2 and len(err.splitlines()) == 1 and "run.json" in err
    code, out, err = call("--published")
    assert code == 0 and "MobileBERT" in out
