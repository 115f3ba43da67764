"""`AnswersTeacher`: a teacher that is not a model but a file with its answers to the texts of a data set."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pydantic import BaseModel

from tfdistill.data.answer_files import Cells, read_answers
from tfdistill.data.answer_values import Answers, WrongAnswer
from tfdistill.data.records import at_line
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TEXT_TASKS, TextData
from tfdistill.errors import UserError, listing, nearest
from tfdistill.models.class_order import column_order
from tfdistill.system.console import say, task
from tfdistill.system.files import sha256
from tfdistill.text.learned_vocabulary import learned_tokenizer
from tfdistill.text.tokenizer import Tokenizer

PREFIX = "answers:"

if TYPE_CHECKING:
    from tfdistill.training.recipe import Recipe

S = TypeVar("S", bound=BaseModel)
_Key = str | tuple[str, str]
_TOGETHER = 4096  # answers that are checked and stored together
_OF_MODELS = ("config", "family", "encoder", "head", "dropout", "nsp_head")


class AnswersTeacher:
    """Read a teacher's answers to the texts of `data` from a file. Recipes take it in place of a model.

    Each row has a `text` (and `text_b` for pairs), and `probs` or `logits`: a list in the order of the data's classes, or an
    object {class: value}. Several answers to one text are averaged as probabilities. Classes that an object of probabilities
    leaves out share the rest equally. Multi-label probabilities are independent; for regression the value is a number.
    Rows about other texts are skipped.

    Args:
        file: a .jsonl, .csv or .parquet file, also as "answers:FILE".
        data: texts, or pairs of texts, with a class, a number or several classes each.
        tokenizer: the vocabulary of students without one; by default it is made of the words of the training texts.

    Attributes:
        name: the file, for messages.
        fingerprint: SHA-256 of the file.
        task: that of the data, like `num_outputs` and `label_names`.

    Raises:
        UserError: tags or questions as data, an answer that is wrong (with file and line), or training texts without one.

    Example:
        teacher = tfdistill.AnswersTeacher("answers.jsonl", data)
        recipe = tfdistill.recipes.bilstm.recipe(teacher, data)
    """

    loaded_from = None
    trained_length = None
    order_is_assumed = False

    def __init__(self, file: str | os.PathLike, data: TextData, *, tokenizer: Tokenizer | None = None):
        path = Path(os.fspath(file).removeprefix(PREFIX)).expanduser()
        self.name = str(path)
        if data.task not in TEXT_TASKS:
            raise UserError(f"{data.name} is for {data.task}, and answers are for {listing(TEXT_TASKS)}. Use a model.")
        _require_file(path)
        self.task, self.num_outputs, self.label_names = data.task, data.num_outputs, data.label_names
        self._tokenizer, self._texts = tokenizer, training_texts(data)
        self._places: dict[_Key, int] = {}
        for split in data.splits.values():
            for key in _keys(split):
                self._places.setdefault(key, len(self._places))
        self.fingerprint = sha256(path)
        self._answers = Answers(len(self._places), self.task, self.num_outputs, self.label_names, data.name)
        self._read(path, data.is_pair)
        for name in ("train", "unlabelled"):
            if name in data.splits:
                self.require(data.splits[name], f" of the split '{name}'")

    def _read(self, path: Path, pairs: bool) -> None:
        lists = False
        rows: list[tuple[int, int | None, Any]] = []  # line, place of the text and value of answers that wait
        waiting = ""  # their kind

        def store() -> None:
            lines, places, values = zip(*rows, strict=True) if rows else ((), (), ())
            rows.clear()
            try:
                self._answers.add(waiting, places, values)
            except WrongAnswer as error:
                with at_line(path, lines[error.row]):
                    raise

        with task(f"reading {path.name}", None) as advance:
            try:
                for line, cells in read_answers(path):
                    try:
                        kind, value = _value(cells)
                        key = _key(cells, pairs)
                    except ValueError:
                        with at_line(path, line):
                            raise
                    if kind != waiting or len(rows) == _TOGETHER:
                        advance(len(rows))
                        store()
                        waiting = kind
                    rows.append((line, self._places.get(key), value))
                    lists = lists or type(value) is list
            except UserError:
                store()  # an error on a line before comes first
                raise
            store()
        if lists and self.label_names is not None:
            say(f"{self.name}: lists are in the order of the data's classes, {listing(self.label_names)}")

    def covers(self, split: Split) -> bool:
        """Return whether the file has an answer to every text of a split."""
        return not len(self._missing(split))

    def logits(self, split: Split) -> np.ndarray:
        """Return the answers to the texts of a split as logits, float32 (n, C).

        Logits of the file are returned as they are, and probabilities as their logarithm less its mean (multi-label: log-odds).

        Raises:
            UserError: the file has no answer to some of the texts.
        """
        self.require(split)
        return self._answers.logits[[self._places[key] for key in _keys(split)]]

    def order_outputs(self, names: Sequence[str] | None, where: str) -> None:
        """Put the classes in the order of `names`.

        Args:
            names: class names; None for regression.
            where: the data with these classes, for the message.

        Raises:
            UserError: the classes are others.
        """
        if names is None or self.label_names is None or tuple(names) == self.label_names:
            return
        order = column_order(self.label_names, names, self.name, where)
        self._answers.logits = self._answers.logits[:, order]
        self.label_names = tuple(names)

    def _missing(self, split: Split) -> list[int]:
        known, places = self._answers.known, self._places
        return [row for row, key in enumerate(_keys(split)) if key not in places or not known[places[key]]]

    def require(self, split: Split, which: str = "") -> None:
        """Raise UserError if the file has no answer to some texts of a split; `which` names it in the message."""
        missing = self._missing(split)
        if missing:
            first = ", ".join(repr(_shown(split, row)) for row in missing[:3])
            raise UserError(
                f"{self.name} has no answer to {len(missing):,} of {len(split):,} texts{which}: {first}"
                f"{', …' if len(missing) > 3 else ''}. Add rows with exactly these texts, or remove the texts from the data."
            )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of students without a vocabulary of their own, made of the training texts if none is given."""
        if self._tokenizer is not None:
            return self._tokenizer
        made = learned_tokenizer(self._texts)
        say(
            f"{self.name} has no vocabulary: the student's {len(made.vocabulary):,} tokens are words of the training texts"
        )
        return made

    @property
    def student_tokenizer(self) -> Tokenizer:
        """The vocabulary of students, as of other teachers whose own students cannot have."""
        return self.tokenizer

    def __getattr__(self, name: str) -> Any:
        """Raise UserError for what only a network has."""
        from tfdistill.models.text_model import TextModel

        if name in _OF_MODELS or (not name.startswith("_") and hasattr(TextModel, name)):
            raise UserError(
                f"{self.name} has predictions only, and these settings need the teacher's layers. Use a student of its own "
                "(`--set student=hf:DIR` or a preset) and no stage or term on layers, or a model as `--teacher`."
            )
        raise AttributeError(f"AnswersTeacher has no attribute '{name}'")

    def __repr__(self) -> str:
        return f"AnswersTeacher({self.name!r})"


