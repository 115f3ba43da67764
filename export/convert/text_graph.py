"""Put TensorFlow Text's tokenizer in front of an inference graph, so that the file takes text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tfdistill.text.vocabulary import CLS, SEP


def reads_text(
    forward: Callable[..., dict[str, tf.Tensor]], vocabulary: Sequence[str], length: int, lower_case: bool, pair: bool
) -> tf.types.experimental.PolymorphicFunction:
    """Return a function of `text`, string [1], and for pairs `text_b`.

    Args:
        forward: a function of int32 [1, length] `token_ids`, `padding_mask`, `segment_ids`.
        vocabulary: word pieces, in the order of their ids.
        length: tokens in a row; longer texts are cut like in `tfdistill.text.tokenizer.Tokenizer`.
        lower_case: lower-case letters and strip accents.
        pair: whether there are two texts.

    Returns:
        A function that returns the outputs of `forward` and the `token_ids` that it read.
    """
    import tensorflow_text as tf_text

    tokenizer = tf_text.FastBertTokenizer(
        vocab=list(vocabulary), token_out_type=tf.int32, lower_case_nfd_strip_accents=lower_case
    )
    begin, end = (tf.constant([vocabulary.index(piece)], tf.int32) for piece in (CLS, SEP))

    def tokens_of(text: tf.Tensor) -> tf.Tensor:
        return tokenizer.tokenize(text).flat_values

    def run(text: tf.Tensor, text_b: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        first = tokens_of(text)
        if text_b is None:
            parts = [begin, first[: length - 2], end]
            size_of_first = None
        else:
            second = tokens_of(text_b)
            keep = longest_first(tf.shape(first), tf.shape(second), length - 3)
            first, second = first[: keep[0][0]], second[: keep[1][0]]
            parts = [begin, first, end, second, end]
            size_of_first = tf.size(first) + 2
        row = tf.concat(parts, axis=0)
        size, places = tf.size(row), tf.range(length)
        ids = tf.reshape(tf.pad(row, [[0, length - size]]), [1, length])
        mask = tf.reshape(tf.cast(places < size, tf.int32), [1, length])
        segments = tf.zeros_like(mask)
        if size_of_first is not None:
            segments = mask * tf.reshape(tf.cast(places >= size_of_first, tf.int32), [1, length])
        return {**forward(token_ids=ids, padding_mask=mask, segment_ids=segments), "token_ids": ids}

    names = ("text", "text_b") if pair else ("text",)
    signature: list[Any] = [tf.TensorSpec([1], tf.string, name=name) for name in names]
    return tf.function(run, input_signature=signature, autograph=False)


def longest_first(first: tf.Tensor, second: tf.Tensor, room: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return how many tokens (batch,) of each text to keep, `room` together: the longer text is cut first.

    If both must be cut, each keeps half, and the longer one (the second, if they are equal) the odd
    token. As in `tokenizers`, a text that is itself longer than `room` leads to that half even if
    the other text needs less.
    """
    shorter, longer = tf.minimum(first, second), tf.maximum(first, second)
    rest = tf.where(shorter > room, shorter, tf.maximum(shorter, room - shorter))
    halve = shorter + rest > room
    half = tf.cast(room // 2, shorter.dtype)
    fits = shorter + longer <= room
    keep_shorter = tf.where(fits, shorter, tf.where(halve, half, shorter))
    keep_longer = tf.where(fits, longer, tf.where(halve, half + room % 2, rest))
    second_is_longer = first <= second
    return tf.where(second_is_longer, keep_shorter, keep_longer), tf.where(second_is_longer, keep_longer, keep_shorter)
