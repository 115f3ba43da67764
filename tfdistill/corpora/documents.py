"""Tokenize plain text into a corpus in the cache.

A document is held out if the hash of (seed, its text) says so: the choice depends neither on the
order of the documents nor on text that is added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfdistill.cache.checksums import damage
from tfdistill.cache.folder import cache_directory, cache_folder, cache_lock
from tfdistill.corpora.corpus import Corpus
from tfdistill.corpora.parts import SUMS
from tfdistill.corpora.plain_text import text_files
from tfdistill.corpora.writer import store
from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.system.files import atomic_directory, atomic_write, read_json
from tfdistill.system.files import sha256 as file_sha256
from tfdistill.text.tokenizer import Tokenizer

_VERSION = 1  # of the stored form; another version makes every cached corpus again


@dataclass(frozen=True)
class PlainText:
    """Describe a text and its division; nothing is read before `prepare`.

    Args:
        source: a file, a directory or `demo:plain-text`.
        held_out: share of the documents that is kept from training, for evaluation.
        seed: decides about the held-out documents.
        megabytes: read only this much text, from the start; None reads all.
        segmented: words are separated by white space, because a program has segmented Chinese text. The
            tokens are the same; the words are stored for whole-word masking.

    Raises:
        UserError: a number is out of range.
    """

    source: str
    held_out: float = 0.02
    seed: int = 0
    megabytes: float | None = None
    segmented: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"the held-out share is {self.held_out}. Use a number from 0 to below 1, such as 0.02.")
        if self.megabytes is not None and self.megabytes <= 0:
            raise UserError(f"`megabytes` is {self.megabytes}. Use a number above 0.")

    def prepare(self, tokenizer: Tokenizer, *, advance: Callable[[int], Any] | None = None) -> Corpus:
        """Return the tokenized corpus, from the cache if the same text was tokenized before.

        A damaged corpus is made again. Memory stays small: text is read as a stream, token ids are
        written as they are made, and 8 bytes for each sentence stay in memory.

        Args:
            tokenizer: the tokenizer.
            advance: called with the number of bytes of text (UTF-8) of each batch of sentences.

        Raises:
            UserError: there is no text, it is not UTF-8, or no text is left to train on.
        """
        files = text_files(self.source)
        settings = [_VERSION, tokenizer.fingerprint, self.held_out, self.seed, self.megabytes, *map(file_sha256, files)]
        settings += ["segmented"] if self.segmented else []
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:20]
        directory = cache_directory() / "corpora" / key
        if not directory.is_dir() or _damage(directory):
            place = cache_folder("corpora") / key
            with cache_lock(place):
                # Another process may have made it in the meantime.
                wrong = _damage(directory) if directory.is_dir() else ""
                if wrong:
                    say(f"{directory}: {wrong}; the text is tokenized again")
                if wrong or not directory.is_dir():
                    with atomic_directory(directory) as temporary:
                        store(self, files, tokenizer, temporary, advance or (lambda _: None))
                        sums = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
                        atomic_write(temporary / SUMS, json.dumps(sums, indent=1) + "\n")
        return Corpus(directory, tokenizer)


def _damage(directory: Path) -> str:
    """Return what is wrong with a cached corpus, or ""."""
    try:
        sums = read_json(directory / SUMS, "")
    except UserError as error:
        return str(error)
    return damage(directory, {name: str(value) for name, value in sums.items()})
