"""Tiny models that classify a few texts perfectly, without training: their heads are solved for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.predict import encode
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TINY = Path(__file__).parent / "models" / "tiny_bert"
NAMES = ("anger", "fear", "joy")
TEXTS = [" ".join(row) for row in np.random.default_rng(0).choice(list("abcdefgh"), (12, 5))]
LABELS = np.arange(12) % 3


def emotions(names: Sequence[str] = NAMES) -> TextData:
    """Return twelve texts with a class each, numbered as in `names`, the same in each split."""
    labels = np.array([names.index(NAMES[label]) for label in LABELS])
    split = Split(list(TEXTS), None, labels)
    return TextData("emotions", {"train": split, "dev": split, "test": split}, tuple(names))


def fitted(names: Sequence[str] | None = NAMES, order: Sequence[str] | None = None, seed: int = 1) -> TextModel:
    """Return a model of random weights whose head is right for each of the texts.

    Args:
        names: the class names of the model.
        order: the classes in the order of the outputs, if they have other names or none.
        seed: seed of the encoder.
    """
    keras.utils.set_random_seed(seed)
    config = BertConfig(37, 16, 2, 2, 32, max_position_embeddings=24, initializer_range=0.5)
    model = TextModel(config, 3, label_names=names)
    model.tokenizer = Tokenizer.from_directory(TINY)
    rows = encode(model, Split(list(TEXTS), None, LABELS), 12).rows(np.arange(len(TEXTS)))
    ids = np.zeros((len(rows), 12), "int32")
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    inputs = {"token_ids": ids, "padding_mask": (ids > 0).astype("int32"), "segment_ids": ids * 0}
    pooled = np.array(model.features(inputs, ("pooled",)).pooled, "float64")
    columns = [(order or names).index(NAMES[label]) for label in LABELS]
    model.head.kernel.assign((np.linalg.pinv(pooled) @ np.eye(3)[columns] * 4).astype("float32"))
    model.head.bias.assign(np.zeros(3))
    return model
