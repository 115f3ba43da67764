"""Make batches of examples of similar length. Their order depends on (seed, epoch) only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, wraps
from typing import Any, Literal, Protocol

import numpy as np

from tfdistill.errors import UserError
from tfdistill.system.lazy import tf
from tfdistill.text.alignment import NO_WORD
from tfdistill.text.encoded import Encoded

# Examples are sorted by length within this many batches: enough to leave little padding, few enough to mix well.
_SORTED_TOGETHER = 50
LONGEST = 1 << 20  # tokens; every row has fewer
Buckets = Sequence[int] | Literal["auto"]
_MOST_BUCKETS = 12
NO_LABEL = -100  # of tokens that do not count


class Stored(Protocol):
    """Teacher features that are read from disk (`tfdistill.training.row_store`)."""

    @property
    def dtype(self) -> str: ...

    @property
    def columns(self) -> Sequence[Any]: ...

    def read(self, rows: np.ndarray, width: int | None = None) -> list[np.ndarray]:
        """Return the columns of some rows, padded to `width` tokens, by default as `dataset` pads."""
        ...

    def take(self, rows: np.ndarray) -> Stored: ...


@dataclass(frozen=True)
class Examples:
    """Training examples, row by row.

    Args:
        student: what the student reads.
        labels: one entry for each row, such as a class number, multi-label targets, or the first and last token of an answer.
        teacher: what the teacher reads, if it differs.
        teacher_features: outputs of the teacher that are known, in memory.
        sample_weight: (rows,) weights of the rows.
        token_labels: (total,) one label for each of the student's tokens, instead of `labels`; -100 for tokens that do not count.
        stored: outputs of the teacher that are on disk; "hidden_states/2" becomes {"hidden_states": {"2": …}} in a batch.
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
                f"token_labels has the shape {self.token_labels.shape}; expected {self.student.token_ids.shape}"
            )

    def __len__(self) -> int:
        return len(self.student)


def plan(lengths: np.ndarray, batch_size: int, *, seed: int, epoch: int, shuffle: bool = True) -> list[np.ndarray]:
    """Return the row numbers of each batch of one epoch. Each row occurs once; only one batch may be smaller.

    Args:
        lengths: (rows,) tokens of each row.
        batch_size: rows of a batch.
        seed: with `epoch`, decides the order of the rows.
        epoch: number of the pass, from 0.
        shuffle: False puts the longest rows first.
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


def widths_of(lengths: np.ndarray, batch_size: int, buckets: Buckets, waste: float = 0.1) -> tuple[int, ...]:
    """Return the widths to which batches are padded, the smallest first.

    Args:
        lengths: as in `plan`.
        batch_size: as in `plan`.
        buckets: the widths; or "auto" for the fewest widths, at most twelve, that leave at most the share `waste` to padding.
        waste: share of all positions.

    Raises:
        UserError: a row is longer than the largest of `buckets`, or one of them is less than 1.
    """
    if buckets != "auto":
        longest = int(lengths.max(initial=1))
        if buckets and (min(buckets) < 1 or max(buckets) < longest):
            widths = ",".join(map(str, buckets))
            raise UserError(f"`--buckets {widths}`: the longest text has {longest} tokens; expected a bucket for it")
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


def _traced_once(*dtypes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function of vectors a graph at its first call: one for all data sets, and none before TensorFlow is needed."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @cache
        def graph() -> Any:
            signature = [tf.TensorSpec((None,), dtype) for dtype in dtypes]
            return tf.function(function, input_signature=signature, autograph=False)

        return wraps(function)(lambda *vectors: graph()(*vectors))

    return decorate


@_traced_once("int64", "int64", "int64")
def _places(rows: Any, offsets: Any, widths: Any) -> tuple[Any, Any]:
    """Return the positions of the tokens of `rows` in the flat arrays, (batch, width), and which of them are real.

    The width is the smallest of `widths` that holds the longest row, or without widths the longest row itself.
    """
    starts = tf.gather(offsets, rows)
    lengths = tf.gather(offsets, rows + 1) - starts
    longest = tf.reduce_max(lengths)
    width = tf.reduce_min(tf.concat([tf.boolean_mask(widths, widths >= longest), [longest + LONGEST]], 0))
    width = tf.where(width > LONGEST, longest, width)
    columns = tf.range(width)[None, :]
    real = columns < lengths[:, None]
    return tf.where(real, starts[:, None] + columns, 0), real


@_traced_once("int64", "int32", "int32", "int64", "int64")
def _inputs(rows: Any, token_ids: Any, segment_ids: Any, offsets: Any, widths: Any) -> dict[str, Any]:
    positions, real = _places(rows, offsets, widths)
    mask = tf.cast(real, tf.int32)
    return {
        "token_ids": tf.gather(token_ids, positions) * mask,
        "padding_mask": mask,
        "segment_ids": tf.gather(segment_ids, positions) * mask,
    }


class _Reader:
    """Make batches of inputs from tokenized texts."""

    def __init__(self, encoded: Encoded, widths: Sequence[int] = ()):
        # The graph refers to tensors; arrays would be copied into it, and a graph holds 2 GB at most.
        with tf.device("CPU:0"):
            self.arrays = [tf.constant(part) for part in (encoded.token_ids, encoded.segment_ids, encoded.offsets)]
            self.arrays.append(tf.constant(widths, tf.int64))
            self.words = None if encoded.words is None else tf.constant(encoded.words)

    def __call__(self, rows: Any) -> dict[str, Any]:
        inputs = _inputs(rows, *self.arrays)
        return inputs if self.words is None else {**inputs, "words": self.of_tokens(self.words, rows, NO_WORD)}

    def of_tokens(self, values: Any, rows: Any, padding: int) -> Any:
        """Return `values` (total,), one for each token, as (batch, width) with `padding` after them."""
        positions, real = _places(rows, *self.arrays[2:])
        return tf.where(real, tf.gather(values, positions), padding)


def _from_disk(stored: Stored, rows: Any, width: Any) -> dict[str, Any]:
    """Return teacher features in float32, layered ones in a dict."""
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
    """Return the batches of `epochs` epochs, one after the other, as `Distiller.fit` takes them.

    Args:
        examples: at least one.
        batch_size: as in `plan`.
        seed: as in `plan`.
        shuffle: as in `plan`.
        epochs: passes over the examples.
        first_epoch: number of the first pass, which selects its order.
        first_step: batches to skip, to resume a run.
        buckets: widths to which batches are padded (see `widths_of`), so that compilers see few shapes; by default the longest row.

    Raises:
        UserError: there are no examples.
    """
    if not len(examples):
        raise UserError("there are no examples; expected at least one")
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
    """Prefetch `batches`, without autotuning, whose thread can delay the end of an epoch by 15 seconds."""
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(4).with_options(options)


def some_rows(count: int, limit: int | None, seed: int = 0) -> np.ndarray:
    """Return the sorted numbers of at most `limit` of `count` rows, drawn at random since a file may be sorted by class."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])
