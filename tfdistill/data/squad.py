"""Read SQuAD's JSON files (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from tfdistill.data.records import decoded, read_bytes
from tfdistill.errors import UserError, short
from tfdistill.system.console import say


class Answer(NamedTuple):
    """An answer is `context[start : start + len(text)]`."""

    text: str
    start: int


@dataclass(frozen=True)
class Question:
    """One question. Without answers it cannot be answered from its context (SQuAD 2.0)."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...] = ()


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class _Answer(_Strict):
    text: str
    answer_start: int


class _Question(_Strict):
    id: str | int | None = None
    question: str
    answers: list[_Answer] | None = None
    is_impossible: bool = False


class _Paragraph(_Strict):
    context: str
    qas: list[_Question]


class _Article(_Strict):
    paragraphs: list[_Paragraph]


class _File(_Strict):
    data: list[_Article]


def load_squad(path: str | Path) -> list[Question]:
    """Read the questions of a SQuAD 1.1 or 2.0 file, in its order.

    An answer whose start is some characters off (the files have a few) is moved to the nearest place of its text. Ids may be
    numbers; questions without one are numbered. A line says what was moved, numbered or not counted.

    Raises:
        UserError: the file is missing or not SQuAD JSON, an id occurs twice, or an answer is not in its context.
    """
    path = Path(path)
    try:
        content = _File.model_validate_json(decoded(path, read_bytes(path)))
    except ValidationError as error:
        raise _misfit(path, error) from error
    questions: dict[str, Question] = {}
    odd: Counter[str] = Counter()
    for article in content.data:
        for paragraph in article.paragraphs:
            for entry in paragraph.qas:
                if entry.id is None:
                    odd["questions have no id and are numbered"] += 1
                name = f"question {len(questions) + 1}" if entry.id is None else str(entry.id)
                if name in questions:
                    raise UserError(f"{path}: the question id '{short(name)}' occurs twice; expected different ids")
                questions[name] = _question(path, name, entry, paragraph.context, odd)
    if not questions:
        raise UserError(f"{path} has no questions; expected SQuAD's data, paragraphs and qas")
    for what, count in odd.items():
        say(f"{path}: {count} {what}")
    return list(questions.values())


def _misfit(path: Path, error: ValidationError) -> UserError:
    """Return the first error of pydantic with its place in the file, in our words."""
    first = error.errors()[0]
    # A union's place ends with the type that was tried, as in data.0.paragraphs.0.qas.1.id.str.
    place = ".".join(str(part) for part in first["loc"] if part not in ("str", "int")) or "the file"
    expected = "; expected true or false, without quotes" if place.endswith(".is_impossible") else ""
    if first["type"] == "json_invalid":
        message = first["msg"].removeprefix("Invalid JSON: ")
        line = re.search(r"at line ([0-9]+)", message)
        return UserError(
            f"{path}, line {line[1] if line else 1}: not JSON ({short(message, 200)}). Look for damage there."
        )
    return UserError(f"{path}: {short(place, 100)}: {short(first['msg'], 200)}{expected}. Expected a SQuAD file.")


def _question(path: Path, name: str, entry: _Question, context: str, odd: Counter[str]) -> Question:
    if entry.answers is None and not entry.is_impossible:
        raise UserError(f"{path}: question '{short(name)}' has no 'answers'; expected a list. Add it.")
    # In SQuAD 2.0 an impossible question has plausible answers only, which do not count.
    listed = [answer for answer in entry.answers or () if answer.text.strip() and not entry.is_impossible]
    if entry.is_impossible and any(answer.text.strip() for answer in entry.answers or ()):
        odd["questions have answers that do not count, because is_impossible is true"] += 1
    if not entry.is_impossible and not listed:
        odd["questions have no answer and are read as unanswerable, though is_impossible is not true"] += 1
    answers = []
    for text, start in ((answer.text, answer.answer_start) for answer in listed):
        place = start if start >= 0 and context.startswith(text, start) else _nearest(context, text, start)
        if place is None:
            raise UserError(f"{path}: the answer '{short(text, 40)}' of question '{short(name)}' is not in its context")
        if place != start:
            odd["answers are not at their answer_start and are moved to the nearest place of their text"] += 1
        answers.append(Answer(text, place))
    return Question(name, entry.question, context, tuple(answers))


def _nearest(context: str, text: str, start: int) -> int | None:
    """Return the place of a text that is nearest to `start`, the first of two; None if the context does not have it."""
    start = min(max(start, 0), len(context))
    before, after = context.rfind(text, 0, start + len(text) - 1), context.find(text, start)
    places = [place for place in (before, after) if place >= 0]
    return min(places, key=lambda place: abs(place - start)) if places else None
