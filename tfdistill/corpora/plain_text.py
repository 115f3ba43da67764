"""Read plain text as a stream, and cut it into documents and sentences.

Sources. A text file (UTF-8; gzip is recognised by its content, so `.txt.gz` and dictd's `.dict.dz`
work), a directory (all `.txt` and `.txt.gz` below it, sorted by name), or `demo:plain-text`.

Documents. A blank line ends a document, as in BERT's pre-training data; the lines of a document are
joined, because books wrap their lines. If a file has no blank line in its first thousand lines (or
million characters), each line is a document.

Sentences. See `sentences`. A sentence of 30 characters or more is kept once in the whole corpus,
independent of case and spacing; so no such sentence is both held out and trained on.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tfdistill.corpora.demo import plain_text_directory
from tfdistill.corpora.storage import open_bytes
from tfdistill.errors import UserError, nearest

_ABBREVIATIONS = (
    "mr mrs ms dr prof rev hon gen col capt lt sgt gov sen rep st mt jr sr vs etc cf al viz no vol pp fig ch sec art "
    "jan feb mar apr jun jul aug sep sept oct nov dec inc ltd co corp dept est approx ca"
)
ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
_DEMOS: dict[str, Callable[[], Path]] = {"plain-text": plain_text_directory}
SUFFIXES = (".txt", ".txt.gz")
_GZIP = b"\x1f\x8b"
_LOOK_AHEAD = 1000  # lines
_LONGEST = 1 << 20  # bytes of a line, characters of a document: what is longer is taken in parts
SHORT = 30  # characters: shorter sentences may repeat


def text_files(source: str | os.PathLike) -> list[Path]:
    """Return the files of a source. Raises UserError if there are none, or for an unknown demo text."""
    name = os.fspath(source)
    if name.startswith("demo:"):
        key = name.removeprefix("demo:")
        if key not in _DEMOS:
            raise UserError(f"the demo text '{key}' is unknown. Use {', '.join(_DEMOS)}{nearest(key, _DEMOS)}.")
        path = _DEMOS[key]()
    else:
        path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"there is no text at '{name}'. Give a .txt or .txt.gz file, a directory of them, or demo:plain-text."
        )
    files = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
    if not files:
        raise UserError(f"{path} has no .txt or .txt.gz files. Give a file, or a directory with such files.")
    return files


@dataclass(frozen=True)
class Span:
    """Describe a part of a text file.

    Its documents begin at the first boundary at or behind `start` and end at the one at or behind
    `end`. So all spans of a file together have each document once.

    Args:
        path: the file.
        start: the byte to start at.
        end: the byte to end at; None is the end of the file.
        one_a_line: whether each line is a document.
    """

    path: str
    start: int = 0
    end: int | None = None
    one_a_line: bool = False


def spans(path: str | os.PathLike, size: int) -> list[Span]:
    """Cut a file at every `size` bytes. A gzip file stays whole, because it has no entry in the middle."""
    name = os.fspath(path)
    with _errors(name, lambda: 0):
        with open_bytes(name) as stream:
            is_gzip = stream.read(2) == _GZIP
            total = stream.seek(0, os.SEEK_END)
        ahead, one_a_line = _look_ahead(_lines(Span(name)))
    if is_gzip or not ahead:
        return [Span(name, one_a_line=one_a_line)]
    starts = [*range(0, max(total - size // 2, 1), size)]  # The last span is not much smaller than the others.
    return [Span(name, a, b, one_a_line) for a, b in zip(starts, [*starts[1:], None], strict=True)]


def documents(source: Path | Span) -> Iterator[str]:
    """Yield the documents of a file or span in order; parts of those above a million characters."""
    if isinstance(source, Span):
        lines, ahead, one_a_line = _lines(source), list[str](), source.one_a_line
    else:
        lines = _lines(Span(os.fspath(source)))
        ahead, one_a_line = _look_ahead(lines)
    parts: list[str] = []
    size = 0
    for some in (iter(ahead), lines):
        for line in some:
            if line:
                parts.append(line)
                size += len(line)
            if parts and (one_a_line or not line or size > _LONGEST):
                yield " ".join(parts)
                parts, size = [], 0
    if parts:
        yield " ".join(parts)


def _look_ahead(lines: Iterator[str]) -> tuple[list[str], bool]:
    """Return the first lines, and whether each is a document."""
    ahead: list[str] = []
    size = 0
    for line in lines:
        ahead.append(line)
        size += len(line)
        if len(ahead) == _LOOK_AHEAD or size > _LONGEST:
            break
    while ahead and not ahead[-1]:  # Blank lines at the end of a short file mean nothing.
        ahead.pop()
    return ahead, all(ahead)


@contextmanager
def _errors(path: str, number: Callable[[], int]) -> Iterator[None]:
    """Turn the errors of a file into UserError; `number` returns the current line."""
    try:
        yield
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise UserError(f"{path}, line {number()}: byte {wrong:#04x} is not UTF-8. Save the file as UTF-8.") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"cannot read {path}: {error}. The gzip file is not complete; fetch it again.") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}. Give a readable file.") from error


def _lines(span: Span) -> Iterator[str]:
    """Yield the lines of a span, UTF-8, plain or gzip, with single spaces between words."""
    number = 0
    with _errors(span.path, lambda: number), open_bytes(span.path) as raw:
        is_gzip = raw.read(2) == _GZIP
        raw.seek(0)
        stream = gzip.GzipFile(fileobj=raw) if is_gzip else raw
        stop = None if span.end is None else _boundary(stream, span.end, span.one_a_line)
        stream.seek(_boundary(stream, span.start, span.one_a_line) if span.start else 0)
        place = stream.tell()
        for line in _raw_lines(stream):
            if stop is not None and place >= stop:
                break
            number, place = number + 1, place + len(line)
            first = number == 1 and not span.start
            yield " ".join(line.decode("utf-8-sig" if first else "utf-8").split())


def _boundary(stream: BinaryIO | gzip.GzipFile, place: int, one_a_line: bool) -> int:
    """Return the first byte at or behind `place` where a document begins: behind a line, or a blank one."""
    stream.seek(place - 1)
    while (line := stream.readline(_LONGEST)) and not line.endswith(b"\n"):
        pass
    while not one_a_line and (line := stream.readline(_LONGEST)) and line.strip():
        pass
    return stream.tell()


def _raw_lines(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    """Yield lines; a very long one in parts, cut at a space or else between two characters."""
    rest = b""
    while chunk := stream.readline(_LONGEST - len(rest)):
        line = rest + chunk
        if line.endswith(b"\n") or len(line) < _LONGEST:
            yield line
            rest = b""
            continue
        cut = line.rfind(b" ") + 1
        if not cut:
            cut = len(line) - 4
            while line[cut] & 0xC0 == 0x80:
                cut -= 1
        yield line[:cut]
        rest = line[cut:]
    if rest:
        yield rest


_END = re.compile("[.!?…]+[\"'”’»)\\]]*\\s+|[。！？]+[”’」』）]*\\s*")
_LAST_WORD = re.compile(r"([^\s(\[\"'“‘]+)\.$")


def sentences(text: str) -> list[str]:
    """Split a text into sentences, without white space around them. No character is lost.

    A sentence ends with `.`, `!`, `?` or `…` (and closing quotes or brackets) before white space and a
    character that is not a lower-case letter; not after an initial, an abbreviation of
    `ABBREVIATIONS` or one with inner points (`e.g.`). Chinese and Japanese full stops always end one.
    tests/corpora/test_plain_text.py compares it with hand-split sentences, not with another splitter.
    """
    parts, start = [], 0
    for match in _END.finditer(text):
        after = text[match.end() : match.end() + 2].lstrip("\"'“‘«([")
        if match.group()[0] in ".!?…" and (
            not after or after[0].islower() or _is_abbreviation(text[start : match.start() + 1], match.group())
        ):
            continue
        parts.append(text[start : match.end()].strip())
        start = match.end()
    return [sentence for sentence in (*parts, text[start:].strip()) if sentence]


def _is_abbreviation(before: str, mark: str) -> bool:
    """Return whether the point at the end of `before` belongs to its last word."""
    if mark.rstrip() != ".":
        return False
    word = _LAST_WORD.search(before)
    if word is None:
        return False
    name = word.group(1)
    is_initial = len(name) == 1 and name.isupper() and name != "I"
    return is_initial or "." in name or name.lower() in ABBREVIATIONS


def text_number(text: str, seed: int = 0) -> int:
    """Return a 64-bit hash of a text, independent of case and spacing."""
    content = "".join(text.casefold().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, salt=seed.to_bytes(8, "little")).digest(), "little")


class _Kept(dict[int, str | int]):
    """Remove control, format and unassigned characters in `str.translate`, as BERT's cleaning does."""

    def __missing__(self, code: int) -> str | int:
        character = chr(code)
        gone = unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs") or character == "\ufffd"
        self[code] = (" " if character.isspace() else "") if gone else code
        return self[code]


_KEPT = _Kept()


def clean(document: str, least_characters: int, least_letters: float) -> str:
    """Return a document in Unicode's composed form (NFC), without control characters, with single spaces.

    Args:
        document: the text.
        least_characters: shorter documents become "".
        least_letters: documents with a smaller share of letters, without spaces, become "".
    """
    text = " ".join(unicodedata.normalize("NFC", document.translate(_KEPT)).split())
    solid = text.replace(" ", "")
    if len(text) < least_characters or sum(map(str.isalpha, solid)) < least_letters * len(solid):
        return ""
    return text
