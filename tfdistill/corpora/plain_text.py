"""Plain text, read as a stream and cut into documents and sentences.

Sources. A text file (UTF-8; gzip is recognised by its content, so `.txt.gz` and dictd's `.dict.dz` work), a directory (all
`.txt` and `.txt.gz` below it, sorted by name), or `demo:plain-text`.

Documents. A blank line ends a document, as in BERT's own pre-training data; the lines of a document are joined, since books
wrap their lines. A file without any blank line in its first thousand lines (or million characters) is a list of texts: each
line is a document.

Sentences. A sentence ends with `.`, `!`, `?` or `…` (and closing quotes or brackets) before white space and a character that
is no small letter; not after an initial, an abbreviation of `ABBREVIATIONS` or one with inner points (`e.g.`). Chinese and
Japanese full stops end one wherever they stand. A sentence of 30 characters or more is kept once in the whole corpus, the
first time, whatever its case and spacing; so no such sentence is both held out and trained on.
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
    """The files of a source. Raises UserError when there are none, or for an unknown demo text."""
    name = os.fspath(source)
    if name.startswith("demo:"):
        key = name.removeprefix("demo:")
        if key not in _DEMOS:
            raise UserError(f"unknown demo text '{key}'; expected {', '.join(_DEMOS)}{nearest(key, _DEMOS)}")
        path = _DEMOS[key]()
    else:
        path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            f"no text at '{name}'; expected a .txt or .txt.gz file, a directory of them, or demo:plain-text"
        )
    files = sorted(file for file in path.rglob("*") if file.name.endswith(SUFFIXES) and file.is_file())
    if not files:
        raise UserError(
            f"{path} has no .txt or .txt.gz files in it; expected plain text: give a file or such a directory"
        )
    return files


@dataclass(frozen=True)
class Span:
    """A part of a text file: from byte `start` to before byte `end`, None to the end. Its documents are those that `documents`
    finds between the boundaries at or behind these two places; all spans of a file together have each document once.
    """

    path: str
    start: int = 0
    end: int | None = None
    one_a_line: bool = False


def spans(path: str | os.PathLike, size: int) -> list[Span]:
    """A file cut at every `size` bytes; a gzip file, which cannot be entered in the middle, stays whole."""
    name = os.fspath(path)
    with _errors(name, lambda: 0):
        with open_bytes(name) as stream:
            is_gzip = stream.read(2) == _GZIP
            total = stream.seek(0, os.SEEK_END)
        ahead, one_a_line = _look_ahead(_lines(Span(name)))
    if is_gzip or not ahead:
        return [Span(name, one_a_line=one_a_line)]
    starts = [*range(0, max(total - size // 2, 1), size)]  # the last is not made of a few bytes
    return [Span(name, a, b, one_a_line) for a, b in zip(starts, [*starts[1:], None], strict=True)]


def documents(source: Path | Span) -> Iterator[str]:
    """Documents of one file, or of a span of it, in order. What is longer than a million characters comes in parts."""
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
    """The first lines, and whether each is a document."""
    ahead: list[str] = []
    size = 0
    for line in lines:
        ahead.append(line)
        size += len(line)
        if len(ahead) == _LOOK_AHEAD or size > _LONGEST:
            break
    while ahead and not ahead[-1]:  # blank lines at the end of a short file say nothing
        ahead.pop()
    return ahead, all(ahead)


@contextmanager
def _errors(path: str, number: Callable[[], int]) -> Iterator[None]:
    """What can be wrong with a file, as one line; `number` gives that of the text."""
    try:
        yield
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise UserError(
            f"{path}, line {number()}: byte {wrong:#04x} is not UTF-8; expected UTF-8 text: save the file so"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"cannot read {path}: {error}; expected a whole gzip file, fetch it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; expected a file that can be read") from error


def _lines(span: Span) -> Iterator[str]:
    """Lines of a file or of a part of it, UTF-8, plain or gzip, with single spaces between words."""
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
    """The first byte at or behind `place` with which a document begins: behind a line, or behind a blank one."""
    stream.seek(place - 1)
    while (line := stream.readline(_LONGEST)) and not line.endswith(b"\n"):
        pass
    while not one_a_line and (line := stream.readline(_LONGEST)) and line.strip():
        pass
    return stream.tell()


def _raw_lines(stream: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    """Lines, those that are too long for memory in parts: cut at a space, or else between two characters."""
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
    """The sentences of a text by the rule of this module, without white space around them. Nothing of it is lost."""
    found, start = [], 0
    for match in _END.finditer(text):
        after = text[match.end() : match.end() + 2].lstrip("\"'“‘«([")
        if match.group()[0] in ".!?…" and (
            not after or after[0].islower() or _is_abbreviation(text[start : match.start() + 1], match.group())
        ):
            continue
        found.append(text[start : match.end()].strip())
        start = match.end()
    return [sentence for sentence in (*found, text[start:].strip()) if sentence]


def _is_abbreviation(before: str, mark: str) -> bool:
    """Whether the point at the end of `before` belongs to its last word."""
    if mark.rstrip() != ".":
        return False
    word = _LAST_WORD.search(before)
    if word is None:
        return False
    name = word.group(1)
    is_initial = len(name) == 1 and name.isupper() and name != "I"
    return is_initial or "." in name or name.lower() in ABBREVIATIONS


def text_number(text: str, seed: int = 0) -> int:
    """A 64-bit hash of a text, whatever its case and spacing."""
    content = "".join(text.casefold().split()).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(content, digest_size=8, salt=seed.to_bytes(8, "little")).digest(), "little")


class _Kept(dict[int, str | int]):
    """For `str.translate`: control and format characters and those without a meaning go, as in BERT's own cleaning."""

    def __missing__(self, code: int) -> str | int:
        character = chr(code)
        gone = unicodedata.category(character) in ("Cc", "Cf", "Co", "Cn", "Cs") or character == "\ufffd"
        self[code] = (" " if character.isspace() else "") if gone else code
        return self[code]


_KEPT = _Kept()


def clean(document: str, least_characters: int, least_letters: float) -> str:
    """A document in Unicode's composed form (NFC) without control characters, with single spaces; "" for one that is shorter than
    `least_characters`, or less than `least_letters` of whose characters, spaces not counted, are letters.
    """
    text = " ".join(unicodedata.normalize("NFC", document.translate(_KEPT)).split())
    solid = text.replace(" ", "")
    if len(text) < least_characters or sum(map(str.isalpha, solid)) < least_letters * len(solid):
        return ""
    return text
