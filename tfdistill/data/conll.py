"""Read tagged words from CoNLL files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tfdistill.data.records import decoded, names_in, read_bytes, split_files
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

    A line is a word and its tag, the first and the last of columns separated by white space. Sentences end with a blank line;
    lines that begin with -DOCSTART- are skipped. A directory has train, dev (valid, testa) and test (testb) files ending in
    .conll, .txt, .bio, .iob or .tsv, or named as in CoNLL-2003 (eng.train, eng.testa, eng.testb).

    Args:
        path: the directory or file.
        label_names: the tags in the order to number them, such as a teacher's; by default "O" and then the tags of train, sorted.

    Raises:
        UserError: there are no files, a line has no tag, a file is not UTF-8, or dev or test have a tag that train lacks.
    """
    path = Path(path).expanduser()
    if path.is_file():
        files = {"train": path}
    elif path.is_dir():
        files = split_files(path, _split_of)
        if not files:
            raise UserError(f"{path} has {names_in(path)}; expected train, dev and test files ending in .conll")
    else:
        raise UserError(f"no data at '{path}'; expected a CoNLL file, or a directory with train, dev and test files")
    splits: dict[str, TaggedSplit] = {
        split: _read(files[split]) for split in ("train", "dev", "test") if split in files
    }
    if label_names is None:
        if "train" not in splits:
            raise UserError(f"{path} has no train file, so its tags are unknown. Add one.")
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


def _split_of(file: Path) -> str | None:
    return _NAMES.get(file.name.lower()) or (
        _NAMES.get(file.stem.lower()) if file.suffix.lower() in _SUFFIXES else None
    )


def _read(path: Path) -> TaggedSplit:
    words: list[list[str]] = [[]]
    tags: list[list[str]] = [[]]
    columns = 0
    for number, line in enumerate(decoded(path, read_bytes(path)).split("\n"), start=1):
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
                f"{path}, line {number}: got {len(cells)} columns; expected {max(columns, 2)}, a word first, its tag last"
            )
        words[-1].append(cells[0])
        tags[-1].append(cells[-1])
    if not words[-1]:
        words.pop()
        tags.pop()
    if not words:
        raise UserError(f"{path} has no tagged words; expected lines of a word and its tag")
    return TaggedSplit(words, tags)
