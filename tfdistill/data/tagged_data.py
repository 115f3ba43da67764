"""Sentences with one tag for each word: labels on first tokens, and tags of whole words from token logits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfdistill.data.batching import NO_LABEL
from tfdistill.data.dataset import Dataset, Rows
from tfdistill.errors import UserError
from tfdistill.metrics.entities import entity_scores
from tfdistill.text.encoded import Encoded
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.words import token_ids_of


@dataclass(frozen=True, repr=False)
class TaggedSplit:
    """Sentences of words; `tags[s][w]` is the tag of `words[s][w]`."""

    words: list[list[str]]
    tags: list[list[str]]

    def __repr__(self) -> str:
        return f"TaggedSplit({len(self):,} sentences)"

    def __len__(self) -> int:
        return len(self.words)

    def take(self, indices: Iterable[int]) -> TaggedSplit:
        """Return the sentences at `indices`, in that order."""
        indices = list(indices)
        return TaggedSplit([self.words[i] for i in indices], [self.tags[i] for i in indices])


@dataclass(frozen=True, repr=False)
class TaggedData(Dataset[TaggedSplit]):
    """Tagged sentences; `label_names` are the tags."""

    name: str
    splits: dict[str, TaggedSplit]
    label_names: tuple[str, ...]
    metrics: tuple[str, ...] = ()

    per_token = True
    task = "token_classification"
    is_pair = False

    @property
    def num_outputs(self) -> int:
        return len(self.label_names)

    @property
    def fingerprint(self) -> str:
        content = [self.label_names, [[name, split.words, split.tags] for name, split in sorted(self.splits.items())]]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def encode(self, split: TaggedSplit, tokenizer: Tokenizer, max_length: int) -> TaggedRows:
        """Tokenize each word separately and label its first token; words of control characters have no token."""
        if max_length < 3:
            raise UserError(f"max_length is {max_length}; expected at least 3, for one token with [CLS] and [SEP]")
        numbers = {name: number for number, name in enumerate(self.label_names)}
        token_ids = token_ids_of((word for row in split.words for word in row), tokenizer)
        tokens: list[tuple[int, int, int]] = []  # the id, the label and the word of each token
        offsets, uncut = [0], []
        for row, tags in zip(split.words, split.tags, strict=True):
            body = [
                (int(token), numbers[tag] if first == 0 else NO_LABEL, place if first == 0 else -1)
                for place, (word, tag) in enumerate(zip(row, tags, strict=True))
                for first, token in enumerate(token_ids[word])
            ]
            tokens += [(tokenizer.cls_id, NO_LABEL, -1), *body[: max_length - 2], (tokenizer.sep_id, NO_LABEL, -1)]
            offsets.append(len(tokens))
            uncut.append(len(body) + 2)
        ids, labels, words = np.array(tokens, np.int32).reshape(-1, 3).T.copy()
        encoded = Encoded(ids, np.zeros_like(ids), np.array(offsets, np.int64), uncut=np.array(uncut, np.int64))
        return TaggedRows(encoded, None, labels, split, self.label_names, words)


@dataclass(frozen=True, eq=False)
class TaggedRows(Rows):
    """[CLS] words [SEP], one row for each sentence; logits are (rows, tokens or more, tags).

    The first token of each word has the tag's number in `token_labels` and the word's number in `words`; other tokens have -100
    and -1. Both are (total,) int32.
    """

    split: TaggedSplit
    label_names: tuple[str, ...]
    words: np.ndarray

    def score(self, logits: np.ndarray) -> dict[str, float]:
        """Return entity F1, precision, recall and token accuracy over whole sentences."""
        return entity_scores(self.split.tags, self.tags(logits))

    def predictions(self, logits: np.ndarray) -> list[dict[str, Any]]:
        return [
            {"words": words, "tags": tags, "predicted": predicted}
            for words, tags, predicted in zip(self.split.words, self.split.tags, self.tags(logits), strict=True)
        ]

    def tags(self, logits: np.ndarray) -> list[list[str]]:
        """Return the tag of each word by the largest logit on its first token; "O" for words that were cut off."""
        longest = self.encoded.lengths.max(initial=0)
        shape, outputs = logits.shape, len(self.label_names)
        if len(shape) != 3 or shape[0] != len(self.split) or shape[1] < longest or shape[2] != outputs:
            raise UserError(f"got logits of shape {shape}; expected ({len(self.split)}, {longest} or more, {outputs})")
        predicted = [["O"] * len(row) for row in self.split.words]
        for number, begin in enumerate(self.encoded.offsets[:-1]):
            words = self.words[begin : self.encoded.offsets[number + 1]]
            for position in np.flatnonzero(words >= 0):
                predicted[number][words[position]] = self.label_names[int(logits[number, position].argmax())]
        return predicted
