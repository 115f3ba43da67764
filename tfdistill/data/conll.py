"""Read tagged words from CoNLL files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tfdistill.data.table_files import decoded
from tfdistill.data.tagged_data import TaggedData, TaggedSplit
from tfdistill.errors import UserError, listing, nearest

_SUFFIXES = (".conll", ".txt", ".bio", ".iob", ".iob2", ".tsv")
_NAMES = {
    "train": "train",
    "eng.train": "train",
    **dict.fromkeys(("dev", "valid", "validation", "testa", "eng.testa"), "dev"),
    **dict.fromkeys(("test", "testb", "eng.testb"), "test"),
}


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
