"""Questions about texts, with answers that are spans of the text (SQuAD)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tfdistill.data.dataset import Dataset, Rows
from tfdistill.data.records import split_files
from tfdistill.data.squad import Question, load_squad
from tfdistill.data.squad_answers import Prediction, predict_answers, scores_of
from tfdistill.data.squad_windows import Windows, windows
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer


class Reading(BaseModel):
    """How contexts are cut into windows, and answers chosen: the values of BERT's SQuAD example are the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stride: int | None = Field(
        None,
        ge=1,
        description="tokens between the beginnings of two windows; 128, fewer if windows are short",
    )
    max_question_length: int | None = Field(None, ge=1, description="tokens of a question that are kept; 64")
    n_best: int = Field(20, ge=1, description="starts and ends that are tried, and answers that are listed")
    max_answer_length: int = Field(30, ge=1, description="tokens of the longest answer")
    threshold: float = Field(
        0.0, allow_inf_nan=False, description='"" is the answer if it scores this much above the best other answer'
    )

    def sizes(self, max_length: int) -> dict[str, int]:
        """Return the sizes that `windows` takes. Without a `stride`, windows overlap by half or more."""
        question = min(64, max_length // 4) if self.max_question_length is None else self.max_question_length
        stride = max(1, min(128, (max_length - question - 3) // 2)) if self.stride is None else self.stride
        return {"max_length": max_length, "max_question_length": question, "stride": stride}


@dataclass(frozen=True, repr=False)
class QuestionSplit:
    """The questions of one split."""

    questions: list[Question]

    def __repr__(self) -> str:
        return f"QuestionSplit({len(self):,} questions)"

    def __len__(self) -> int:
        return len(self.questions)

    def take(self, indices: Iterable[int]) -> QuestionSplit:
        """Return the questions at `indices`, in that order."""
        return QuestionSplit([self.questions[i] for i in indices])


@dataclass(frozen=True, repr=False)
class QuestionData(Dataset[QuestionSplit]):
    """Questions about texts; the model gives a start and an end logit for each token."""

    name: str
    splits: dict[str, QuestionSplit]
    reading: Reading = field(default_factory=Reading)
    label_names: None = None
    metrics: tuple[str, ...] = ()

    per_token = True
    task = "question_answering"
    num_outputs = 2
    is_pair = True

    @property
    def fingerprint(self) -> str:
        content = [
            [name, [astuple(question) for question in split.questions]] for name, split in sorted(self.splits.items())
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def encode(self, split: QuestionSplit, tokenizer: Tokenizer, max_length: int) -> QuestionRows:
        """Cut the contexts into windows; raises UserError if `max_length` is too short for a question with its context.

        Nothing of a context is lost. `uncut` counts the tokens of long questions, which are.
        """
        sizes = self.reading.sizes(max_length)
        cut = windows(tokenizer, split.questions, **sizes)
        whole = tokenizer.token_ids([question.question for question in split.questions]).lengths
        lost = np.maximum(whole - sizes["max_question_length"], 0)
        encoded = replace(cut.encoded, uncut=cut.encoded.lengths + lost[cut.question])
        return QuestionRows(encoded, cut.spans, None, split, self.reading, cut)


@dataclass(frozen=True, eq=False)
class QuestionRows(Rows):
    """One row for each window, labelled by the first and last token of the answer; logits are (rows, tokens or more, 2)."""

    split: QuestionSplit
    reading: Reading
    windows: Windows

    def answers(self, logits: np.ndarray) -> dict[str, Prediction]:
        """Return the predicted answers by question id."""
        chosen = self.reading.model_dump(include={"n_best", "max_answer_length", "threshold"})
        return predict_answers(self.split.questions, self.windows, logits, **chosen)

    def cut_line(self, max_length: int, *, option: str = "", longest: int | None = None) -> str | None:
        """Return a line about questions that were cut. Contexts become several windows instead."""
        cut, asked = len(set(self.windows.question[self.encoded.cut].tolist())), len(self.split)
        if not cut:
            return None
        kept = self.reading.sizes(max_length)["max_question_length"]
        return (
            f"{100 * cut / asked:.1f} % of the questions ({cut:,} of {asked:,}) are longer than {kept} tokens and are cut; "
            "squad:DIR?max_question_length=... keeps more"
        )

    def score(self, logits: np.ndarray) -> dict[str, float]:
        return scores_of(self.split.questions, self.answers(logits))

    def predictions(self, logits: np.ndarray) -> list[dict[str, Any]]:
        answers = self.answers(logits)
        return [_as_object(question, answers[question.id]) for question in self.split.questions]


def _as_object(question: Question, prediction: Prediction) -> dict[str, Any]:
    score = prediction.no_answer_score
    return {
        "id": question.id,
        "answers": [answer.text for answer in question.answers],
        "predicted": prediction.text,
        "no_answer_score": float(score) if np.isfinite(score) else None,
        "n_best": [candidate._asdict() for candidate in prediction.n_best],
    }


def load_squad_directory(spec: str | Path) -> QuestionData:
    """Load a directory with train*.json and dev*.json (and test*.json), such as train-v1.1.json and dev-v1.1.json.

    Args:
        spec: the directory; settings of `Reading` may follow, as in "DIR?stride=64&n_best=5".

    Raises:
        UserError: there are no files, two files for one split, unknown settings, or as `load_squad`.
    """
    name, _, settings = str(spec).partition("?")
    reading = _reading(settings)
    path = Path(name).expanduser()
    files = split_files(path, _split_of) if path.is_dir() else {}
    if not files:
        raise UserError(f"no SQuAD files at '{path}'; expected a directory with train*.json and dev*.json")
    splits = {name: QuestionSplit(load_squad(file)) for name, file in files.items()}
    return QuestionData(str(path), splits, reading)


def _split_of(file: Path) -> str | None:
    name = file.name.lower()
    if not name.endswith(".json"):
        return None
    return next((split for split in ("train", "dev", "test") if name.startswith(split)), None)


def _reading(settings: str) -> Reading:
    values = dict(parse_qsl(settings, keep_blank_values=True))
    try:
        return Reading.model_validate(values)
    except ValidationError as error:
        (first, *_) = error.errors()
        key, known = str(first["loc"][0]), ", ".join(Reading.model_fields)
        why = f"expected one of {known}" if first["type"] == "extra_forbidden" else first["msg"]
        raise UserError(
            f"?{settings}: {key}={values.get(key, '')}: {why}, for instance squad:DIR?stride=64&n_best=5"
        ) from error
