"""Tagged words: CoNLL files, labels on first pieces, and tags of whole words from token logits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfdistill.data.batching import NO_LABEL
from tfdistill.data.table_files import decoded
from tfdistill.errors import UserError, listing, nearest
from tfdistill.metrics.entities import entity_scores
from tfdistill.text.encoded import Encoded
from tfdistill.text.offsets import pieces_with_offsets
from tfdistill.text.tokenizer import Tokenizer

_SUFFIXES = (".conll", ".txt", ".bio", ".iob", ".iob2", ".tsv")
_NAMES = {
    "train": "train",
    "eng.train": "train",
    **dict.fromkeys(("dev", "valid", "validation", "testa", "eng.testa"), "dev"),
    **dict.fromkeys(("test", "testb", "eng.testb"), "test"),
}


@dataclass(frozen=True)
class TaggedSplit:
    """Sentences of words; tags[s][w] is the tag of words[s][w]."""

    words: list[list[str]]
    tags: list[list[str]]

    def __len__(self) -> int:
        return len(self.words)

    def take(self, indices: Iterable[int]) -> TaggedSplit:
        """The sentences at `indices`, in that order."""
        indices = list(indices)
        return TaggedSplit([self.words[i] for i in indices], [self.tags[i] for i in indices])


@dataclass(frozen=True)
class TaggedData:
    """Splits by name; `label_names` are the tags of train, "O" first and the others sorted."""

    name: str
    splits: dict[str, TaggedSplit]
    label_names: tuple[str, ...]
    task: str = "token_classification"
    metrics: tuple[str, ...] = ()
    is_pair: bool = False

    @property
    def num_outputs(self) -> int:
        return len(self.label_names)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over tags and sentences, as hexadecimal text."""
        said = [self.label_names, [[name, split.words, split.tags] for name, split in sorted(self.splits.items())]]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def load_conll(path: str | Path, *, label_names: Sequence[str] | None = None) -> TaggedData:
    """Read a directory of CoNLL files, or one file as the split "train".

    A line is a word and its tag, the first and the last of columns with white space between; sentences end with a blank
    line; lines that begin with -DOCSTART- are left out. In a directory: train, dev (valid, testa) and test (testb) files
    ending in .conll, .txt, .bio, .iob or .tsv, or named as in CoNLL-2003 (eng.train, eng.testa, eng.testb).

    Args:
        label_names: the tags in the order to number them, such as a teacher's; those of train when None.

    Raises:
        UserError: nothing there, a line without a tag, no UTF-8, or a tag in dev or test that train never had.
    """
    path = Path(path).expanduser()
    if path.is_file():
        files = {"train": path}
    elif path.is_dir():
        files = _files(path)
    else:
        raise UserError(f"no data at '{path}'; expected a CoNLL file, or a directory with train, dev and test files")
    splits: dict[str, TaggedSplit] = {
        split: _read(files[split]) for split in ("train", "dev", "test") if split in files
    }
    if label_names is None:
        if "train" not in splits:
            raise UserError(f"{path} has no train file, so its tags are unknown; expected one: add it")
        used = {tag for row in splits["train"].tags for tag in row}
        label_names = ["O", *sorted(used - {"O"})]
    known = set(label_names)
    for split, part in splits.items():
        for row in part.tags:
            for tag in row:
                if tag not in known:
                    raise UserError(
                        f"{files[split]} has the tag '{tag}'; expected one of {listing(label_names)}"
                        f"{nearest(tag, label_names)}, as in train or in the model"
                    )
    return TaggedData(str(path), splits, tuple(label_names))


