"""A tokenized corpus of plain text on disk, for pre-training and general distillation.

Held out. A document is held out when the hash of (seed, its text) says so: the same documents whatever their order, and
still the same ones when text is added.

How text is read stands in `tfdistill.corpora.plain_text`, what is made of the corpus in `tfdistill.corpora.sequences`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.cache.checksums import damage
from tfdistill.corpora.masking import Masker, Masking, require_words
from tfdistill.corpora.parts import SUMS, Part, Stored, load_array
from tfdistill.corpora.sequences import TextExamples
from tfdistill.errors import UserError
from tfdistill.text.tokenizer import Tokenizer

_VERSION = 1  # of the stored form; a new one makes every cached corpus anew


def _damage(directory: Path) -> str:
    """What is wrong with a cached corpus, or ""."""
    try:
        sums = {str(name): str(value) for name, value in json.loads((directory / SUMS).read_text("utf-8")).items()}
    except FileNotFoundError:
        return "there are no checksums, as older versions left it"
    except (OSError, ValueError, AttributeError) as error:
        return f"{SUMS} is damaged ({error})"
    return damage(directory, sums)


class Corpus:
    """A tokenized corpus on disk, memory-mapped. Made by `PlainText.prepare`.

    Attributes:
        tokenizer: whose ids these are.
        about: counts of documents, sentences, repeated sentences, bytes and tokens.
        counts: (V,) how often each piece stands in the text.
        fingerprint: of the text and of how it was read, which the name of its directory in the cache is.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer):
        self.directory, self.tokenizer, self.fingerprint = directory, tokenizer, directory.name
        try:
            self.about: dict[str, Any] = json.loads((directory / "corpus.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{directory} is damaged ({error}); delete it and try again") from error
        self.counts = load_array(directory / "counts.npy")

    def tokens(self, part: Part = "train") -> int:
        """Word pieces in a part, one [SEP] for each document counted."""
        return int(self.about[f"{part}_tokens"])

    def part(self, name: Part) -> Stored:
        size = self.tokens(name)
        ids, starts = self._mapped(f"{name}.ids", self.about["dtype"], size), None
        if self.about.get("segmented"):
            starts = self._mapped(f"{name}.starts", np.bool_, size)
        sentences_, documents_ = (load_array(self.directory / f"{name}.{w}.npy") for w in ("sentences", "documents"))
        return Stored(ids, sentences_, documents_, starts)

    def _mapped(self, file: str, dtype: Any, size: int) -> np.ndarray:
        if not size:
            return np.zeros(0, dtype)
        try:
            return np.memmap(self.directory / file, dtype, "r", shape=(size,))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.directory} is damaged ({error}); delete it and try again") from error

    def examples(
        self,
        part: Part = "train",
        *,
        length: int = 128,
        masking: Masking | None = None,
        next_sentence: bool = False,
        every_position: bool = False,
        limit: int | None = None,
        seed: int = 0,
        counts: np.ndarray | None = None,
    ) -> TextExamples:
        """Sequences of a part, ready for `Distiller.fit`.

        Args:
            length: L, word pieces of a sequence, [CLS] and [SEP] included.
            masking: how to mask; None leaves the text as it is and gives no labels for it.
            next_sentence: make pairs, with labels 0 (b follows a) and 1 (b comes from elsewhere), as in BERT.
            every_position: put `masked_positions` among the labels, so that the model gives logits of all positions.
            limit: at most so many sequences, spread evenly over the part.
            seed: decides where a document is cut into pairs.
            counts: of each piece in the whole text, where this is a part of it.

        Raises:
            UserError: the part is empty, or has no two documents to make pairs from; or whole words are to be masked in Chinese
                text that is not segmented.
        """
        if masking is not None and masking.whole_words and not self.about.get("segmented"):
            require_words(self.tokenizer, self.counts if counts is None else counts)
        masker = None if masking is None else Masker(masking, self.tokenizer, self.counts if counts is None else counts)
        return TextExamples(self, part, length, masker, next_sentence, every_position, limit, seed)
