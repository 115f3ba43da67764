"""Read SQuAD's JSON files (Rajpurkar et al. 2016, 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from tfdistill.data.records import decoded, read_bytes
from tfdistill.errors import UserError


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
    id: str
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

    An answer whose start is some characters off (the files have a few) is moved to the nearest place of its text.

    Raises:
        UserError: the file is missing or not SQuAD JSON, an id occurs twice, or an answer is not in its context.
    """
    path = Path(path)
    try:
        content = _File.model_validate_json(decoded(path, read_bytes(path)))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UserError(f"{path}: {place}: {first['msg']}; expected a SQuAD file") from error
    questions: dict[str, Question] = {}
    for article in content.data:
        for paragraph in article.paragraphs:
            for entry in paragraph.qas:
                if entry.id in questions:
                    raise UserError(f"{path}: the question id '{entry.id}' occurs twice; expected different ids")
                questions[entry.id] = _question(path, entry, paragraph.context)
    if not questions:
        raise UserError(f"{path} has no questions; expected SQuAD's data, paragraphs and qas")
    return list(questions.values())


def _question(path: Path, entry: _Question, context: str) -> Question:
    if entry.answers is None and not entry.is_impossible:
        raise UserError(f"{path}: question '{entry.id}' has no 'answers'; expected a list. Add it.")
    # In SQuAD 2.0 an impossible question has plausible answers only, which do not count.
    listed = [answer for answer in entry.answers or () if answer.text.strip() and not entry.is_impossible]
    answers = []
    for text, start in ((answer.text, answer.answer_start) for answer in listed):
        exact = start >= 0 and context.startswith(text, start)
        places = [start] if exact else [place for place in range(len(context)) if context.startswith(text, place)]
        if not places:
            raise UserError(f"{path}: the answer '{text[:40]}' of question '{entry.id}' is not in its context")
        answers.append(Answer(text, min(places, key=lambda place: abs(place - start))))
    return Question(entry.id, entry.question, context, tuple(answers))
