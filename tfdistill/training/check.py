"""Look at the data and the teachers before a training, for what would make it worthless.

Nothing here changes a run: it draws no random numbers of it, and the result is not part of its identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from tfdistill.corpora.sequences import SequenceBatches
from tfdistill.data.dataset import AnySplit, Data, Rows
from tfdistill.data.doubtful_texts import repeated_texts
from tfdistill.data.splits import Split
from tfdistill.metrics.notation import shown
from tfdistill.metrics.scores import softmax
from tfdistill.models.limits import most_tokens
from tfdistill.models.predict import predict_logits
from tfdistill.models.training_record import trained_length
from tfdistill.system.console import task
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.chance import chance, is_at_chance
from tfdistill.training.label_counts import describe_split, label_warnings
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import LONGEST

DEV_ROWS = 1000  # that teachers answer, at most
_TRAIN_ROWS, _QUESTIONS, _SEQUENCES = 5000, 200, 64  # at most, drawn by the seed
_MOST_LOGITS = 20_000_000  # numbers of a teacher's outputs
_UNKNOWN, _CUT, _UNSURE = 0.05, 0.2, 0.2  # shares from which something is off
_CAUSE = "Is it a model for this task, trained to the end?"
_ASSUMED = "It does not name its classes, and the order of the data's was assumed: is it the same?"


@dataclass(frozen=True)
class Check:
    """What was seen before a training, for run.json.

    Args:
        task: task of the data; "" for plain text.
        classes: number of classes or tags; None if there are none.
        splits: by name: rows, rows without label, label counts.
        reads: by reader ("student", "teacher"): tokens of an example, share of [UNK], share of cut examples.
        teachers: of each teacher: metric, score, chance, number of dev rows, mean confidence.
        chance: main dev score of the best constant answer; None without labels.
        warnings: what is off.
        after: what is off with the result.
    """

    task: str = ""
    classes: int | None = None
    splits: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    reads: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    teachers: list[dict[str, Any]] = field(default_factory=list)
    chance: float | None = None
    warnings: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)

    @classmethod
    def from_data(cls, data: Any) -> Check | None:
        """Return the check that run.json holds; None if it holds none, as before there was one."""
        names = {each.name for each in fields(cls)}
        return cls(**data) if isinstance(data, dict) and data.keys() <= names else None

    def as_data(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return the check in a few lines of text."""
        parts = [] if self.classes is None else [f"{self.classes:,} classes"]
        parts += [_split_line(name, about) for name, about in self.splits.items()]
        lines = [f"data: {'; '.join(parts)}"] if parts else []
        lines += [_read_line(who, about) for who, about in self.reads.items()]
        for about in self.teachers:
            lines.append(
                f"{about['name']}: dev {about['metric'].replace('_', ' ')} {shown(about['metric'], about['score'])}, "
                f"chance {shown(about['metric'], about['chance'])} ({about['rows']:,} rows)"
            )
        return [*lines, *(f"WARNING: {line}" for line in self.warnings)]


def _split_line(name: str, about: Mapping[str, Any]) -> str:
    line = f"{name} {about['rows']:,} rows"
    if labels := about.get("labels"):
        if "rarest" in labels:
            rare = ", ".join(f"'{label}' {count:,}" for label, count in labels["rarest"].items())
            line += (
                f" of {labels['classes']:,} classes ({labels['min']:,} to {labels['max']:,} a class, median "
                f"{labels['median']:,.0f}; rarest {rare})"
            )
        else:
            line += f" ({', '.join(f'{label} {count:,}' for label, count in labels.items())})"
    if values := about.get("values"):
        line += f" (numbers from {values['min']:g} to {values['max']:g}, mean {values['mean']:g})"
    return f"{line}, {about['without_label']:,} without a label" if about["without_label"] else line


def _read_line(who: str, about: Mapping[str, Any]) -> str:
    length = f"{about['max_length']} tokens" + (", as its teacher was trained" if about.get("as_teacher") else "")
    line = f"{who} reads {length}; {100 * about['unknown']:.1f} % of the tokens are [UNK]"
    is_warned = about.get("cut", 0.0) > _CUT
    return f"{line}; {about['cut_line']}" if about.get("cut_line") and not is_warned else line


