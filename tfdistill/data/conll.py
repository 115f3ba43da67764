"""Read tagged words from CoNLL files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfdistill.data.cell_labels import valid_name
from tfdistill.data.conll_columns import Columns, columns_of, header_of
from tfdistill.data.delimited import at_line, lines_of
from tfdistill.data.records import decoded, names_in, read_bytes, split_files
from tfdistill.data.tagged_data import TaggedData, TaggedSplit
from tfdistill.errors import UserError, listing, nearest, short
from tfdistill.metrics.entities import odd_tag, scheme_of
from tfdistill.system.console import say

_SUFFIXES = (".conll", ".txt", ".bio", ".iob", ".iob2", ".tsv")
_NAMES = {
    "train": "train",
    "eng.train": "train",
    **dict.fromkeys(("dev", "valid", "validation", "testa", "eng.testa"), "dev"),
    **dict.fromkeys(("test", "testb", "eng.testb"), "test"),
}


def load_conll(path: str | Path, *, label_names: Sequence[str] | None = None) -> TaggedData:
    """Read a directory of CoNLL files, or one file as the split "train".

    A line is a word and its tag, the first and the last of columns separated by tabs or else by spaces. Sentences end with a
    blank line; lines that begin with -DOCSTART- and comments ("# …" before a sentence) are skipped. Columns that only count, a
    header, and tags that are not in the last column are found and printed. A directory has train, dev (valid, testa) and test
    (testb) files ending in .conll, .txt, .bio, .iob or .tsv, or named as in CoNLL-2003 (eng.train, eng.testa, eng.testb).

    Tags have the prefixes B-, I-, E-, S- (or L-, U-, M-), the same as suffixes, or none (parts of speech, or IO).

    Args:
        path: the directory or file.
        label_names: the tags in the order to number them, such as a teacher's; by default "O" and then the tags of train, sorted.

    Raises:
        UserError: there are no files, a line has no tag, a file is not UTF-8, only some tags have a prefix, or dev or test have a
            tag that train lacks.
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
    parts = _tagged([_read(files[split]) for split in ("train", "dev", "test") if split in files])
    splits = dict(zip((split for split in ("train", "dev", "test") if split in files), parts, strict=True))
    if label_names is None:
        if "train" not in splits:
            raise UserError(f"{path} has no train file, so its tags are unknown. Add one.")
        label_names = ["O", *sorted(splits["train"].tag_lines.keys() - {"O"})]
        _check_scheme(files["train"], splits["train"].tag_lines)
    for split, part in splits.items():
        for tag, line in part.tag_lines.items():
            if tag not in label_names:
                raise UserError(
                    f"{files[split]}, line {line}: the tag '{short(tag)}' is unknown; expected one of {listing(label_names)}"
                    f"{nearest(tag, label_names)}, as in train or in the model"
                )
    return TaggedData(str(path), {name: part.split for name, part in splits.items()}, tuple(label_names))


def _check_scheme(path: Path, tag_lines: dict[str, int]) -> None:
    """Say how tags without B- and I- are read; raises UserError if only some have such a prefix."""
    scheme, odd = scheme_of(tag_lines), odd_tag(tag_lines)
    if odd is not None:
        raise UserError(
            f"{path}, line {tag_lines[odd]}: the tag '{short(odd)}' has no prefix; expected O, or B- and I- with a kind, as in "
            f"{listing(sorted(tag_lines.keys() - {odd, 'O'}), 4)}"
        )
    if scheme == "plain" and len(tag_lines) > 1:
        entities = "neighbours with the same tag are one entity" if "O" in tag_lines else "the first score is accuracy"
        say(f"{path}: the tags have no prefix such as B- ({listing(sorted(tag_lines), 4)}); {entities}")
    elif scheme == "suffix":
        say(f"{path}: the tags have suffixes such as -B, which are read like prefixes")


