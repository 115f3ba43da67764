"""Vocabulary trimming: keep the word pieces that the data need, and measure what changed.

WordPiece takes the longest piece that fits at each place. So a text whose pieces are all kept has the
same tokens as before and the same logits; only its ids are renumbered. A word that lost a piece is
split into shorter ones. It does not become [UNK], since all single characters of the vocabulary stay,
alone and with ##. (Exception: characters that a vocabulary has only inside longer pieces. BERT's
uncased English vocabulary of 30,522 pieces has none.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tfdistill.errors import UserError
from tfdistill.models.tasks import HEADS
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import CLS, MASK, PAD, SEP, UNK
from tfdistill.text.words import cleaned_words

_SPECIAL = (PAD, UNK, CLS, SEP, MASK)


@dataclass(frozen=True)
class Segmentation:
    """Compare how two vocabularies split the same words. Shares are of all words, repeated ones counted.

    Args:
        words: number of words.
        resegmented: share of words that have other tokens than before.
        unknown: share of words that are or contain [UNK].
        unknown_before: the same with the whole vocabulary.
        pieces: mean number of tokens of a word.
        pieces_before: the same with the whole vocabulary.
        examples: some of the words that changed, the most frequent first.
    """

    words: int
    resegmented: float
    unknown: float
    unknown_before: float
    pieces: float
    pieces_before: float
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Parity:
    """Compare two models on the same examples.

    Args:
        rows: number of examples.
        same_pieces: share of examples with the same tokens.
        max_difference: largest absolute difference of logits of these examples, which should be rounding only; None if
            there are none.
        same_answer: share of all examples with the same largest logit.
    """

    rows: int
    same_pieces: float
    max_difference: float | None
    same_answer: float


def word_counts(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """Count each cleaned word of `texts`."""
    return Counter(cleaned_words(list(texts), tokenizer))


def _pieces(tokenizer: Tokenizer, words: Sequence[str]) -> list[tuple[int, ...]]:
    return [tuple(ids.tolist()) for ids in tokenizer.token_ids(words).rows(range(len(words)))]


def is_character(piece: str) -> bool:
    """Return whether a word piece is a single character, at the start of a word or inside (##)."""
    return len(piece.removeprefix("##") or piece) == 1


def pieces_to_keep(
    tokenizer: Tokenizer,
    texts: Iterable[str],
    *,
    min_count: int = 1,
    keep: Collection[str] = (),
    at_least: int = 0,
) -> np.ndarray:
    """Choose the word pieces that stay: special tokens, single characters, and what `texts` use.

    Args:
        tokenizer: has the whole vocabulary.
        texts: all texts that should keep their tokens, also augmented and unlabelled ones.
        min_count: drop pieces that occur less often; their words are then split further.
        keep: more pieces that stay.
        at_least: the smallest size of the vocabulary. It is filled up from the beginning, where BERT's
            vocabularies have the frequent pieces.

    Returns:
        Their ids, ascending.

    Raises:
        UserError: no texts, or a piece in `keep` that the vocabulary does not have.
    """
    tokenizer.require_wordpiece("A vocabulary is trimmed")
    vocabulary = tokenizer.vocabulary
    wrong = sorted(set(keep) - set(vocabulary))
    if wrong:
        raise UserError(f"The vocabulary does not have '{wrong[0]}', which `keep` names. Leave it out.")
    counts = word_counts(tokenizer, texts)
    if not counts:
        raise UserError("Trimming needs the texts that the model will read. Received none, or only empty ones.")
    used = np.zeros(len(vocabulary), np.int64)
    words = list(counts)
    for word, ids in zip(words, _pieces(tokenizer, words), strict=True):
        np.add.at(used, list(ids), counts[word])
    added = {token.content for token in tokenizer.added}
    always = np.array(
        [piece in _SPECIAL or is_character(piece) or piece in keep or piece in added for piece in vocabulary]
    )
    stays = always | (used >= max(1, min_count))
    others = np.flatnonzero(~stays)
    stays[others[: max(0, at_least - int(stays.sum()))]] = True
    return np.flatnonzero(stays)


def trim_vocabulary(model: TextModel, kept: np.ndarray) -> TextModel:
    """Return a new model and tokenizer with only some word pieces, all other weights copied.

    Args:
        model: the whole model, with its tokenizer.
        kept: ids of the pieces that stay, ascending.

    Raises:
        UserError: the model has no tokenizer, ids are not in it, or a special token is not kept.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise UserError("The model has no tokenizer. Load it from a directory with its vocab.txt.")
    tokenizer.require_wordpiece("A vocabulary is trimmed")
    kept = np.asarray(kept, np.int64)
    size = len(tokenizer.vocabulary)
    if not len(kept) or (np.diff(kept) <= 0).any() or kept[0] < 0 or kept[-1] >= size:
        raise UserError(
            f"The kept ids are not ascending numbers from 0 to {size - 1}. Take them from `pieces_to_keep`."
        )
    required = [*_SPECIAL, *(token.content for token in tokenizer.added)]
    lost = [
        piece for piece in required if piece in tokenizer.vocabulary and tokenizer.vocabulary.index(piece) not in kept
    ]
    if lost:
        raise UserError(f"The special token {lost[0]} is not kept. Keep all special and added tokens.")
    outputs = len(kept) if HEADS[model.task].over_vocabulary else model.num_outputs
    sizes = replace(model.config, vocab_size=len(kept))
    small = TextModel(sizes, outputs, model.task, model.label_names, dtype=model.dtype_policy)
    for to, source in zip(small.variables, model.variables, strict=True):
        value = source.numpy()
        for axis, (length, before) in enumerate(zip(to.shape, source.shape, strict=True)):
            if length != before:  # the word table, and what a masked-LM head has for each piece
                value = np.take(value, kept, axis=axis)
        to.assign(value)
    small.tokenizer = tokenizer.of([int(i) for i in kept])
    return small


def compare_segmentation(before: Tokenizer, after: Tokenizer, texts: Iterable[str]) -> Segmentation:
    """Compare how the whole vocabulary and the trimmed one split the words of (held-out) texts.

    Raises:
        UserError: there are no words.
    """
    counts = word_counts(before, texts)
    if not counts:
        raise UserError("There are no words to compare. Received no texts, or only empty ones.")
    words = sorted(counts, key=lambda word: (-counts[word], word))
    ids = {piece: number for number, piece in enumerate(before.vocabulary)}
    old_id = [ids[piece] for piece in after.vocabulary]
    total = sum(counts.values())
    changed, unknown, unknown_before, pieces, pieces_before = [], 0, 0, 0, 0
    for word, old, new in zip(words, _pieces(before, words), _pieces(after, words), strict=True):
        times = counts[word]
        renumbered = tuple(old_id[i] for i in new)
        if renumbered != old:
            changed.append(word)
        unknown += times * (before.unk_id in renumbered)
        unknown_before += times * (before.unk_id in old)
        pieces, pieces_before = pieces + times * len(new), pieces_before + times * len(old)
    return Segmentation(
        words=total,
        resegmented=sum(counts[word] for word in changed) / total,
        unknown=unknown / total,
        unknown_before=unknown_before / total,
        pieces=pieces / total,
        pieces_before=pieces_before / total,
        examples=tuple(changed[:20]),
    )


def compare_models(
    before: TextModel,
    after: TextModel,
    texts: Sequence[str],
    texts_b: Sequence[str] | None = None,
    *,
    max_length: int = 64,
    batch_size: int = 64,
) -> Parity:
    """Compare the logits of a model and its trimmed version, each with its tokenizer.

    Raises:
        UserError: there are no texts.
    """
    if not texts:
        raise UserError("There are no texts to compare the models on. Received an empty list.")
    ids = {piece: number for number, piece in enumerate(before.tokenizer.vocabulary)}
    old_id = np.array([ids[piece] for piece in after.tokenizer.vocabulary])
    same_pieces, same_answer, difference = 0, 0, None
    for start in range(0, len(texts), batch_size):
        part = slice(start, start + batch_size)
        pair = None if texts_b is None else texts_b[part]
        inputs = [model.tokenizer(texts[part], pair, length=max_length) for model in (before, after)]
        logits = [np.asarray(model(x, training=False)) for model, x in zip((before, after), inputs, strict=True)]
        renumbered = old_id[inputs[1]["token_ids"]]
        same = (renumbered == inputs[0]["token_ids"]).all(axis=1)
        same_pieces += int(same.sum())
        same_answer += int((logits[0].argmax(-1) == logits[1].argmax(-1)).reshape(len(same), -1).all(axis=1).sum())
        if same.any():
            difference = max(difference or 0.0, float(np.abs(logits[0][same] - logits[1][same]).max()))
    return Parity(len(texts), same_pieces / len(texts), difference, same_answer / len(texts))