def check_recipe(recipe: Recipe, *, seed: int = 0, dev_rows: int = DEV_ROWS) -> Check:
    """Look at the data and the teachers of a recipe.

    Args:
        recipe: what will be trained. Its splits train and dev have labels.
        seed: decides which rows are looked at if there are many.
        dev_rows: rows that the teachers answer at most.
    """
    reads = _plain_text(recipe)
    if recipe.data is None:
        return Check(reads=reads, warnings=_read_warnings(reads))
    data = recipe.data
    reads = {**_readers(recipe, data, seed), **reads}
    rows = _dev_sample(recipe, data, seed, dev_rows)
    teachers = _teachers(recipe, data, rows)
    by_chance = chance(data.encode(rows, recipe.student.tokenizer, recipe.max_length)) if len(rows) else None
    return Check(
        task=data.task,
        classes=None if data.label_names is None else len(data.label_names),
        splits={name: describe_split(split, data) for name, split in data.splits.items()},
        reads=reads,
        teachers=teachers,
        chance=by_chance,
        warnings=[
            *label_warnings(data),
            *_repeats(data),
            *_read_warnings(reads),
            *_length_warnings(recipe),
            *(line for about in teachers for line in _teacher_warnings(about)),
        ],
    )


def _repeats(data: Data) -> list[str]:
    """Return a warning for each split of which more than one in a hundred texts are in train too."""
    if data.per_token:
        return []
    return [
        f"{count:,} of {len(data.splits[name]):,} texts of {name} are in train too; its scores may be too high"
        for name, count in repeated_texts(data.splits).items()
        if count > 0.01 * len(data.splits[name])
    ]


def _sample(split: Any, rows: int, seed: int) -> Any:
    """Return at most `rows` examples of a split, in their order."""
    if len(split) <= rows:
        return split
    return split.take(np.sort(np.random.default_rng(seed).choice(len(split), rows, replace=False)))


def unknown_share(token_ids: np.ndarray, tokenizer: Tokenizer) -> float:
    """Return the share of [UNK] among the tokens of texts; [CLS], [SEP], [PAD] and [MASK] do not count."""
    special = [tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id]
    words = token_ids[~np.isin(token_ids, [each for each in special if each is not None])]
    return float(np.mean(words == tokenizer.unk_id)) if len(words) else 0.0


def _readers(recipe: Recipe, data: Data, seed: int) -> dict[str, dict[str, Any]]:
    """Describe how the student, and each teacher that reads something else, reads the training texts."""
    questions = data.task == "question_answering"
    split, described, seen = _sample(data.splits["train"], _QUESTIONS if questions else _TRAIN_ROWS, seed), {}, set()
    trained = "student" if recipe.teachers else "model"
    readers: list[tuple[str, Any, int, bool]] = [(trained, recipe.student, recipe.max_length, False)]
    for number, teacher in enumerate(recipe.teachers, start=1):
        name = "teacher" if len(recipe.teachers) == 1 else f"teacher {number}"
        if not isinstance(teacher, AnswersTeacher):  # stored answers read nothing
            readers.append((name, teacher, recipe.teacher_length, recipe.privileged))
    for who, model, length, privileged in readers:
        length = getattr(model.tokenizer, "sequence_length", length)  # KerasHub's own instead of the recipe's
        key = (model.tokenizer.fingerprint, length, privileged)
        if key not in seen:
            seen.add(key)
            rows = data.encode(split.with_extra() if privileged else split, model.tokenizer, length)
            described[who] = _described(rows, model, length, "teacher_max_length" if privileged else "max_length")
    if recipe.max_length in map(trained_length, recipe.teachers):
        described[trained]["as_teacher"] = True
    return described


def _described(rows: Rows, model: Any, length: int, setting: str) -> dict[str, Any]:
    encoded = rows.encoded
    longest = min(LONGEST, most_tokens(getattr(model, "config", None), LONGEST))
    return {
        "max_length": length,
        "unknown": unknown_share(encoded.token_ids, model.tokenizer),
        "cut": float(encoded.cut.mean()) if len(encoded) else 0.0,
        "cut_line": rows.cut_line(length, option=f"--set {setting}=", longest=longest),
    }


