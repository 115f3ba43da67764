"""Say in sentences what the quickstart's numbers mean."""

from __future__ import annotations

import math

from tfdistill.export.bench.report.page import fastest_near_best, points, within
from tfdistill.export.bench.report.rows import Report, Row, difference_interval, half_width
from tfdistill.metrics.interval import interval

_LEAST_ABOVE_FLOOR = 5.0  # points; a teacher that is nearer to a linear model has not learned


def main_findings(report: Report) -> list[str]:
    """Say what each small model saves and costs, what distillation gains, and whether the teacher has learned."""
    base, lines = report.base, []
    for row in featured(report):
        parts = [f"{value} {word}" for value, word in savings(row, base)]
        lost = difference(report, row.score, base.score)
        if lost:
            parts.append(" ".join(filter(None, [*lost, "of", report.metric, _within(row, base)])))
        if parts:
            lines.append(f"{row.name} against {base.name}: {', '.join(parts)}.")
    for model, (form, gain, seeds) in gains(report).items():
        value, unit = difference(report, gain, 0.0) or ("", "")
        how = "gained" if gain > 0 else "lost" if gain < 0 else "changed nothing:"
        over = f", mean of {seeds} seeds" if seeds > 1 else ""
        lines.append(
            f"Distillation {how} {value.lstrip('+−')} {unit} over labels alone ({model}, {form}{over})"
            f"{_certainty(report, model)}."
        )
    return [*lines, *_above_floor(report)]


def _within(row: Row, other: Row) -> str:
    """Return the interval of the difference of two rows in words; "" if it is not known."""
    found = difference_interval(row, other)
    return "" if found is None else within(found)


def _both_ways(report: Report, model: str) -> tuple[Row, Row] | None:
    """Return the rows of a model, distilled and on labels alone, whose difference `gains` gives; None with several seeds."""
    form, _, seeds = gains(report).get(model, ("", 0.0, 0))
    rows = {row.method: row for row in report.rows if row.model == model and (row.quantization or row.runtime) == form}
    return (rows["distilled"], rows["labels"]) if seeds == 1 else None


def gain_half_width(report: Report, model: str) -> float | None:
    """Return half the width of the 95 % interval of what distillation gains for a model; None if it is not known."""
    both = _both_ways(report, model)
    return None if both is None else half_width(*both)


def _certainty(report: Report, model: str) -> str:
    """Return the interval of what distillation gains for a model, and whether it may be chance; "" if it is not known."""
    both = _both_ways(report, model)
    found = None if both is None else difference_interval(*both)
    if both is None or found is None:
        return ""
    chance = "; it may be chance" if found[0] <= 0 <= found[1] else ""
    return f" {within(found)}{chance}"


def choice(report: Report) -> Row | None:
    """Choose the file to ship: the fastest small one at most one point below the best of them; None without files."""
    files = [row for row in report.rows if row.bytes and row.ms and row.score is not None]
    small = [row for row in files if row.model != report.base.model]
    if not small:
        return None
    return fastest_near_best(small, lambda row: row.score or 0.0, lambda row: (row.ms, row.bytes))


def advice(report: Report) -> tuple[str, list[str]] | None:
    """Return a sentence that says which file to ship, and the commands that make it from one's own data."""
    row = choice(report)
    if row is None:
        return None
    base = report.base
    lost = difference(report, row.score, base.score)
    parts = [f"{(row.bytes or 0) / 1e6:.1f} MB", f"{row.ms:.1f} ms"]
    if lost:
        parts.append(" ".join(filter(None, [*lost, _within(row, base), f"against the {base.model}"])))
    sentence = f"Ship {row.name}: {', '.join(parts)}."
    recipe = "bilstm" if row.model == "BiLSTM" else "soft_targets"
    commands = [
        "tfdistill finetune demo:minilm --data mine.tsv --out TEACHER",
        f"tfdistill train {recipe} --teacher TEACHER --data mine.tsv --out RUN",
        f"tfdistill export RUN --data mine.tsv --quantize {row.quantization} --out BUNDLE",
        'tfdistill predict BUNDLE "a text"',
    ]
    return sentence, commands


