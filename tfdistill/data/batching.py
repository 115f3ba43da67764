"""Batches of one length each, from a small set of lengths, planned from (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.text.alignment import NO_WORD
from tfdistill.text.encoded import Encoded

# Examples are sorted by length within this many batches: enough to leave little padding, few enough to mix well.
_SORTED_TOGETHER = 50
LONGEST = 1 << 20  # tokens; no row has as many
Buckets = Sequence[int] | Literal["auto"]
_MOST_BUCKETS = 12
NO_LABEL = -100  # of tokens


class Stored(Protocol):
    """Features of the teacher that are read from disk (`tfdistill.training.row_store`)."""

    @property
    def dtype(self) -> str: ...

    @property
    def columns(self) -> Sequence[Any]: ...

    def read(self, rows: np.ndarray, width: int | None = None) -> list[np.ndarray]:
        """The columns of some rows, padded to `width` tokens, by default as `dataset` does."""
        ...

    def take(self, rows: np.ndarray) -> Stored: ...


@dataclass(frozen=True)
class Examples:
    """What training needs of a corpus, row by row.

    `teacher` is given where the teacher reads other ids than the student; `teacher_features` where its outputs are known, `stored`
    where they are known and on disk: "hidden_states/2" there becomes {"hidden_states": {"2": …}} in a batch.
    `labels` has one entry a row, such as a class number, a row of multi-label targets or the start and end of an answer.
    `token_labels` (total,) has one for each of the student's tokens instead, −100 where none counts.
    """

    student: Encoded
    labels: np.ndarray | None = None
    teacher: Encoded | None = None
    teacher_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    sample_weight: np.ndarray | None = None
    token_labels: np.ndarray | None = None
    stored: Sequence[Stored] = ()

    def __post_init__(self) -> None:
        if self.token_labels is None:
            return
        if self.labels is not None:
            raise ValueError("got labels and token_labels; expected one of them")
        if self.token_labels.shape != self.student.token_ids.shape:
            raise ValueError(
                f"got token_labels of shape {self.token_labels.shape}; expected {self.student.token_ids.shape}, as token_ids"
            )

    def __len__(self) -> int:
        return len(self.student)


def plan(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, shuffle: bool = True) -> list[np.ndarray]:
    """Row numbers of each batch of one epoch. Every row comes once; only one batch is smaller than `batch_size`.

    The same (seed, epoch) always gives the same plan, whatever was drawn before.
    """
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}; expected at least 1")
    count = len(lengths)
    if not shuffle:
        order = np.argsort(-lengths, kind="stable")
        return [order[start : start + batch_size] for start in range(0, count, batch_size)]
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(count)
    batches = []
    for start in range(0, count, batch_size * _SORTED_TOGETHER):
        chunk = order[start : start + batch_size * _SORTED_TOGETHER]
        chunk = chunk[np.argsort(lengths[chunk], kind="stable")]
        batches += [chunk[begin : begin + batch_size] for begin in range(0, len(chunk), batch_size)]
    return [batches[n] for n in rng.permutation(len(batches))]


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Number of batches that `plan` makes of `count` rows."""
    return -(-count // batch_size)


def widths_of(lengths: np.ndarray, batch_size: int, buckets: Buckets, waste: float = 0.1) -> tuple[int, ...]:
    """The widths to which batches are padded, from the least.

    Args:
        buckets: the widths, or "auto": as few as leave at most the share `waste` of all positions to padding, and of these those that
            leave the least; twelve at most.

    Raises:
        UserError: a row is longer than the last of `buckets`, or one is less than 1.
    """
    if buckets != "auto":
        longest = int(lengths.max(initial=1))
        if buckets and (min(buckets) < 1 or max(buckets) < longest):
            said = ",".join(map(str, buckets))
            raise UserError(
                f"--buckets {said}: the longest text has {longest} word pieces; expected a last bucket of at least that"
            )
        return tuple(sorted(set(buckets)))
    batches = plan(lengths, batch_size, seed=0, epoch=0)
    needed, count = np.unique([int(lengths[rows].max()) for rows in batches], return_counts=True)
    rows = np.cumsum([0, *count]) * batch_size
    # best[n][last]: (positions, widths) of the batches up to width number `last`, with n buckets of which `last` is the largest.
    best: list[list[tuple[float, tuple[int, ...]]]] = [[(rows[n + 1] * w, (w,)) for n, w in enumerate(needed.tolist())]]
    while len(best) < min(len(needed), _MOST_BUCKETS) and 1 - lengths.sum() / best[-1][-1][0] > waste:
        best.append(
            [
                min((best[-1][m][0] + (rows[n + 1] - rows[m + 1]) * w, (*best[-1][m][1], w)) for m in range(n))
                if n
                else best[-1][0]
                for n, w in enumerate(needed.tolist())
            ]
        )
    return tuple(dict.fromkeys(best[-1][-1][1]))


_IDS = tf.TensorSpec((None,), tf.int32)
_ROWS = tf.TensorSpec((None,), tf.int64)


# Functions of their own, so that they are traced once and not for every data set.
@tf.function(input_signature=[_ROWS, _ROWS, _ROWS], autograph=False)
def _places(rows: Any, offsets: Any, widths: Any) -> tuple[Any, Any]:
    """Where the tokens of `rows` lie in the flat arrays, (batch, width), and which of these are real.

    The width is the least of `widths` that holds the longest row; where there are none the longest row itself.
    """
    starts = tf.gather(offsets, rows)
    lengths = tf.gather(offsets, rows + 1) - starts
    longest = tf.reduce_max(lengths)
    width = tf.reduce_min(tf.concat([tf.boolean_mask(widths, widths >= longest), [longest + LONGEST]], 0))
    width = tf.where(width > LONGEST, longest, width)
    columns = tf.range(width)[None, :]
    real = columns < lengths[:, None]
    return tf.where(real, starts[:, None] + columns, 0), real


@tf.function(input_signature=[_ROWS, _IDS, _IDS, _ROWS, _ROWS], autograph=False)
def _inputs(rows: Any, token_ids: Any, segment_ids: Any, offsets: Any, widths: Any) -> dict[str, Any]:
    positions, real = _places(rows, offsets, widths)
    mask = tf.cast(real, tf.int32)
    return {
        "token_ids": tf.gather(token_ids, positions) * mask,
        "padding_mask": mask,
        "segment_ids": tf.gather(segment_ids, positions) * mask,
    }


class _Reader:
    """Makes batches of inputs from a corpus."""

    def __init__(self, encoded: Encoded, widths: Sequence[int] = ()):
        # Tensors, which the graph refers to; arrays would be copied into it, and a graph holds 2 GB at most.
        with tf.device("CPU:0"):
            self.arrays = [tf.constant(part) for part in (encoded.token_ids, encoded.segment_ids, encoded.offsets)]
            self.arrays.append(tf.constant(widths, tf.int64))
            self.words = None if encoded.words is None else tf.constant(encoded.words)

    def __call__(self, rows: Any) -> dict[str, Any]:
        inputs = _inputs(rows, *self.arrays)
        return inputs if self.words is None else {**inputs, "words": self.of_tokens(self.words, rows, NO_WORD)}

    def of_tokens(self, values: Any, rows: Any, padding: int) -> Any:
        """(batch, width) of `values` (total,), one for each token, and `padding` behind them."""
        positions, real = _places(rows, *self.arrays[2:])
        return tf.where(real, tf.gather(values, positions), padding)


def _from_disk(stored: Stored, rows: Any, width: Any) -> dict[str, Any]:
    """Features of the teacher in float32, those with layers in a dict."""
    kinds = [tf.as_dtype(stored.dtype)] * len(stored.columns)
    made: dict[str, Any] = {}
    for column, value in zip(stored.columns, tf.numpy_function(stored.read, [rows, width], kinds), strict=True):
        value.set_shape(column.batch_shape)
        name, _, layer = column.name.partition("/")
        if layer:
            made.setdefault(name, {})[layer] = tf.cast(value, tf.float32)
        else:
            made[name] = tf.cast(value, tf.float32)
    return made


def dataset(
    examples: Examples,
    batch_size: int,
    *,
    seed: int = 0,
    epochs: int = 1,
    first_epoch: int = 0,
    first_step: int = 0,
    shuffle: bool = True,
    buckets: Buckets = (),
) -> tf.data.Dataset:
    """Batches of `epochs` epochs one after the other, in the form `Distiller.fit` takes; `first_step` leaves out as many from the
    start, to go on where a run stopped.

    Batches are padded to their longest row; with `buckets` to one of these widths, so that there are few shapes, which is what a
    compiler wants: see `widths_of`.

    Use it with `fit(..., epochs=epochs, steps_per_epoch=steps_per_epoch(len(examples), batch_size))`.
    """
    if not len(examples):
        raise UserError("there are no examples to make batches of; expected at least one row")
    lengths = examples.student.lengths
    batches = [
        rows
        for e in range(epochs)
        for rows in plan(lengths, batch_size, seed=seed, epoch=first_epoch + e, shuffle=shuffle)
    ]
    batches = batches[first_step:]
    if not batches:
        raise ValueError(f"first_step is {first_step}; expected less than the number of batches")
    rows = tf.RaggedTensor.from_row_lengths(np.concatenate(batches), [len(batch) for batch in batches])

    student, teacher = (
        None if read is None else _Reader(read, widths_of(read.lengths, batch_size, buckets))
        for read in (examples.student, examples.teacher)
    )
    assert student is not None
    with tf.device("CPU:0"):
        features = {name: tf.constant(value) for name, value in examples.teacher_features.items()}
        by_row = {"labels": examples.labels, "sample_weight": examples.sample_weight}
        columns = {name: tf.constant(value) for name, value in by_row.items() if value is not None}
        tokens = None if examples.token_labels is None else tf.constant(examples.token_labels, tf.int32)

    @tf.autograph.experimental.do_not_convert
    def batch(rows: Any) -> dict[str, Any]:
        made: dict[str, Any] = {"student": student(rows)}
        if teacher is not None:
            made["teacher"] = teacher(rows)
        if features or examples.stored:
            made["teacher_features"] = {name: tf.gather(value, rows) for name, value in features.items()}
        for stored in examples.stored:
            width = tf.shape(made.get("teacher", made["student"])["token_ids"])[1]
            made["teacher_features"] |= _from_disk(stored, rows, width)
        made |= {name: tf.gather(value, rows) for name, value in columns.items()}
        if tokens is not None:
            made["labels"] = student.of_tokens(tokens, rows, NO_LABEL)
        return made

    return ready(tf.data.Dataset.from_tensor_slices(rows).map(batch, num_parallel_calls=2, deterministic=True))


def ready(batches: tf.data.Dataset) -> tf.data.Dataset:
    """`batches` made some steps ahead. Without autotuning, whose thread can hold the end of an epoch up for 15 seconds."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(4).with_options(options)


def some_rows(count: int, wanted: int | None, seed: int = 0) -> np.ndarray:
    """Numbers of at most `wanted` of `count` rows, drawn by a seed: the first rows of a file may all be of one class."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:wanted])