def _plain_text(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Describe how the student reads the plain text of stages. Nothing of it is cut."""
    described = {}
    for stage in recipe.stages:
        if isinstance(stage.source, SequenceBatches) and len(stage.source):
            rows = np.linspace(0, len(stage.source) - 1, min(_SEQUENCES, len(stage.source))).astype(np.int64)
            ids = stage.source.batch(rows, seed=0, epoch=0)["student"]["token_ids"]
            unknown = unknown_share(ids, (stage.student or recipe.student).tokenizer)
            described[f"student ({stage.name})"] = {"max_length": int(ids.shape[1]), "unknown": unknown}
    return described


def _read_warnings(reads: Mapping[str, Mapping[str, Any]]) -> list[str]:
    warnings = []
    for who, about in reads.items():
        if about["unknown"] > _UNKNOWN:
            warnings.append(
                f"{100 * about['unknown']:.1f} % of the tokens of the {who} are [UNK]: its vocabulary does not fit."
            )
        if about.get("cut", 0.0) > _CUT:
            warnings.append(
                f"The {who} does not see the end of {100 * about['cut']:.1f} % of the texts: {about['cut_line']}."
            )
    return warnings


def _length_warnings(recipe: Recipe) -> list[str]:
    """Return lines about teachers that were trained with another length than they read here."""
    known = [trained_length(teacher) for teacher in recipe.teachers]
    lengths = sorted({length for length in known if length is not None})
    warnings = []
    if len(lengths) > 1:
        warnings.append(
            f"The teachers were trained with {', '.join(map(str, lengths))} tokens; all read {recipe.teacher_length}."
        )
    elif lengths and lengths[0] > recipe.teacher_length:
        warnings.append(f"The teacher was trained with {lengths[0]} tokens and reads {recipe.teacher_length} here.")
    return warnings


def _dev_sample(recipe: Recipe, data: Data, seed: int, limit: int) -> Any:
    """Return labelled dev examples for the teachers; none without labels."""
    split = data.splits["dev"]
    if not data.has_labels("dev"):
        return split.take([])
    if isinstance(split, Split):
        split = split.take(np.flatnonzero(split.labelled))
    if data.task == "question_answering":
        limit = min(limit, _QUESTIONS)
    return _sample(split, max(1, min(limit, _MOST_LOGITS // data.num_outputs)), seed)


def _teachers(recipe: Recipe, data: Data, dev: AnySplit) -> list[dict[str, Any]]:
    """Return the dev scores of teachers that a stage reads and none trains."""
    trained = [stage.teacher or recipe.teacher for stage in recipe.stages if stage.train_teacher]
    read = any(stage.reads_teacher and stage.teacher is None and stage.source is None for stage in recipe.stages)
    if not read or not len(dev) or (recipe.privileged and not data.has_extra("dev")):
        return []
    split, described = dev.with_extra() if recipe.privileged else dev, []  # type: ignore[attr-defined]
    for number, teacher in enumerate(recipe.teachers, start=1):
        if any(teacher is each for each in trained):
            continue
        rows, logits = _answers(teacher, data, split, recipe)
        if logits is None:
            continue
        metric, score = next(iter(rows.score(logits).items()))
        about = {
            "name": "teacher" if len(recipe.teachers) == 1 else f"teacher {number}",
            "metric": metric,
            "score": score,
            "chance": chance(rows),
            "rows": len(dev),
            "order_is_assumed": bool(getattr(teacher, "order_is_assumed", False)),
        }
        if data.task == "classification":
            about["confidence"] = float(softmax(logits).max(axis=-1).mean())
        described.append(about)
    return described


def _answers(teacher: Any, data: Data, split: Any, recipe: Recipe) -> tuple[Rows, np.ndarray | None]:
    """Return the examples as a teacher reads them and its logits; None if its stored answers lack some."""
    if isinstance(teacher, AnswersTeacher):
        rows = data.encode(split, recipe.student.tokenizer, recipe.max_length)
        return rows, teacher.logits(split) if teacher.covers(split) else None
    rows = data.encode(split, teacher.tokenizer, recipe.teacher_length)
    with task("teacher reads the dev split", len(rows.encoded)) as advance:
        return rows, predict_logits(teacher, rows.encoded, advance=advance)


def _teacher_warnings(about: Mapping[str, Any]) -> list[str]:
    who, score = f"The {about['name']}", about["score"]
    if is_at_chance(score, about["chance"], about["rows"]):
        return [
            f"{who} is not better than chance on dev ({about['metric'].replace('_', ' ')} {shown(about['metric'], score)}, chance "
            f"{shown(about['metric'], about['chance'])}). {_ASSUMED if about.get('order_is_assumed') else _CAUSE}"
        ]
    if about["metric"] == "accuracy" and score - about.get("confidence", score) > _UNSURE:
        return [
            f"{who} is right in {100 * score:.1f} % of dev, and {100 * about['confidence']:.1f} % sure: it was probably not "
            "trained to the end."
        ]
    return []
