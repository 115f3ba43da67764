"""Read documents without repeats and hold some of them out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tfdistill.cache.folder import cache_directory, cache_folder, cache_lock
from tfdistill.corpora.corpus import _VERSION, Corpus, _damage
from tfdistill.corpora.parts import SUMS
from tfdistill.corpora.plain_text import text_files
from tfdistill.corpora.writer import store
from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.system.files import atomic_directory, atomic_write
from tfdistill.system.files import sha256 as file_sha256
from tfdistill.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class PlainText:
    """Where text comes from and how it is divided; nothing is read before `prepare`.

    Args:
        source: a file, a directory or `demo:plain-text`.
        held_out: share of the documents that is kept from training, to measure on.
        seed: decides which these are.
        megabytes: read only so much text, from the start; None reads all.
        segmented: words are what stands between white space, as a program cut them that parts Chinese into words. The pieces are
            the same; which of them make a word is stored beside them, for whole-word masking.
    """

    source: str
    held_out: float = 0.02
    seed: int = 0
    megabytes: float | None = None
    segmented: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.held_out < 1:
            raise UserError(f"the held-out share is {self.held_out}; expected 0 or more, and less than 1, such as 0.02")
        if self.megabytes is not None and self.megabytes <= 0:
            raise UserError(f"{self.megabytes} MB of text were asked for; expected more than 0")

    def prepare(self, tokenizer: Tokenizer, *, advance: Callable[[int], Any] | None = None) -> Corpus:
        """The tokenized corpus, from the cache if the same text was tokenized in the same way before. A damaged one is made again.

        Memory stays flat: text is read as a stream, and token ids are written to disk as they are made; what stays
        in memory is 8 bytes for each sentence.

        Args:
            advance: told the number of bytes of text (UTF-8) after each batch of sentences.

        Raises:
            UserError: no text, bytes that are not UTF-8, or nothing left to train on.
        """
        files = text_files(self.source)
        settings = [_VERSION, tokenizer.fingerprint, self.held_out, self.seed, self.megabytes, *map(file_sha256, files)]
        settings += ["segmented"] if self.segmented else []
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:20]
        directory = cache_directory() / "corpora" / key
        if not directory.is_dir() or _damage(directory):
            place = cache_folder("corpora") / key
            with cache_lock(place):
                wrong = (
                    _damage(directory) if directory.is_dir() else ""
                )  # another process may have made it while we waited
                if wrong:
                    say(f"{directory}: {wrong}; the text is tokenized again")
                if wrong or not directory.is_dir():
                    with atomic_directory(directory) as temporary:
                        store(self, files, tokenizer, temporary, advance or (lambda _: None))
                        sums = {file.name: file_sha256(file) for file in sorted(temporary.iterdir())}
                        atomic_write(temporary / SUMS, json.dumps(sums, indent=1) + "\n")
        return Corpus(directory, tokenizer)
