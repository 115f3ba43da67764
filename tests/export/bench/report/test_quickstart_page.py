"""The quickstart's table, findings and page."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from rich.console import Console

from tfdistill.export.bench.report.findings import main_findings, notes_of
from tfdistill.export.bench.report.quickstart_page import write_report
from tfdistill.export.bench.report.rows import Report, Row
from tfdistill.export.bench.report.terminal import print_report


def row(model, method, test, size=None, latency=None, quantization=None, seed=1):
    row = Row(model, method, "scikit-learn", seed, 1000, None if test is None else test + 0.01, test, seconds=12.0)
    if size is None:
        return row
    return replace(
        row,
        runtime="LiteRT",
        file="x.tflite",
        bytes=size,
        quantization=quantization,
        latency_ms=latency and {"median": latency, "p90": latency * 1.1, "p95": latency * 1.2},
        peak_memory_mb=50.0,
        threads=1,
        length=64,
        parity={"max_abs_difference": 0.01, "argmax_agreement": 0.99},
    )


@pytest.fixture
def report():
    points = [{"step": n, "loss": 1 / n, "dev_accuracy": None if n % 2 else 0.8} for n in range(1, 9)]
    return Report(
        title="Distilling <b>on</b> $reviews",
        created="2026-01-01 12:00",
        seed=1,
        fast=True,
        command="tfdistill quickstart",
        machine={"cores": 2},
        versions={"keras": "3"},
        data={"name": "snippets", "task": "classification", "label_names": ["no", "yes"], "splits": {"train": 1000}},
        notes=["a note <script>"],
        rows=[
            row("teacher", "fine-tuned", 0.86, 90_000_000, 20.0, "fp32"),
            row("teacher", "fine-tuned", 0.855, 23_000_000, 16.0, "dynamic_int8"),
            row("student", "labels", 0.83, 18_000_000, 5.0, "dynamic_int8"),
            row("student", "distilled", 0.842, 18_000_000, 5.0, "dynamic_int8"),
            row("student", "distilled", 0.843, 70_000_000, 10.0, "fp32"),
            row("TF-IDF", "labels", 0.76),
        ],
        curves={"student · distilled": points},
        confusion={"student · distilled": [[40, 10], [5, 45]]},
    )


def page_of(report, tmp_path) -> str:
    return write_report(report, tmp_path / "out").read_text("utf-8")


def test_main_findings(report):
    saved, gained, floor = main_findings(report)
    assert (
        saved.startswith("student, distilled, dynamic_int8 against teacher, fine-tuned, fp32: 5.0×") and "4.0×" in saved
    )
    assert "−1.8 points" in saved and "1.2 points" in gained and "(student, dynamic_int8)" in gained
    assert "10.0 points" in floor


def test_losses_and_slow_files(report):
    report.rows[2].test_accuracy = 0.85
    report.rows[3].latency_ms = {"median": 40.0, "p90": 41.0, "p95": 42.0}
    saved, gained, _ = main_findings(report)
    assert "2.0× slower" in saved and "lost 0.8 points" in gained


def test_several_seeds_are_averaged(report):
    report.rows += [
        row("student", "labels", 0.81, 18_000_000, 5.0, "dynamic_int8", seed=2),
        row("student", "distilled", 0.842, 18_000_000, 5.0, "dynamic_int8", seed=2),
    ]
    gained = main_findings(report)[1]
    assert "2.2 points" in gained and "2 seeds" in gained


def test_models_without_files_are_compared_as_keras_models(report):
    report.rows = [row("student", "labels", 0.8), row("student", "distilled", 0.81)]
    assert "1.0 points over labels alone (student, scikit-learn)" in main_findings(report)[0]


def test_a_teacher_near_the_floor_gets_a_warning(report):
    assert not any("Warning" in line for line in main_findings(report))
    report.rows[5].test_accuracy = 0.83
    assert "Warning" in main_findings(report)[-1]


def test_notes_on_learning_rates_and_the_machine(report):
    for each in report.rows[3:5]:  # two files of one model
        each.learning_rate, each.searched = 6e-4, {6e-4: 0.812, 9e-4: 0.8}
    report.machine = {"int8_dot_product": False}
    note, searched, machine = notes_of(report)
    assert note == "a note <script>" and "0.0006: 81.2, 0.0009: 80.0" in searched and "int8" in machine


def test_correlations_are_no_percentages(report, tmp_path):
    report.data = {**report.data, "metric": "Spearman correlation"}
    assert "−0.018 of Spearman correlation" in main_findings(report)[0]
    page = page_of(report, tmp_path)
    assert "0.842" in page and "84.2 %" not in page


def test_page_needs_nothing_else(report, tmp_path):
    page = page_of(report, tmp_path)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.html", "report.json"}
    assert set(re.findall(r"https?://[^\"'\s<)]+", page)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)", page)
    assert "Distilling &lt;b&gt;on&lt;/b&gt; $reviews" in page and "a note &lt;script&gt;" in page
    assert page.count("<figure>") == 5 and page.count("<svg ") == 4
    assert "5.0×" in page and "prefers-color-scheme: dark" in page and 'name="viewport"' in page
    assert "#0a0b0c" not in page
    ids = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids
    numbers = json.loads((tmp_path / "out" / "report.json").read_text())
    assert numbers["rows"][0]["bytes"] == 90_000_000 and len(numbers["findings"]) == 3


@pytest.mark.heavy
def test_page_is_the_same_each_time(report, tmp_path):
    assert page_of(report, tmp_path) == page_of(report, tmp_path)


def test_nan_is_unknown(report, tmp_path):
    report.rows[5].test_accuracy = float("nan")
    page = page_of(report, tmp_path)
    numbers = json.loads((tmp_path / "out" / "report.json").read_text(), parse_constant=pytest.fail)
    assert numbers["rows"][5]["test_accuracy"] is None and "nan" not in page


def test_a_report_of_little(tmp_path):
    little = Report("title", {"name": "snippets"}, [row("TF-IDF", "labels", None)])
    assert main_findings(little) == []
    assert "<svg" not in page_of(little, tmp_path)
    print_report(little, Console(record=True, quiet=True, width=80))


@pytest.mark.parametrize("width", [80, 200])
def test_table(report, width):
    console = Console(record=True, width=width)
    print_report(report, console)
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "Distilling <b>on</b> $reviews" in text and "84.2 %" in text and "5.0×" in text and "1.2 points" in text
    assert ("Parameters" in text) == (width == 200)


def with_answers(report, share: float) -> Report:
    """The baseline answers all of 100 test examples rightly, the others that share."""
    right = int(100 * share)
    others = "1" * right + "0" * (100 - right)
    rows = [replace(each, right="1" * 100 if each.model == "teacher" else others) for each in report.rows]
    return replace(report, rows=rows)


def test_differences_have_paired_intervals(report, tmp_path):
    report = with_answers(report, 0.9)
    (saved, *_) = main_findings(report)
    low, high = (float(each.replace("−", "-")) for each in re.search(r"interval (\S+) to (\S+)\)", saved).groups())
    assert -18 < low < -14 and -6 < high < -3  # 10 of 100 examples are lost
    assert "−1.8 ± 5.5" in page_of(report, tmp_path)


def test_a_gain_that_may_be_chance_is_called_so(report):
    assert "chance" in next(line for line in main_findings(with_answers(report, 0.9)) if "gained" in line)


def test_the_page_names_the_file_to_ship_and_the_commands_that_make_it(report, tmp_path):
    page = page_of(report, tmp_path)
    assert "Ship student, labels, dynamic_int8" in page or "Ship student, distilled, dynamic_int8" in page
    for verb in ("finetune", "train soft_targets", "export RUN", "predict BUNDLE"):
        assert f"\ntfdistill {verb}" in page or f">tfdistill {verb}" in page


def test_five_columns_and_the_rest_folded(report, tmp_path):
    page = page_of(report, tmp_path)
    first, second = page.split("<thead>")[1:3]
    assert first.partition("</thead>")[0].count("<th") == 4
    assert page.index("<summary>All columns") < page.index(second[:200])
