"""Tokenize one text with two vocabularies: the teacher's, and a small one that is learned.

Zhao, Gupta, Song and Zhou 2019, "Extreme Language Model Compression with Optimal Subwords and Shared
Projections", section 3.1. In the teacher's input its own tokens keep their ids; the student's tokens
follow behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from tfdistill.corpora.masking import Masker, Masking, uniforms
from tfdistill.corpora.sequences import Batch, SequenceBatches, TextExamples
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import SPECIAL
from tfdistill.text.words import token_ids_of

_SEGMENTATION = 201  # stream of random numbers
_COUNT_BATCH = 256


def learn_vocabulary(sequences: TextExamples, tokenizer: Tokenizer, size: int) -> Tokenizer:
    """Learn a WordPiece vocabulary with tensorflow-text.

    Args:
        sequences: the text.
        tokenizer: the tokenizer of `sequences`; its settings stay.
        size: the approximate number of tokens.

    Raises:
        UserError: the text has too few words.
    """
    if tokenizer.added:
        raise UserError(
            f"the teacher's tokenizer has added tokens, such as {tokenizer.added[0].content!r}, which a learned vocabulary "
            "would split. Use a teacher without them."
        )
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

    counts: Counter[str] = Counter()
    for start in range(0, len(sequences), _COUNT_BATCH):
        made = sequences.batch(np.arange(start, min(start + _COUNT_BATCH, len(sequences))))["student"]
        for ids, mask in zip(made["token_ids"], made["padding_mask"], strict=True):
            counts.update(word for word in tokenizer.words_of(ids[mask > 0]) if word not in SPECIAL)
    learned = learner.learn(counts, size, list(SPECIAL), lower_thresh=1)
    if learned is None or len(learned) < 0.5 * size:
        raise UserError(
            f"the text gives {0 if learned is None else len(learned)} word pieces; {size} are requested. "
            "Give more text, or lower `vocab_size`."
        )
    return Tokenizer(
        list(dict.fromkeys([*SPECIAL, *learned])),
        lower_case=tokenizer.lower_case,
        strip_accents=tokenizer.strip_accents,
        tokenize_chinese_chars=tokenizer.tokenize_chinese_chars,
    )


@dataclass(frozen=True, eq=False)
class MixedSequences(SequenceBatches):
    """Make masked sequences for both models: the student's vocabulary, and both for the teacher.

    Batches: {"student", "teacher": {token_ids, padding_mask, segment_ids, masked_positions}, "labels":
    {masked_labels, masked_weights, teacher_labels, teacher_weights}}. Both inputs are masked
    independently.

    Args:
        sequences: the text, tokenized by the teacher's tokenizer and without masks.
        teacher: the teacher's tokenizer.
        student: the student's tokenizer.
        length: L, tokens of a sequence.
        share: probability that a word of the teacher's input is tokenized by the student's tokenizer,
            drawn from (seed, epoch, example, word).
        masking: how to mask.
    """

    sequences: TextExamples
    teacher: Tokenizer
    student: Tokenizer
    length: int
    share: float = 0.5
    masking: Masking = field(default_factory=Masking)

    at_a_time = 1  # All batches share the caches of words.

    def __len__(self) -> int:
        return len(self.sequences)

    def rows_at(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        return self._order(seed, epoch)[places]

    @cached_property
    def _order(self) -> Callable[[int, int], np.ndarray]:
        return lru_cache(maxsize=4)(lambda seed, epoch: np.random.default_rng([seed, epoch]).permutation(len(self)))

    @property
    def fingerprint(self) -> str:
        return self.sequences.fingerprint

    @cached_property
    def _maskers(self) -> tuple[Masker, Masker]:
        both = self.teacher.vocabulary + self.student.vocabulary
        return Masker(self.masking, self.student.vocabulary), Masker(self.masking, both)

    @cached_property
    def _known(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The token ids of words, by the student's and the teacher's tokenizer."""
        student, teacher = (
            {token: np.array([tokenizer.vocabulary.index(token)], np.int32) for token in SPECIAL}
            for tokenizer in (self.student, self.teacher)
        )
        return student, teacher

    def batch(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Batch:
        plain = self.sequences.batch(rows, seed=seed, epoch=epoch)["student"]
        texts = [
            self.teacher.words_of(ids[mask > 0])
            for ids, mask in zip(plain["token_ids"], plain["padding_mask"], strict=True)
        ]
        for known, tokenizer in zip(self._known, (self.student, self.teacher), strict=True):
            new = {word for words in texts for word in words} - known.keys()
            known |= token_ids_of(sorted(new), tokenizer)
        by_student, by_teacher = self._known
        draws = uniforms(seed, epoch, _SEGMENTATION, rows, max(map(len, texts)))
        behind = len(self.teacher.vocabulary)
        student_ids, teacher_ids = [], []
        for words, draw in zip(texts, draws, strict=True):
            student_ids.append(np.concatenate([by_student[word] for word in words]))
            mixed = [
                by_student[word] + behind if number < self.share and word not in SPECIAL else by_teacher[word]
                for word, number in zip(words, draw, strict=False)
            ]
            teacher_ids.append(np.concatenate(mixed))
        student, labels = self._masked(student_ids, self.student, self._maskers[0], rows, seed, epoch)
        teacher, other = self._masked(teacher_ids, self.teacher, self._maskers[1], rows, seed + 1, epoch)
        labels |= {"teacher_labels": other["masked_labels"], "teacher_weights": other["masked_weights"]}
        return {"student": student, "teacher": teacher, "labels": labels}

    def _masked(
        self, texts: list[np.ndarray], tokenizer: Tokenizer, masker: Masker, rows: np.ndarray, seed: int, epoch: int
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        ids = np.full((len(texts), self.length), tokenizer.pad_id, np.int32)
        mask = np.zeros_like(ids)
        for number, text in enumerate(texts):
            kept = min(len(text), self.length)
            ids[number, :kept], mask[number, :kept] = text[:kept], 1
            ids[number, kept - 1] = tokenizer.sep_id
        made = masker(ids, mask, rows, seed=seed, epoch=epoch)
        inputs = {"token_ids": made["token_ids"], "padding_mask": mask, "segment_ids": np.zeros_like(ids)}
        inputs["masked_positions"] = made["masked_positions"]
        return inputs, {name: made[name] for name in ("masked_labels", "masked_weights")}
