"""Two vocabularies on one text: a small one learned from it, and the teacher's input segmented with both.

Zhao, Gupta, Song and Zhou 2019, "Extreme Language Model Compression with Optimal Subwords and Shared Projections", section 3.1.
Ids of the teacher's input: its own pieces keep theirs, the student's pieces follow behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from tfdistill.corpora.masking import Masker, Masking, uniforms
from tfdistill.corpora.sequences import SequenceBatches, TextExamples
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import SPECIAL
from tfdistill.text.words import token_ids_of

_SEGMENTATION = 201  # stream of random numbers
_COUNT_BATCH = 256


def learn_vocabulary(sequences: TextExamples, tokenizer: Tokenizer, size: int) -> Tokenizer:
    """A WordPiece vocabulary of about `size` pieces, learned by tensorflow-text from the words of `sequences`.

    Raises UserError when the text is too little for so many pieces.
    """
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

    counts: Counter[str] = Counter()
    for start in range(0, len(sequences), _COUNT_BATCH):
        made = sequences.batch(np.arange(start, min(start + _COUNT_BATCH, len(sequences))))["student"]
        for ids, mask in zip(made["token_ids"], made["padding_mask"], strict=True):
            counts.update(word for word in tokenizer.words_of(ids[mask > 0]) if word not in SPECIAL)
    learned = learner.learn(counts, size, list(SPECIAL), lower_thresh=1)
    if learned is None or len(learned) < 0.5 * size:
        raise UserError(
            f"the text gives {0 if learned is None else len(learned)} word pieces, {size} were asked for; give more text, or "
            "set vocab_size to less"
        )
    return Tokenizer(
        list(dict.fromkeys([*SPECIAL, *learned])),
        lower_case=tokenizer.lower_case,
        strip_accents=tokenizer.strip_accents,
        tokenize_chinese_chars=tokenizer.tokenize_chinese_chars,
    )


@dataclass(frozen=True, eq=False)
class _Pieces:
    """What a Masker asks of a tokenizer."""

    vocabulary: tuple[str, ...]
    mask_id: int | None


@dataclass(frozen=True, eq=False)
class MixedSequences(SequenceBatches):
    """Masked sequences for both models: the student's in its own vocabulary, the teacher's in both.

    Every word of the teacher's input is segmented with the student's vocabulary with probability `share`, drawn from
    (seed, epoch, row, word). Both are masked independently.

    Batches: {"student", "teacher": {token_ids, padding_mask, segment_ids, masked_positions}, "labels": {masked_labels,
    masked_weights, teacher_labels, teacher_weights}}.
    """

    sequences: TextExamples
    teacher: Tokenizer
    student: Tokenizer
    length: int
    share: float = 0.5
    masking: Masking = field(default_factory=Masking)

    at_a_time = 1  # the caches of words are shared

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
        both = _Pieces(self.teacher.vocabulary + self.student.vocabulary, self.teacher.mask_id)
        return Masker(self.masking, self.student), Masker(self.masking, both)  # type: ignore[arg-type]

    @cached_property
    def _student_pieces(self) -> dict[str, np.ndarray]:
        return {piece: np.array([self.student.vocabulary.index(piece)], np.int32) for piece in SPECIAL}

    @cached_property
    def _teacher_pieces(self) -> dict[str, np.ndarray]:
        return {piece: np.array([self.teacher.vocabulary.index(piece)], np.int32) for piece in SPECIAL}

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, dict[str, np.ndarray]]:
        plain = self.sequences.batch(rows, seed=seed, epoch=epoch)["student"]
        texts = [
            self.teacher.words_of(ids[mask > 0])
            for ids, mask in zip(plain["token_ids"], plain["padding_mask"], strict=True)
        ]
        for known, tokenizer in ((self._student_pieces, self.student), (self._teacher_pieces, self.teacher)):
            new = {word for words in texts for word in words} - known.keys()
            known |= token_ids_of(sorted(new), tokenizer)
        draws = uniforms(seed, epoch, _SEGMENTATION, rows, max(map(len, texts)))
        behind = len(self.teacher.vocabulary)
        ours, theirs = [], []
        for words, draw in zip(texts, draws, strict=True):
            own = [self._student_pieces[word] for word in words]
            ours.append(np.concatenate(own))
            mixed = [
                pieces + behind if number < self.share and word not in SPECIAL else self._teacher_pieces[word]
                for word, pieces, number in zip(words, own, draw, strict=False)
            ]
            theirs.append(np.concatenate(mixed))
        student, labels = self._masked(ours, self.student, self._maskers[0], rows, seed, epoch)
        teacher, other = self._masked(theirs, self.teacher, self._maskers[1], rows, seed + 1, epoch)
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
