"""Open a tokenized corpus of plain text on disk, for pre-training and general distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.corpora.masking import Masker, Masking, require_words
from tfdistill.corpora.parts import PARTS, Part, Stored, load_array
from tfdistill.corpora.sequences import CorpusExamples
from tfdistill.errors import UserError
from tfdistill.system.files import read_json, require_regular
from tfdistill.text.tokenizer import Tokenizer

DTYPES = ("<u2", "<i4")  # of token ids, as `CorpusWriter` writes them


class Corpus:
    """Open a tokenized corpus, memory-mapped; `PlainText.prepare` makes it.

    Args:
        directory: the directory; its name is the fingerprint of the text and the way it was read.
        tokenizer: the tokenizer of the ids.

    Attributes:
        about: the source, and counts of documents, sentences, repeated sentences, bytes and tokens.
        counts: (V,) the count of each token in the text.

    Raises:
        UserError: a file is missing or damaged.
    """

    def __init__(self, directory: Path, tokenizer: Tokenizer):
        self.directory, self.tokenizer, self.fingerprint = directory, tokenizer, directory.name
        self.about = read_json(directory / "corpus.json", f"delete {directory} and try again", strict=True)
        self._check_about()
        self.counts = load_array(directory / "counts.npy")
        if self.counts.shape != (len(tokenizer.vocabulary),) or self.counts.dtype.kind not in "iu":
            raise self._damaged(f"counts.npy has {self.counts.shape} counts for {len(tokenizer.vocabulary)} tokens")

    def _check_about(self) -> None:
        """Check corpus.json, and the sizes of the files that it describes."""
        for part in PARTS:
            count = self.about.get(f"{part}_tokens")
            if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count < 1 << 62:
                raise self._damaged(f"corpus.json has `{part}_tokens` {count!r}"[:200])
        if self.about.get("dtype") not in DTYPES or not isinstance(self.about.get("source"), str):
            raise self._damaged("corpus.json has another `dtype` or `source` than a corpus")
        for part in PARTS:
            kinds = {"ids": np.dtype(self.about["dtype"]).itemsize}
            kinds |= {"starts": 1} if self.about.get("segmented") else {}
            for kind, width in kinds.items() if self.tokens(part) else ():
                path, expected = self.directory / f"{part}.{kind}", self.tokens(part) * width
                size = require_regular(path, f"{self.directory} is damaged: delete it and try again")
                if size != expected:
                    raise self._damaged(f"{path.name} has {size} bytes, expected {expected}")

    def _damaged(self, why: str) -> UserError:
        return UserError(f"{self.directory} is damaged ({why}). Delete it and try again.")

    def tokens(self, part: Part = "train") -> int:
        """Return the number of tokens of a part, including one [SEP] for each document."""
        return int(self.about[f"{part}_tokens"])

    def part(self, name: Part) -> Stored:
        """Return the arrays of a part."""
        size = self.tokens(name)
        ids, starts = self._mapped(f"{name}.ids", self.about["dtype"], size), None
        if self.about.get("segmented"):
            starts = self._mapped(f"{name}.starts", np.bool_, size)
        sentences_, documents_ = (load_array(self.directory / f"{name}.{w}.npy") for w in ("sentences", "documents"))
        for array, end in ((sentences_, size), (documents_, len(sentences_) - 1)):
            is_whole = (
                array.ndim == 1 and array.dtype.kind in "iu" and len(array) and array[0] == 0 and array[-1] == end
            )
            if not is_whole or (np.diff(array.astype(np.int64)) < 0).any():
                raise self._damaged(
                    f"the places of sentences and documents of part '{name}' do not fit its {size} tokens"
                )
        return Stored(ids, sentences_, documents_, starts)

    def _mapped(self, file: str, dtype: Any, size: int) -> np.ndarray:
        if not size:
            return np.zeros(0, dtype)
        try:
            return np.memmap(self.directory / file, dtype, "r", shape=(size,))
        except (OSError, ValueError) as error:
            raise self._damaged(str(error)) from error

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
    ) -> CorpusExamples:
        """Cut a part into sequences for `Distiller.fit`.

        Args:
            part: the part.
            length: L, tokens of a sequence, including [CLS] and [SEP].
            masking: how to mask; None leaves the text as it is, without labels.
            next_sentence: make pairs with labels 0 (b follows a) and 1 (b is from elsewhere), as in BERT.
            every_position: put `masked_positions` among the labels, so that the model returns logits of
                all positions.
            limit: the largest number of sequences, spread evenly over the part.
            seed: decides where a document is cut into pairs.
            counts: (V,) counts of the whole text, if this corpus is a shard of it.

        Raises:
            UserError: the part is empty, or has fewer than two documents to make pairs from; or whole words
                are to be masked in Chinese text that is not segmented.
        """
        counts = self.counts if counts is None else counts
        if masking is not None and masking.whole_words and not self.about.get("segmented"):
            require_words(self.tokenizer, counts)
        masker = None if masking is None else Masker(masking, self.tokenizer.vocabulary, counts)
        return CorpusExamples(self, part, length, masker, next_sentence, every_position, limit, seed)