def _require_file(path: Path) -> None:
    if path.is_file():
        return
    if path.exists():
        raise UserError(f"{path} is a directory. Give a .jsonl, .csv or .parquet file of answers.")
    others = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    raise UserError(f"There is no file {path} with answers{nearest(path.name, others)}. Give an existing file.")


def training_texts(data: TextData) -> list[str]:
    """Return the texts of the splits train and unlabelled."""
    splits = [data.splits[name] for name in ("train", "unlabelled") if name in data.splits]
    return [text for split in splits for column in (split.texts, split.texts_b or []) for text in column]


def _keys(split: Split) -> Iterator[_Key]:
    return iter(split.texts) if split.texts_b is None else zip(split.texts, split.texts_b, strict=True)


def _shown(split: Split, row: int) -> str:
    text = split.texts[row] if split.texts_b is None else f"{split.texts[row]} | {split.texts_b[row]}"
    return text if len(text) <= 60 else f"{text[:59]}…"


def _key(cells: Cells, pairs: bool) -> _Key:
    """Return the key of the text, or pair of texts, that an answer is about."""
    text, text_b = cells.get("text"), cells.get("text_b")
    for name, value in (("text", text), ("text_b", text_b)) if pairs else (("text", text),):
        if not isinstance(value, str):
            what = "missing" if value is None else "not a string"
            raise ValueError(f"'{name}' is {what}. Give {'both texts of the pair' if pairs else 'the text'}.")
    if not pairs and text_b is not None:
        raise ValueError("the row has a 'text_b', and the data have single texts. Remove it, or use data of pairs.")
    return (text, text_b) if pairs else text  # type: ignore[return-value]


def _value(cells: Cells) -> tuple[str, Any]:
    probs, logits = cells.get("probs"), cells.get("logits")
    if (probs is None) == (logits is None):
        raise ValueError(
            "'probs' or 'logits' is missing. Give one of them."
            if probs is None
            else "the row has both 'probs' and 'logits'. Give one of them."
        )
    return ("probs", probs) if logits is None else ("logits", logits)


def check_answers(recipe: Recipe) -> None:
    """Check that the files among the teachers of a recipe have what its stages read.

    Raises:
        UserError: a stage reads more than logits, no stage reads logits, texts are augmented, or the dev loss decides and a
            file lacks dev texts.
    """
    files = [teacher for teacher in recipe.teachers if isinstance(teacher, AnswersTeacher)]
    if not files:
        return
    name = files[0].name
    if recipe.augment is not None:
        raise UserError(
            f"{name} has no answers to augmented texts. Use `--set copies=0`; for more text, write copies with "
            "`tfdistill augment`, have them answered, and add them as split 'unlabelled'."
        )
    reading = [stage for stage in recipe.stages if stage.teacher is None and stage.source is None]
    for stage in reading:
        more = sorted(stage.reads_teacher - {"logits"})
        if recipe.teacher_model is None and (more or stage.train_teacher):
            what = ", ".join(more) or "the weights"
            raise UserError(
                f"Stage '{stage.name}' of {recipe.name} reads {what} of the teacher, and {name} has predictions only. "
                "Use settings without them, or a model as `--teacher`."
            )
    if not any("logits" in stage.reads_teacher for stage in reading):
        raise UserError(
            f"No stage of {recipe.name} reads predictions with these settings, so {name} has no effect. "
            f"Use a setting with soft targets (tfdistill recipes {recipe.name})."
        )
    by_loss = [stage for stage in reading if stage.monitor == "loss" and "logits" in stage.reads_teacher]
    if by_loss and recipe.data is not None:
        for each in files:
            each.require(recipe.data.splits["dev"], " of the split 'dev'")


def without_copies(settings: S, teacher: Any) -> S:
    """Return settings without augmented copies for a file of answers, which has none to them, unless they are set."""
    if isinstance(teacher, AnswersTeacher) and "copies" not in settings.model_fields_set:
        say(f"copies=0: {teacher.name} has no answers to augmented texts")
        return settings.model_copy(update={"copies": 0})
    return settings
