"""Sequences of one length from a tokenized corpus, masked and paired as they are asked for.

Sequences. Without next-sentence prediction, sentences are packed one after the other up to the length, across documents with
[SEP] between them (FULL-SENTENCES, Liu et al. 2019, RoBERTa, section 4.2): [CLS] … [SEP] … [SEP]. With it, pairs as in Devlin et
al. 2019, section 3.1: [CLS] a [SEP] b [SEP], where b follows a in half of the pairs and comes from another document in the
others; 10 % of the pairs are made shorter on purpose. A document of one sentence gives no pair, only a second text b.

As a stage's data. `PlainText(source, …).prepare(tokenizer)` gives a `Corpus`; `corpus.examples(…)` gives `TextExamples`, which
is what `Stage(source=…)` takes: it has `len(examples)` and `examples.dataset(batch_size, seed=, epochs=)`, batches in the
form of `Distiller.fit`:

    {"student": {"token_ids", "padding_mask", "segment_ids"[, "masked_positions"]},          (B, L) and (B, K) int32
     "labels": {"masked_labels", "masked_weights"[, "next_sentence"]}}                       absent without masking and pairs

The terms `HardLabels(task="masked_lm")` and `HardLabels(task="next_sentence")` read these labels. The teacher reads the same
input, so it needs the same vocabulary. With `masking=None` the text is left as it is (TinyBERT's general stage); with a
`Masking`, every epoch has other masks (DistilBERT's triple loss, MobileBERT's pre-training distillation). A masked language model
that is given `masked_positions` computes its logits there only, (B, K, V); with `every_position=True` they stand among the
labels instead and the logits are (B, L, V), for losses over all tokens.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfdistill.corpora.masking import Masker, uniforms
from tfdistill.data.batching import ready
from tfdistill.errors import UserError

if TYPE_CHECKING:
    from tfdistill.corpora.corpus import Corpus
    from tfdistill.corpora.parts import Part

_SIDE, _SHORTER, _SHORTER_TO, _IS_RANDOM, _SPLIT, _OTHER, _OTHER_START = range(101, 108)  # streams of random numbers


class SequenceBatches:
    """Makes a data set of what has a length, an order for each epoch and batches of rows."""

    at_a_time = 2  # batches that are made at once

    def __len__(self) -> int:
        raise NotImplementedError

    def rows_at(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """The rows at some places, from 0, of the order of an epoch."""
        raise NotImplementedError

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int) -> dict[str, dict[str, np.ndarray]]:
        """One batch; depends on (rows, seed, epoch) alone."""
        raise NotImplementedError

    def dataset(
        self,
        batch_size: int,
        *,
        seed: int = 0,
        epochs: int = 1,
        first_epoch: int = 0,
        first_step: int = 0,
        shuffle: bool = True,
        worker: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Batches of `epochs` epochs; `first_step` leaves out as many from the start, to go on where a run stopped.

        Every batch has `batch_size` rows: an epoch that does not end with a batch ends within one. Without `shuffle` the rows
        come in order, once, with the masks of `first_epoch`, and the last batch may be smaller. `worker` (i, n) reads only part i
        of the n parts of every batch.
        """
        if batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; expected at least 1")
        count = len(self)
        size = batch_size // worker[1] if shuffle and batch_size % worker[1] == 0 else None
        steps = -(-count * (epochs if shuffle else 1) // batch_size)

        template = self.batch(np.zeros(1, np.int64), seed=seed, epoch=0)
        names = [(group, name) for group, values in template.items() for name in values]

        def make(step: np.ndarray) -> list[np.ndarray]:
            places = np.arange(int(step) * batch_size, (int(step) + 1) * batch_size)
            places = np.array_split(places, worker[1])[worker[0]]
            if not shuffle:
                made = self.batch(places[places < count], seed=seed, epoch=first_epoch)
                return [made[group][name] for group, name in names]
            epochs_ = first_epoch + places // count
            parts = [
                self.batch(
                    self.rows_at(places[epochs_ == epoch] % count, seed, int(epoch)), seed=seed, epoch=int(epoch)
                )
                for epoch in np.unique(epochs_)
            ]
            return [np.concatenate([part[group][name] for part in parts]) for group, name in names]

        def batch(step: tf.Tensor) -> dict[str, dict[str, tf.Tensor]]:
            kinds = [tf.as_dtype(template[group][name].dtype) for group, name in names]
            made: dict[str, dict[str, tf.Tensor]] = {group: {} for group in template}
            for (group, name), value in zip(names, tf.numpy_function(make, [step], kinds), strict=True):
                value.set_shape((size, *template[group][name].shape[1:]))
                made[group][name] = value
            return made

        data = tf.data.Dataset.range(first_step, steps)
        return ready(data.map(batch, num_parallel_calls=self.at_a_time, deterministic=True))


class TextExamples(SequenceBatches):
    """Sequences of one length from a corpus, made batch by batch. See `Corpus.examples`.

    A batch depends on (row numbers, seed, epoch) alone.
    """

    def __init__(
        self,
        corpus: Corpus,
        part: Part,
        length: int,
        masker: Masker | None,
        next_sentence: bool,
        every_position: bool,
        limit: int | None,
        seed: int,
    ):
        least = 8 if next_sentence else 4
        if length < least:
            raise UserError(f"the length is {length}; expected at least {least} word pieces")
        self.length, self.masker, self.next_sentence = length, masker, next_sentence
        self.fingerprint = f"{corpus.fingerprint} {part}"
        self._order = lru_cache(maxsize=4)(self._make_order)
        self._every_position = every_position
        self._stored, self._tokenizer, self._seed = corpus.part(part), corpus.tokenizer, seed
        source = corpus.about["source"]
        if not len(self._stored.ids):
            raise UserError(
                f"nothing of {source} is in its part '{part}'; expected some text there: give more, or change the held-out share"
            )
        if next_sentence:
            self._first, self._last, self._document = self._chunks()
            if len(self._stored.documents) < 3 or not len(self._first):
                raise UserError(
                    f"{source} has no two documents of two sentences in its part '{part}', which next-sentence prediction needs; "
                    "part documents by blank lines, give more text, or train without next sentences"
                )
        else:
            self._first, self._last = self._packed()
        if limit is not None and limit < len(self._first):
            kept = np.linspace(0, len(self._first) - 1, limit).astype(np.int64)
            self._first, self._last = self._first[kept], self._last[kept]
            if next_sentence:
                self._document = self._document[kept]

    def __len__(self) -> int:
        return len(self._first)

    def rows_at(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        return self._order(seed, epoch)[places]

    def _make_order(self, seed: int, epoch: int) -> np.ndarray:
        return np.argsort(uniforms(seed, epoch, _SIDE, np.zeros(1), len(self))[0], kind="stable")

    # Where each row begins and ends.

    def _packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Token positions (n,), (n,): whole sentences while they fit, a longer one in parts."""
        ends, room = self._stored.sentences[1:], self.length - 2
        first, last = array("q"), array("q")
        start, total, sep = 0, int(ends[-1]), self._tokenizer.sep_id
        ids = self._stored.ids
        while start < total:
            if ids[start] == sep:
                start += 1
                continue
            place = int(np.searchsorted(ends, start + room, side="right")) - 1
            end = int(ends[place]) if place >= 0 and ends[place] > start else min(start + room, total)
            first.append(start)
            last.append(end - 1 if ids[end - 1] == sep else end)
            start = end
        return np.array(first, np.int64), np.array(last, np.int64)

    def _chunks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sentence numbers (n,), (n,) and document (n,) of the text of each pair: two sentences or more of one document."""
        starts = self._stored.sentences
        first, last, document = array("q"), array("q"), array("q")
        room = self.length - 3
        numbers = np.arange(len(starts))
        shorter, to = (uniforms(self._seed, 0, stream, numbers)[:, 0] for stream in (_SHORTER, _SHORTER_TO))
        for number, (begin, end) in enumerate(
            zip(self._stored.documents[:-1], self._stored.documents[1:], strict=True)
        ):
            sentence = int(begin)
            while end - sentence >= 2:
                target = 2 + int(to[sentence] * (room - 1)) if shorter[sentence] < 0.1 else room
                stop = int(np.searchsorted(starts, starts[sentence] + target))
                stop = min(max(stop, sentence + 2), int(end))
                if end - stop == 1:  # a last sentence alone makes no pair
                    stop = int(end)
                first.append(sentence)
                last.append(stop)
                document.append(number)
                sentence = stop
        return tuple(np.array(values, np.int64) for values in (first, last, document))  # type: ignore[return-value]

    # Rows.

    def _span(self, first: int, last: int) -> tuple[int, int]:
        """Where the sentences first..last - 1 stand, without the document's [SEP]."""
        start, end = int(self._stored.sentences[first]), int(self._stored.sentences[last])
        return start, end - (end > start and self._stored.ids[end - 1] == self._tokenizer.sep_id)

    def _pair(self, row: int, drawn: dict[int, float]) -> tuple[slice, slice, int]:
        """Where the two texts of a pair stand, and its label. They are cut so that they fit: a loses its beginning and b its end."""
        first, last, own = int(self._first[row]), int(self._last[row]), int(self._document[row])
        middle = first + 1 + int(drawn[_SPLIT] * (last - first - 1))
        a, is_random = self._span(first, middle), drawn[_IS_RANDOM] < 0.5
        if is_random:
            limits = self._stored.documents
            other = (own + 1 + int(drawn[_OTHER] * (len(limits) - 2))) % (len(limits) - 1)
            start = int(limits[other] + int(drawn[_OTHER_START] * (limits[other + 1] - limits[other])))
            b = self._span(start, int(limits[other + 1]))
        else:
            b = self._span(middle, last)
        room, size_a = self.length - 3, a[1] - a[0]
        keep_b = min(b[1] - b[0], max(room - size_a, room // 2))
        keep_a = min(size_a, room - keep_b)
        return slice(a[1] - keep_a, a[1]), slice(b[0], b[0] + keep_b), int(is_random)

    def batch(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0) -> dict[str, dict[str, np.ndarray]]:
        """One batch as NumPy arrays, in the form that this module's docstring shows."""
        rows = np.asarray(rows, np.int64)
        tokenizer, stored, shape = self._tokenizer, self._stored, (len(rows), self.length)
        ids, segments = np.full(shape, tokenizer.pad_id, np.int32), np.zeros(shape, np.int32)
        starts = np.ones(shape, np.int64)  # of words
        sizes = np.zeros(len(rows), np.int64)
        is_random = np.zeros(len(rows), np.int32)
        ids[:, 0] = tokenizer.cls_id
        streams = (_IS_RANDOM, _SPLIT, _OTHER, _OTHER_START)
        drawn = {stream: uniforms(seed, epoch, stream, rows)[:, 0] for stream in streams} if self.next_sentence else {}
        for number, row in enumerate(rows):
            if self.next_sentence:
                first, second, is_random[number] = self._pair(
                    int(row), {key: float(value[number]) for key, value in drawn.items()}
                )
                parts: tuple[slice, ...] = (first, second)
            else:
                parts = (slice(int(self._first[row]), int(self._last[row])),)
            end = 1
            for segment, part in enumerate(parts):
                begin, end = end, end + part.stop - part.start + 1
                ids[number, begin : end - 1], ids[number, end - 1] = stored.ids[part], tokenizer.sep_id
                segments[number, begin:end] = segment
                if stored.starts is not None:
                    starts[number, begin : end - 1] = stored.starts[part]
            sizes[number] = end
        padding_mask = (np.arange(self.length) < sizes[:, None]).astype(np.int32)
        student = {"token_ids": ids, "padding_mask": padding_mask, "segment_ids": segments}
        labels: dict[str, np.ndarray] = {"next_sentence": is_random} if self.next_sentence else {}
        if self.masker is not None:
            words = None if stored.starts is None else np.cumsum(starts, axis=1)
            masked = self.masker(ids, padding_mask, rows, seed=seed, epoch=epoch, words=words)
            student["token_ids"] = masked["token_ids"]
            (labels if self._every_position else student)["masked_positions"] = masked["masked_positions"]
            labels |= {name: masked[name] for name in ("masked_labels", "masked_weights")}
        return {"student": student, "labels": labels} if labels else {"student": student}