def _split_of(file: Path) -> str | None:
    return _NAMES.get(file.name.lower()) or (
        _NAMES.get(file.stem.lower()) if file.suffix.lower() in _SUFFIXES else None
    )


@dataclass(frozen=True)
class _File:
    """The lines of a file by sentence, each with its number and cells, and its header."""

    path: Path
    sentences: list[list[tuple[int, list[str]]]]
    header: Columns | None

    @property
    def width(self) -> int:
        return len(self.sentences[0][0][1])

    @property
    def cells(self) -> list[list[list[str]]]:
        return [[cells for _, cells in sentence] for sentence in self.sentences]


@dataclass(frozen=True)
class _Tagged:
    """The sentences of a file, and the line on which each tag occurs first."""

    split: TaggedSplit
    tag_lines: dict[str, int]


def _read(path: Path) -> _File:
    lines = [line.strip(" \t\r") for line in lines_of(decoded(path, read_bytes(path)))]
    usual = [line for line in lines if line and line[0] != "#" and not line.startswith("-DOCSTART-")]
    # Other kinds of space may be within a word; spaces too where all columns are separated by tabs.
    separator = re.compile(" *\t[ \t]*" if usual and all("\t" in line for line in usual) else "[ \t]+")
    last_cells = {separator.split(line)[-1] for line in usual}
    width = len(separator.split(usual[0])) if usual else 0
    columns, header = 0, None
    sentences: list[list[tuple[int, list[str]]]] = [[]]
    for number, line in enumerate(lines, start=1):
        cells = separator.split(line) if line else []
        if not cells or "-DOCSTART-" in cells[:2]:
            if sentences[-1]:
                sentences.append([])
            continue
        # Before a sentence, "#" begins a comment, unless the line looks like the lines of words.
        if line[0] == "#" and not sentences[-1] and not (len(cells) == width and cells[-1] in last_cells):
            continue
        if not columns and len(cells) > 1 and sum(other == line for other in lines) == 1 and header_of(cells):
            header = header_of(cells)
            columns = len(cells)
            continue
        columns = columns or len(cells)
        if len(cells) < 2 or len(cells) != columns:
            raise UserError(
                f"{path}, line {number}: got {len(cells)} columns; expected {max(columns, 2)}, a word first, its tag last"
            )
        sentences[-1].append((number, cells))
    if not sentences[-1]:
        sentences.pop()
    if not sentences:
        raise UserError(f"{path} has no tagged words; expected lines of a word and its tag")
    return _File(path, sentences, header)


def _tagged(files: Sequence[_File]) -> list[_Tagged]:
    """Take the words and tags from the columns of all files. Files with as many columns have the same ones."""
    chosen: dict[int, Columns] = {}
    tagged = []
    for file in files:
        alike = [other for other in files if other.width == file.width]
        if file.width not in chosen:
            with at_line(file.path, file.sentences[0][0][0]):
                headers = [other.header for other in alike if other.header]
                found = headers[0] if headers else columns_of([cells for other in alike for cells in other.cells])
            if found.note:
                say(f"{file.path}: {found.note}")
            chosen[file.width] = found
        tagged.append(_split(file, chosen[file.width]))
    return tagged


def _split(file: _File, columns: Columns) -> _Tagged:
    words: list[list[str]] = []
    tags: list[list[str]] = []
    tag_lines: dict[str, int] = {}
    for sentence in file.sentences:
        # CoNLL-U has further lines for contractions (1-2) and for words that are left out (8.1).
        kept = [(number, cells) for number, cells in sentence if not (columns.counts and not cells[0].isdigit())]
        for number, cells in kept:
            if cells[columns.tag] not in tag_lines:
                with at_line(file.path, number):
                    tag_lines[valid_name("the tag", cells[columns.tag])] = number
        if kept:
            words.append([cells[columns.word] for _, cells in kept])
            tags.append([cells[columns.tag] for _, cells in kept])
    return _Tagged(TaggedSplit(words, tags), tag_lines)
