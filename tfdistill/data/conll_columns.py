"""Find the columns of a CoNLL file that hold the words and the tags."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tfdistill.metrics.entities import PREFIXED

_COUNT = re.compile(r"[0-9]+(?:[-.][0-9]+)?")  # CoNLL-U numbers contractions 1-2 and words that are left out 8.1
_CHUNKS = {"NP", "VP", "PP", "ADJP", "ADVP", "SBAR", "PRT", "CONJP", "INTJ", "LST", "UCP", "NC", "PC", "VC", "AC"}
_WORD_NAMES = ("word", "words", "token", "tokens", "form", "text")
_TAG_NAMES = ("ner_tags", "ner_tag", "ner", "tag", "tags", "label", "labels", "entity", "bio", "iob", "pos")


class Columns(NamedTuple):
    """The places of the words and the tags, from 0, and a note about them if they are not the first and the last.

    `counts` is whether the first column only counts.
    """

    word: int
    tag: int
    note: str = ""
    counts: bool = False


def header_of(cells: Sequence[str]) -> Columns | None:
    """Return the columns that a header line names, or None if the line is not a header."""
    names = [cell.lower().lstrip("#") for cell in cells]
    words = [names.index(name) for name in _WORD_NAMES if name in names]
    tags = [names.index(name) for name in _TAG_NAMES if name in names]
    if not words or not tags:
        return None
    return Columns(words[0], tags[0], f"line 1 is a header; {_reads(words[0], tags[0])}")


def columns_of(sentences: Sequence[Sequence[Sequence[str]]]) -> Columns:
    """Find the columns by their content.

    Args:
        sentences: the cells of each line, at least two and everywhere the same number.

    Raises:
        ValueError: no column can be the words, or none the tags.
    """
    rows = [cells for sentence in sentences for cells in sentence]
    columns = list(zip(*rows, strict=True))
    last = len(columns) - 1
    word = 0
    while word < last - 1 and len(rows) > 2 and all(map(_COUNT.fullmatch, columns[word])):
        word += 1
    if last == 1 and _counts_up(sentences):
        raise ValueError("the first column only counts; expected a word first and its tag last")
    if _entities(columns[word]) and not _entities(columns[last]) and len(rows) > 2:
        raise ValueError(f"column {word + 1} holds tags; expected a word first and its tag last")
    tag, why = _tag_column(columns, word)
    cells = set(columns[tag])
    if cells == {"_"} or (len(rows) > 2 and all(map(_COUNT.fullmatch, cells))):
        raise ValueError(
            f"column {tag + 1} holds {'only _' if cells == {'_'} else 'only numbers'}; expected a word first and its tag last. "
            "Cut the file to these two columns."
        )
    if word or why:
        counts = "column 1 only counts; " if word == 1 else f"columns 1 to {word} only count; "
        return Columns(word, tag, (counts if word else "") + why + _reads(word, tag), word > 0)
    return Columns(word, tag)


def _reads(word: int, tag: int) -> str:
    return f"column {word + 1} is read as the word and column {tag + 1} as its tag"


def _tag_column(columns: Sequence[Sequence[str]], word: int) -> tuple[int, str]:
    """Return the column of the tags, and why it is not simply the last one."""
    last = len(columns) - 1
    found = [place for place in range(word + 1, last + 1) if _entities(columns[place])]
    chunks = [place for place in found if place != last and _kinds(columns[place]) <= _CHUNKS]
    found = [place for place in found if place not in chunks]
    if not found or found == [last]:
        return last, ""
    if len(found) == 1:
        return found[0], "" if found[0] == last else f"only column {found[0] + 1} has tags such as B-X; "
    both = f"columns {' and '.join(str(place + 1) for place in found)} have tags such as B-X; "
    return (found[0] if word else last), both  # after a column that counts: the outer and the inner tags of GermEval


def _counts_up(sentences: Sequence[Sequence[Sequence[str]]]) -> bool:
    """Return whether the words of every sentence are 0, 1, 2, … or 1, 2, 3, …, and there is more than one word in some."""
    if sum(map(len, sentences)) < 3 or max(map(len, sentences)) < 2:
        return False
    firsts = [[cells[0] for cells in sentence] for sentence in sentences]
    return all(words in ([str(n + start) for n in range(len(words))] for start in (0, 1)) for words in firsts) or [
        word for words in firsts for word in words
    ] in ([str(n + start) for n in range(sum(map(len, firsts)))] for start in (0, 1))


def _entities(column: Sequence[str]) -> bool:
    """Return whether a column has tags of entities, and nothing else."""
    cells = set(column)
    return all(cell == "O" or PREFIXED.fullmatch(cell) for cell in cells) and any("-" in cell for cell in cells)


def _kinds(column: Sequence[str]) -> set[str]:
    return {cell[2:] for cell in set(column) if "-" in cell}
