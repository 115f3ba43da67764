"""Read texts with the preprocessor of a KerasHub classifier, as its own `predict` does."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.system.console import task
from tfdistill.system.signals import raise_if_signalled
from tfdistill.text.encoded import Encoded

_BATCH = 256  # texts that the preprocessor reads together
_MANY = 20_000  # texts from which on reading takes long enough for a progress bar
_WITHOUT_MEANING = ("name", "trainable", "dtype", "tokenizer", "config_file")


class HubTokenizer:
    """Hold a KerasHub preprocessor as the tokenizer of a `HubClassifier`.

    Texts are cut to the preprocessor's own `sequence_length`, whose value the classifier was trained with.

    Args:
        preprocessor: a `keras_hub.models.TextClassifierPreprocessor`.
        name: the classifier, for messages.
    """

    def __init__(self, preprocessor: Any, name: str):
        self.preprocessor, self.name = preprocessor, name
        library = preprocessor.tokenizer
        self.pad_id = int(library.pad_token_id)
        self.cls_id = _id(library, "start_token_id", "cls_token_id")
        self.sep_id = _id(library, "end_token_id", "sep_token_id")
        self.unk_id = _id(library, "unk_token_id")
        self.mask_id = _id(library, "mask_token_id")

    @property
    def sequence_length(self) -> int:
        """The number of tokens that an example is cut to."""
        return int(self.preprocessor.sequence_length)

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        return int(self.preprocessor.tokenizer.vocabulary_size())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the preprocessor's settings and of the tokenizer's settings and files, as hexadecimal text."""
        digest, library = hashlib.sha256(), self.preprocessor.tokenizer
        for layer in (self.preprocessor, library):
            settings = {key: value for key, value in layer.get_config().items() if key not in _WITHOUT_MEANING}
            digest.update(json.dumps([type(layer).__name__, settings], sort_keys=True, default=repr).encode())
        with tempfile.TemporaryDirectory() as folder:
            library.save_assets(folder)
            for path in sorted(Path(folder).iterdir()):
                digest.update(path.name.encode())
                digest.update(path.read_bytes())
        return digest.hexdigest()

    def encode(self, texts: Sequence[str], texts_b: Sequence[str] | None = None, *, max_length: int = 0) -> Encoded:
        """Tokenize texts or pairs of texts.

        Args:
            texts: n texts.
            texts_b: the second texts of pairs.
            max_length: not read: the preprocessor has its own length.

        Raises:
            UserError: the preprocessor cannot read the texts.
        """
        ids, segments, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
        title = f"KerasHub reads {len(texts):,} texts"
        with task(title, len(texts)) if len(texts) >= _MANY else nullcontext(_quiet) as advance:
            for read in self._batches(texts, texts_b):
                raise_if_signalled()
                token_ids, real = read["token_ids"], read["token_ids"] != self.pad_id
                length = np.where(real.any(1), token_ids.shape[1] - np.argmax(real[:, ::-1], axis=1), 1)
                kept = np.arange(token_ids.shape[1]) < length[:, None]
                ids.append(token_ids[kept])
                segments.append(read["segment_ids"][kept] if "segment_ids" in read else np.zeros_like(ids[-1]))
                lengths.append(length.astype(np.int64))
                advance(len(token_ids))
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
        return Encoded(np.concatenate(ids), np.concatenate(segments), offsets)

    def _batches(self, texts: Sequence[str], texts_b: Sequence[str] | None) -> Iterator[dict[str, np.ndarray]]:
        if not len(texts):
            return

        library = self.preprocessor.tokenizer
        if isinstance(getattr(library, "proto", None), bytes):
            library.set_proto(library.proto)  # `tf.random.set_seed` frees the resource of SentencePiece

        def read(*columns: Any) -> Any:  # without `y`, KerasHub takes a tuple for texts and labels
            return self.preprocessor(columns if texts_b is not None else columns[0], y=None, sample_weight=None)

        try:
            columns = tuple(tf.constant(list(each)) for each in ((texts,) if texts_b is None else (texts, texts_b)))
            # In a graph, as in `predict`: outside of one KerasHub treats tokens beyond its vocabulary differently.
            for batch in tf.data.Dataset.from_tensor_slices(columns).batch(_BATCH).map(read):
                yield {name: np.asarray(value, np.int32) for name, value in batch.items()}
        except (ValueError, TypeError, AttributeError, tf.errors.OpError) as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise UserError(f"The preprocessor of {self.name} cannot read the texts: {reason}") from error

    def word_ids(self, encoded: Encoded) -> np.ndarray:
        """Raise UserError: which words the tokens belong to is not known."""
        raise UserError(
            f"{self.name} reads its own tokens, which are not aligned with words. Use settings that compare predictions, "
            "pooled or [CLS] states only, or a student and a teacher of one vocabulary."
        )


def _quiet(steps: float = 1) -> None:
    pass


def _id(library: Any, *names: str) -> int:
    """Return the id of a special token; -1 if the tokenizer has none."""
    for name in names:
        value = getattr(library, name, None)
        if isinstance(value, int | np.integer):
            return int(value)
    return -1