def _files(path: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        name = file.name.lower()
        split = _NAMES.get(name) or (_NAMES.get(file.stem.lower()) if file.suffix.lower() in _SUFFIXES else None)
        if split is None or not file.is_file():
            continue
        if split in files:
            raise UserError(
                f"{path} has {files[split].name} and {file.name}, both for the {split} split; expected one: remove one"
            )
        files[split] = file
    if not files:
        there = listing(sorted(file.name for file in path.iterdir())) or "nothing"
        raise UserError(
            f"{path} has no CoNLL files, it has {there}; expected train, dev and test files ending in .conll or .txt"
        )
    return files


def _read(path: Path) -> TaggedSplit:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected a readable CoNLL file") from error
    words: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    columns = 0
    for number, line in enumerate(decoded(path, content).split("\n"), start=1):
        line = line.strip(" \t\r")
        cells = re.split("[ \t]+", line) if line else []  # other kinds of space may be within a word
        if not cells or cells[0] == "-DOCSTART-":
            if words[-1]:
                words.append([])
                tags.append([])
            continue
        columns = columns or len(cells)
        if len(cells) < 2 or len(cells) != columns:
            raise UserError(
                f"{path}, line {number}: got {len(cells)} columns; expected {max(columns, 2)}, a word first and its tag last, "
                "and blank lines between sentences"
            )
        words[-1].append(cells[0])
        tags[-1].append(cells[-1])
    if not words[-1]:
        words.pop()
        tags.pop()
    if not words:
        raise UserError(f"{path} has no tagged words; expected lines of a word and its tag")
    return TaggedSplit(words, tags)


# --- tokens ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TaggedRows:
    """[CLS] words [SEP], one row a sentence. labels (total,) int32: the number of the tag on the first piece of each word,
    −100 on all other tokens. words (total,) int32: the word of a first piece, −1 elsewhere."""

    encoded: Encoded
    labels: np.ndarray
    words: np.ndarray


def tagged_rows(
    tokenizer: Tokenizer, split: TaggedSplit, label_names: Sequence[str], *, max_length: int = 128
) -> TaggedRows:
    """Tokenize each word by itself and label its first piece. Sentences of more than `max_length` tokens are cut; words of
    which the tokenizer leaves nothing (control characters) have no token."""
    if max_length < 3:
        raise UserError(f"max_length is {max_length}; expected at least 3, for one piece with [CLS] and [SEP]")
    numbers = {name: number for number, name in enumerate(label_names)}
    vocabulary = list(dict.fromkeys(word for row in split.words for word in row))
    found = pieces_with_offsets(tokenizer, vocabulary)
    pieces = {word: found.ids[found.offsets[n] : found.offsets[n + 1]] for n, word in enumerate(vocabulary)}
    ids: list[int] = []
    labels: list[int] = []
    places: list[int] = []
    offsets = [0]
    for row, tags in zip(split.words, split.tags, strict=True):
        body = [
            (int(piece), numbers[tag] if first == 0 else NO_LABEL, place if first == 0 else -1)
            for place, (word, tag) in enumerate(zip(row, tags, strict=True))
            for first, piece in enumerate(pieces[word])
        ]
        outside = (NO_LABEL, -1)
        for piece, label, place in [
            (tokenizer.cls_id, *outside),
            *body[: max_length - 2],
            (tokenizer.sep_id, *outside),
        ]:
            ids.append(piece)
            labels.append(label)
            places.append(place)
        offsets.append(len(ids))
    encoded = Encoded(np.array(ids, np.int32), np.zeros(len(ids), np.int32), np.array(offsets, np.int64))
    return TaggedRows(encoded, np.array(labels, np.int32), np.array(places, np.int32))


def tags_from_logits(
    split: TaggedSplit, rows: TaggedRows, logits: np.ndarray, label_names: Sequence[str]
) -> list[list[str]]:
    """The tag of every word, by the largest logit on its first piece; "O" for words that were cut off.

    logits: (rows, length or more, tags). Raises UserError for another shape.
    """
    lengths = rows.encoded.lengths
    if (
        logits.ndim != 3
        or logits.shape[0] != len(split)
        or logits.shape[1] < lengths.max(initial=0)
        or logits.shape[2] != len(label_names)
    ):
        raise UserError(
            f"got logits of shape {logits.shape}; expected ({len(split)}, {lengths.max(initial=0)} or more, "
            f"{len(label_names)}), one for each tag of each token"
        )
    predicted = [["O"] * len(row) for row in split.words]
    for number, begin in enumerate(rows.encoded.offsets[:-1]):
        words = rows.words[begin : rows.encoded.offsets[number + 1]]
        for position in np.flatnonzero(words >= 0):
            predicted[number][words[position]] = label_names[int(logits[number, position].argmax())]
    return predicted


def scores_of(split: TaggedSplit, rows: TaggedRows, logits: np.ndarray, label_names: Sequence[str]) -> dict[str, float]:
    """Entity F1, precision, recall and token accuracy of token logits over whole sentences."""
    return entity_scores(split.tags, tags_from_logits(split, rows, logits, label_names))