def notes_of(report: Report) -> list[str]:
    """Add to the report's notes the learning-rate searches and what the machine means for int8."""
    searched = {row.label: row for row in report.rows if row.searched}
    lines = [
        f"Learning rate of {label}: {row.learning_rate:g} (dev after a short trial: "
        + ", ".join(f"{rate:g}: {100 * score:.1f}" for rate, score in (row.searched or {}).items())
        + ")."
        for label, row in searched.items()
    ]
    if report.machine.get("int8_dot_product") is False:
        lines.append(
            "This processor has no int8 dot products (VNNI, Arm's dotprod): dynamic int8 saves more size than time."
        )
    return [*report.notes, *lines]


def featured(report: Report) -> list[Row]:
    """Choose the smallest file of each model except the baseline, distilled if possible; the best score first."""
    files = [row for row in report.rows if row.bytes and row.model != report.base.model]
    best = []
    for model in dict.fromkeys(row.model for row in files):
        rows = [row for row in files if row.model == model]
        rows = [row for row in rows if row.method == "distilled"] or rows
        least = min(row.bytes or 0 for row in rows)
        best.append(max((row for row in rows if (row.bytes or 0) <= least * 1.02), key=_by_score))
    return sorted(best, key=_by_score, reverse=True)


def savings(row: Row, base: Row) -> list[tuple[str, str]]:
    """Return pairs such as ("5.0×", "smaller") and ("4.0×", "faster")."""
    pairs = []
    for value, baseline, more, less in (
        (row.bytes, base.bytes, "smaller", "larger"),
        (row.ms, base.ms, "faster", "slower"),
    ):
        if value and baseline:
            ratio = baseline / value
            pairs.append((f"{max(ratio, 1 / ratio):.1f}×", more if ratio >= 1 else less))
    return pairs


def difference(report: Report, score: float | None, other: float | None) -> tuple[str, str] | None:
    """Return a signed difference of scores and its unit."""
    if score is None or other is None:
        return None
    if report.metric == "accuracy":
        return points(score - other), "points"
    return f"{score - other:+.3f}".replace("-", "−"), ""


def gains(report: Report) -> dict[str, tuple[str, float, int]]:
    """Compare distillation with labels alone.

    Returns:
        For each model trained in both ways, (format, mean gain in score, seeds): of its dynamic int8 files if there are any,
        else of fp32 files, and so on down to the Keras models.
    """
    gained = {}
    for model in dict.fromkeys(row.model for row in report.rows):
        by_form: dict[str, dict[str, dict[int | None, float]]] = {}
        for row in report.rows:
            if row.model == model and row.method in ("labels", "distilled") and row.score is not None:
                form = row.quantization or row.runtime or "Keras"
                by_form.setdefault(form, {}).setdefault(row.method, {})[row.seed] = row.score
        order = {"dynamic_int8": 0, "fp32": 1, "fp16": 2}
        for form in sorted(by_form, key=lambda form: order.get(form, 3)):
            labels, distilled = by_form[form].get("labels", {}), by_form[form].get("distilled", {})
            seeds = labels.keys() & distilled.keys()
            if seeds:
                gained[model] = form, sum(distilled[seed] - labels[seed] for seed in seeds) / len(seeds), len(seeds)
                break
    return gained


def _by_score(row: Row) -> float:
    return -math.inf if row.score is None else row.score


def uncertainty(report: Report) -> str:
    """State the interval of the baseline's accuracy, since smaller differences may be chance."""
    splits = report.data.get("splits") or {}
    split = "dev" if report.base.test_accuracy is None else "test"
    score, count = report.base.score, splits.get(split)
    if report.metric != "accuracy" or score is None or not count:
        return ""
    within = interval(score, count)
    return f"On {count:,} examples of {split} the accuracy of {report.base.name} is within {within} (95 % interval)."


def _above_floor(report: Report) -> list[str]:
    """Compare the baseline, which is the teacher, with a linear model on the same data."""
    floor = next((row for row in report.rows if row.runtime == "scikit-learn"), None)
    base = report.base
    if floor is None or base.score is None or floor.score is None:
        return []
    above = 100 * (base.score - floor.score)
    lines = [f"The {base.model} is {above:.1f} points above {floor.model} on test."]
    if above < _LEAST_ABOVE_FLOOR:
        lines.append(
            f"Warning: that is less than {_LEAST_ABOVE_FLOOR:g} points, so it has not learned; do not trust this run."
        )
    return lines
