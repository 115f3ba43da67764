"""Read examples of a sharded corpus with the teacher's logits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.corpora.manifest import Manifest
from tfdistill.corpora.parts import Part, load_array
from tfdistill.corpora.shards import ShardedCorpus, groups_of
from tfdistill.data.batching import Buckets, plan, ready, widths_of
from tfdistill.errors import UserError, listing
from tfdistill.models.class_order import column_order
from tfdistill.models.fingerprint import identity
from tfdistill.system.console import say
from tfdistill.system.lazy import tf
from tfdistill.text.tokenizer import Tokenizer


class LabelledTexts:
    """Open a corpus made with `--rows` and a teacher, as data of `Stage(source=…)`.

    Batches are {"student": …, "teacher_features": {"logits": (B, C)}}, padded to the longest example.
    Examples of similar length are together.

    Args:
        directory: the corpus.
        tokenizer: the student's tokenizer.
        num_outputs: C, the number of the student's outputs.
        part: the part of the corpus.
        teacher: the teacher that must have made the logits, or its `identity`; "" accepts any.
        label_names: the classes in the order to have the logits in; None keeps that of the corpus.

    Raises:
        UserError: like `ShardedCorpus`; or the corpus has no logits, another teacher's, another number of
            classes, or other classes.
    """

    def __init__(
        self,
        directory: Path,
        tokenizer: Tokenizer,
        num_outputs: int,
        part: Part = "train",
        teacher: Any = "",
        label_names: Sequence[str] | None = None,
    ):
        corpus = ShardedCorpus(directory, tokenizer)
        names = _check_teacher(directory, corpus.manifest, teacher)
        self.fingerprint = f"{corpus.fingerprint} {part}"
        self._tokenizer = tokenizer
        self._stored = [shard.part(part) for shard in corpus.shards]
        files = [shard.directory / f"{part}.logits.npy" for shard in corpus.shards]
        none = np.zeros((0, num_outputs), "float32")
        self._logits = [load_array(file, mmap_mode="r") if file.is_file() else none for file in files]
        wrong = [logits.shape[1] for logits in self._logits if logits.shape[1] != num_outputs]
        if wrong:
            raise UserError(
                f"{directory} has logits of {wrong[0]} classes; the student has {num_outputs}. Use another corpus."
            )
        self._order = np.arange(num_outputs)
        if label_names is not None and names is not None:
            self._order = column_order(names, label_names, str(directory), "the student")
        elif label_names is not None:
            say(f"{directory} has no class names: its logits are taken in the order {listing(label_names)}")

    def __len__(self) -> int:
        return sum(map(len, self._logits))

    def dataset(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        epochs: int = 1,
        first_step: int = 0,
        worker: tuple[int, int] = (0, 1),
        buckets: Buckets = (),
    ) -> tf.data.Dataset:
        """Make batches.

        Args:
            batch_size: B, the examples of a batch, over all workers.
            seed: decides about the order.
            epochs: the number of epochs.
            first_step: the number of batches to skip.
            worker: (i, n) reads part i of the n parts of every batch. A part is empty, (0, L), if a batch
                has fewer examples than workers.
            buckets: lengths to pad to, see `batching.widths_of`.
        """
        widths = np.array(widths_of(self._lengths(self._rows(range(len(self._stored)))), batch_size, buckets), np.int64)

        def batches() -> Iterator[np.ndarray]:
            step = 0
            for epoch in range(epochs):
                for number, group in enumerate(groups_of(len(self._stored), seed, epoch)):
                    rows = self._rows(group)
                    if not len(rows):
                        continue
                    for some in plan(self._lengths(rows), batch_size, seed=seed + number, epoch=epoch):
                        if step >= first_step:
                            yield rows[np.array_split(some, worker[1])[worker[0]]]
                        step += 1

        def batch(rows: tf.Tensor) -> dict[str, Any]:
            made = tf.numpy_function(partial(self._batch, widths), [rows], [tf.int32, tf.int32, tf.float32])
            for value, shape in zip(made, ((None, None), (None, None), (None, self._logits[0].shape[1])), strict=True):
                value.set_shape(shape)
            ids, mask, logits = made
            student = {"token_ids": ids, "padding_mask": mask, "segment_ids": tf.zeros_like(ids)}
            return {"student": student, "teacher_features": {"logits": logits}}

        data = tf.data.Dataset.from_generator(batches, output_signature=tf.TensorSpec((None, 2), tf.int64))
        return ready(data.map(batch, num_parallel_calls=2, deterministic=True))

    def _rows(self, shards: Iterable[int]) -> np.ndarray:
        """Return the shard and the place in it of each example of some shards, (n, 2)."""
        sizes = [len(self._logits[shard]) for shard in shards]
        return np.stack([np.repeat(list(shards), sizes), np.concatenate([np.arange(n) for n in sizes])], axis=1)

    def _lengths(self, rows: np.ndarray) -> np.ndarray:
        lengths = np.empty(len(rows), np.int64)
        for shard in np.unique(rows[:, 0]):
            mine, starts = rows[:, 0] == shard, self._stored[shard].sentences
            lengths[mine] = starts[rows[mine, 1] + 1] - starts[rows[mine, 1]]
        return lengths + 1  # [SEP] is stored, [CLS] is not.

    def _batch(self, widths: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
        lengths = self._lengths(rows)
        # At least [CLS] and [SEP], even without examples: Keras warns of attention over a single position.
        longest = int(lengths.max(initial=2))
        width = min(widths[widths >= longest], default=longest)
        ids = np.full((len(rows), width), self._tokenizer.pad_id, np.int32)
        ids[:, 0] = self._tokenizer.cls_id
        for place, (shard, row) in enumerate(rows):
            start = self._stored[shard].sentences[row]
            ids[place, 1 : lengths[place]] = self._stored[shard].ids[start : start + lengths[place] - 1]
        mask = (np.arange(width) < lengths[:, None]).astype(np.int32)
        # Some workers may get no example of the last batch: empty arrays, which add nothing to the sums of the step.
        logits = np.empty((len(rows), self._logits[0].shape[1]), np.float32)
        for place, (shard, row) in enumerate(rows):
            logits[place] = self._logits[shard][row][self._order]
        return [ids, mask, logits]


def _check_teacher(directory: Path, manifest: Manifest, teacher: Any) -> tuple[str, ...] | None:
    """Check that a teacher made the logits of a corpus. Returns the class names of the logits; None if they are unknown.

    The teacher's outputs may be in another order now.
    """
    labelled_by, stored = manifest.settings["teacher"], manifest.settings.get("label_names")
    names = tuple(str(name) for name in stored) if isinstance(stored, list) else None
    if not labelled_by:
        raise UserError(f"{directory} has no teacher's logits. Make the corpus with `--rows --teacher TEACHER`.")
    own = teacher if isinstance(teacher, str) else identity(teacher, names)
    if own and own != labelled_by:
        raise UserError(
            f"{directory} has the logits of another teacher (fingerprint {labelled_by[:12]}, the run's is {own[:12]}). "
            "Make the corpus again with the run's teacher, or train with the one that made the logits."
        )
    # A corpus of an older version has no names, but the same teacher has them.
    return names if names is not None or isinstance(teacher, str) else teacher.label_names
