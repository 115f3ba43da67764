"""Cut a tokenized corpus into sequences of one length, masked and paired.

Sequences. Without next-sentence prediction, sentences are packed up to the length, across documents
with [SEP] between them (FULL-SENTENCES, Liu et al. 2019, RoBERTa, section 4.2): [CLS] … [SEP] … [SEP].
With it, pairs as in Devlin et al. 2019, section 3.1: [CLS] a [SEP] b [SEP]. In half of the pairs b
follows a, in the others it comes from another document; 10 % of the pairs are shorter. A document of
one sentence is only used as b.

As data of a stage. `PlainText(source, …).prepare(tokenizer)` returns a `Corpus`, and
`corpus.examples(…)` returns `TextExamples` for `Stage(source=…)`, with batches for `Distiller.fit`:

    {"student": {"token_ids", "padding_mask", "segment_ids"[, "masked_positions"]},          (B, L) and (B, K) int32
     "labels": {"masked_labels", "masked_weights"[, "next_sentence"]}}                       absent without masking and pairs

The terms `HardLabels(task="masked_lm")` and `HardLabels(task="next_sentence")` read these labels. The
teacher reads the same input, so it needs the same vocabulary. `masking=None` leaves the text as it is
(TinyBERT's general stage); with a `Masking`, every epoch has different masks (DistilBERT's triple loss,
MobileBERT's pre-training distillation). With `masked_positions` a masked language model computes logits
only there, (B, K, V). With `every_position=True` they are among the labels, and the logits are
(B, L, V), for losses over all tokens.
"""

from __future__ import annotations

from array import array
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tfdistill.corpora.masking import Masker, uniforms
from tfdistill.data.batching import ready
from tfdistill.errors import UserError
from tfdistill.system.lazy import tf

if TYPE_CHECKING:
    from tfdistill.corpora.corpus import Corpus
    from tfdistill.corpora.parts import Part

_SIDE, _SHORTER, _SHORTER_TO, _IS_RANDOM, _SPLIT, _OTHER, _OTHER_START = range(101, 108)  # streams of random numbers


Batch = dict[str, dict[str, np.ndarray]]


class SequenceBatches:
    """Make a data set from a length, an order for each epoch, and batches of numbered sequences."""

    at_a_time = 2  # Batches that are made in parallel.

    def __len__(self) -> int:
        raise NotImplementedError

    def rows_at(self, places: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        """Return the sequences at some places, from 0, in the order of an epoch."""
        raise NotImplementedError

    def batch(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Batch:
        """Return one batch, which depends only on (rows, seed, epoch)."""
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
        """Make batches.

        Args:
            batch_size: the sequences of a batch, over all workers. An epoch may end within a batch.
            seed: decides about order and masks.
            epochs: the number of epochs.
            first_epoch: the number of the first epoch.
            first_step: the number of batches to skip, to resume a run.
            shuffle: False returns the sequences in order, once, with the masks of `first_epoch`; the last
                batch may be smaller.
            worker: (i, n) reads only part i of the n parts of every batch.

        Raises:
            UserError: `batch_size` is below 1.
        """
        if batch_size < 1:
            raise UserError(f"`batch_size` is {batch_size}. Use at least 1.")
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
    """Make sequences of one length from plain text, batch by batch.

    Attributes:
        length: L, tokens of a sequence.
        masker: masks the sequences; None leaves them as they are.
        next_sentence: whether the sequences are pairs with labels.
        fingerprint: of the text.
    """

    length: int
    masker: Masker | None
    next_sentence: bool
    fingerprint: str


class CorpusExamples(TextExamples):
    """Make the sequences of one corpus. See `Corpus.examples`."""

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
            raise UserError(f"the length is {length}. Use at least {least} tokens.")
        self.length, self.masker, self.next_sentence = length, masker, next_sentence
        self.fingerprint = f"{corpus.fingerprint} {part}"
        self._order = lru_cache(maxsize=4)(self._make_order)
        self._every_position = every_position
        self._stored, self._tokenizer, self._seed = corpus.part(part), corpus.tokenizer, seed
        source = corpus.about["source"]
        if not len(self._stored.ids):
            raise UserError(f"part '{part}' of {source} is empty. Give more text, or change the held-out share.")
        if next_sentence:
            self._first, self._last, self._document = self._chunks()
            if len(self._stored.documents) < 3 or not len(self._first):
                raise UserError(
                    f"part '{part}' of {source} needs two documents of two sentences for next-sentence prediction. "
                    "Separate documents by blank lines, give more text, or train without next sentences."
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

    def _packed(self) -> tuple[np.ndarray, np.ndarray]:
        """Return first and last token (n,), (n,): whole sentences while they fit, longer ones in parts."""
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
        """Return first and last sentence and document (n,) of each pair: at least two sentences of one document."""
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
                if end - stop == 1:  # A single last sentence makes no pair.
                    stop = int(end)
                first.append(sentence)
                last.append(stop)
                document.append(number)
                sentence = stop
        return tuple(np.array(values, np.int64) for values in (first, last, document))  # type: ignore[return-value]

    def _span(self, first: int, last: int) -> tuple[int, int]:
        """Return the tokens of the sentences first..last - 1, without the document's [SEP]."""
        start, end = int(self._stored.sentences[first]), int(self._stored.sentences[last])
        return start, end - (end > start and self._stored.ids[end - 1] == self._tokenizer.sep_id)

    def _pair(self, row: int, drawn: dict[int, float]) -> tuple[slice, slice, int]:
        """Return the tokens of the texts of a pair, and its label. Cuts the beginning of a and the end of b to fit."""
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

    def batch(self, rows: np.ndarray, *, seed: int = 0, epoch: int = 0) -> Batch:
        """Return one batch as NumPy arrays; see the module's docstring."""
        rows = np.asarray(rows, np.int64)
        tokenizer, stored, shape = self._tokenizer, self._stored, (len(rows), self.length)
        ids, segments = np.full(shape, tokenizer.pad_id, np.int32), np.zeros(shape, np.int32)
        starts = np.ones(shape, np.int64)  # whether a word begins with each token
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
