"""Answer for texts with a bundle, which needs no TensorFlow, or with a model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfdistill.data.decisions import decide, decide_tags, words_of
from tfdistill.data.squad import Question
from tfdistill.errors import UserError, short
from tfdistill.export.bundle.manifest import GOLDEN, MANIFEST, MODEL, damaged, intact, read_object
from tfdistill.export.tflite.runtime import TFLiteModel
from tfdistill.models.tasks import NOT_TRANSFORMERS
from tfdistill.system.notes import note
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer

_LEAST = 5  # tokens of the shortest pair


class _Model(Protocol):
    """What a bundle and a model have in common."""

    title: str
    task: str
    names: tuple[str, ...]
    tokenizer: Tokenizer
    length: int
    pairs: bool | None  # whether it reads two texts; None if it reads one or two

    def logits(self, rows: Encoded) -> np.ndarray: ...


class Classifier:
    """Answer for texts: classes, several labels, a number, entities, or the span of a text that answers a question.

    Args:
        source: a bundle that `tfdistill export` wrote, which needs no TensorFlow; or another name that `tfdistill.load` takes, such
            as the directory of a run or of a student.

    Attributes:
        task: the task of its head.
        label_names: its classes or tags, in the order of the logits; () if it has none.
        length: tokens of an example that it reads; longer texts are cut, and contexts of questions are read in parts.

    Raises:
        UserError: nothing at `source`, a damaged bundle or model, or a model without a head.

    Example:
        classifier = tfdistill.Classifier("BUNDLE")
        classifier("play some jazz")["label"]
        classifier(["play some jazz", "will it rain?"])  # a list of dicts
    """

    def __init__(self, source: str | os.PathLike):
        directory = Path(source)
        is_bundle = (directory / MANIFEST).exists() or (directory / MODEL).exists()
        self._model: _Model = _Bundle(directory) if is_bundle else _Keras(os.fspath(source))
        self.task, self.label_names, self.length = self._model.task, self._model.names, self._model.length

    def __call__(self, texts: str | Sequence[str], texts_b: str | Sequence[str] | None = None) -> Any:
        """Return the answer for a text, or a list of answers for several.

        Args:
            texts: a text, or n texts; for question answering the questions.
            texts_b: the second text of each pair, or one for all; for question answering the contexts.

        Returns:
            For each text a dict as `tfdistill.data.decisions.decide` and `decide_tags` describe it. An answer to a question
            is `answer`, `start`, `end` (exclusive) and `score`; `answer` is "" and `start` None without one. `truncated` is
            True where the end of a text was cut off and not read.

        Raises:
            UserError: a text is empty or not a text, or second texts are missing, needless or of another number.
        """
        alone = isinstance(texts, str)
        first: list[str] = [texts] if isinstance(texts, str) else list(texts)
        second = [texts_b] * len(first) if isinstance(texts_b, str) else None if texts_b is None else list(texts_b)
        self._check(first, second)
        if not first:
            return []
        if self.task == "question_answering":
            assert second is not None
            answers = self._answers(first, second)
        elif self.task == "token_classification":
            answers = self._tags(first)
        else:
            answers = self._classes(first, second)
        return answers[0] if alone else answers

    def _check(self, first: list[str], second: list[str] | None) -> None:
        title, asks = self._model.title, self.task == "question_answering"
        if second is None and (asks or self._model.pairs):
            raise UserError(f"{title} reads two texts. Give {'the context' if asks else 'the second text'} too.")
        if second is not None and (self.task == "token_classification" or self._model.pairs is False):
            raise UserError(f"{title} reads one text. Leave out the second one.")
        if second is not None and len(second) != len(first):
            raise UserError(f"received {len(first)} first and {len(second)} second texts. Use the same number of both.")
        for column, texts in (("text", first), ("second text", second or [])):
            for number, text in enumerate(texts, 1):
                if not isinstance(text, str):
                    raise UserError(f"{column} {number} is {short(str(text))}, a {type(text).__name__}. Use a text.")
                if not text.strip():
                    raise UserError(f"{column} {number} is empty. Give a text.")

    def _classes(self, first: list[str], second: list[str] | None) -> list[dict[str, Any]]:
        rows = self._model.tokenizer.encode(first, second, max_length=self.length)
        logits = self._model.logits(rows)
        answers = [decide(self.task, row, self.label_names) for row in logits]
        return [_marked(answer, bool(cut)) for answer, cut in zip(answers, rows.cut, strict=True)]

    def _tags(self, texts: list[str]) -> list[dict[str, Any]]:
        """Tokenize each word by itself, as in training, and read the logits of its first token."""
        from tfdistill.data.tagged_data import TaggedData, TaggedSplit

        spans = [words_of(text) for text in texts]
        words = [[text[a:b] for a, b in own] for text, own in zip(texts, spans, strict=True)]
        tags = [[self.label_names[0]] * len(row) for row in words]  # not read
        data = TaggedData("texts", {}, self.label_names)
        rows = data.encode(TaggedSplit(words, tags), self._model.tokenizer, self.length)
        logits, answers = self._model.logits(rows.encoded), []
        for number, begin in enumerate(rows.encoded.offsets[:-1]):
            places = rows.words[begin : rows.encoded.offsets[number + 1]]
            firsts = np.flatnonzero(places >= 0)
            own = [spans[number][places[place]] for place in firsts]
            answer = decide_tags(texts[number], own, [logits[number, place] for place in firsts], self.label_names)
            answers.append(_marked(answer, bool(rows.encoded.cut[number])))
        return answers

    def _answers(self, questions: list[str], contexts: list[str]) -> list[dict[str, Any]]:
        from tfdistill.data.question_data import QuestionData, QuestionSplit

        pairs = enumerate(zip(questions, contexts, strict=True))
        split = QuestionSplit([Question(str(number), question, context, ()) for number, (question, context) in pairs])
        rows = QuestionData("texts", {}).encode(split, self._model.tokenizer, self.length)
        predictions = rows.answers(self._model.logits(rows.encoded))
        answers = []
        for question in split.questions:
            chosen = predictions[question.id]
            score = next(each.probability for each in chosen.n_best if each.text == chosen.text)
            end = None if chosen.start is None else chosen.start + len(chosen.text)
            answers.append({"answer": chosen.text, "start": chosen.start, "end": end, "score": score})
        cut = set(rows.windows.question[rows.encoded.cut].tolist())
        return [_marked(answer, number in cut) for number, answer in enumerate(answers)]


def _marked(answer: dict[str, Any], cut: bool) -> dict[str, Any]:
    return {**answer, "truncated": True} if cut else answer


class _Bundle:
    """A bundle whose files have the checksums of its manifest."""

    def __init__(self, directory: Path):
        manifest, _ = intact(directory)
        self.title, path = str(directory), directory / MANIFEST
        task, names = manifest.get("task"), manifest.get("label_names")
        if not isinstance(task, str) or not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise damaged(f"{path} lacks the task or the label names")
        self.task, self.names = task, tuple(names)
        self.tokenizer = Tokenizer.from_directory(directory)
        self._file = TFLiteModel(directory / MODEL)
        self.length = self._file.length
        if task not in ("regression", "question_answering") and len(self.names) != self._file.outputs:
            raise damaged(f"{path} has {len(self.names)} label names, {MODEL} has {self._file.outputs} outputs")
        self.pairs = _reads_pairs(directory, manifest)

    def logits(self, rows: Encoded) -> np.ndarray:
        return self._file.predict(rows, workers=1 if len(rows) < 64 else 2)


def _reads_pairs(directory: Path, manifest: dict[str, Any]) -> bool | None:
    """Return whether a bundle reads two texts: siamese encoders always do, and their golden texts are all pairs."""
    if manifest.get("family") not in NOT_TRANSFORMERS:
        return False if manifest.get("mediapipe") else None
    vectors = read_object(directory / GOLDEN).get("vectors")
    return isinstance(vectors, list) and all(isinstance(each, dict) and "text_b" in each for each in vectors)


class _Keras:
    """A model that `tfdistill.load` reads."""

    def __init__(self, source: str):
        from tfdistill.models.load import load, open_model
        from tfdistill.models.training_record import max_length_of
        from tfdistill.system.tensorflow_import import import_tensorflow

        stored = open_model(source)
        if stored is not None:
            stored.require_head()
        import_tensorflow()
        model = load(stored or source, new_head=False)
        if model.task in ("masked_lm", "pretraining"):
            raise UserError(f"{source} is a {model.task} model, which answers nothing. Fine-tune it first.")
        self._keras, self.title, self.task, self.tokenizer = model, source, model.task, model.tokenizer
        names = model.label_names or tuple(f"LABEL_{number}" for number in range(model.num_outputs))
        self.names = () if model.task in ("regression", "question_answering") else tuple(names)
        longest = getattr(model.config, "max_position_embeddings", None)
        length = max_length_of(source)
        self.length = max(_LEAST, length if longest is None else min(length, longest))
        self.pairs: bool | None = getattr(model.config, "pair", None)

    def logits(self, rows: Encoded) -> np.ndarray:
        from tfdistill.models.predict import predict_logits

        return predict_logits(self._keras, rows)


def note_truncated(answers: Sequence[dict[str, Any]], length: int) -> None:
    """Print a line about texts whose end was not read."""
    cut = sum("truncated" in answer for answer in answers)
    if cut:
        note(f"{cut} of {len(answers)} texts are longer than {length} tokens: the end of them was not read.")
