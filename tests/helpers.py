"""Tiny models and inputs that tests share."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.text_model import TextModel
from tfdistill.system.devices import make_strategy


def mirrored() -> tf.distribute.Strategy:
    return make_strategy("mirrored:2")


def tiny_bert(layers: int = 2, width: int = 8, outputs: int = 3, dropout: float = 0.0, **kwargs) -> TextModel:
    config = BertConfig(
        vocab_size=50,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=2 * width,
        max_position_embeddings=16,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        initializer_range=0.3,
    )
    return TextModel(config, outputs, **kwargs)


def tiny_bilstm(outputs: int = 3, pair: bool = False, layers: int = 1, **kwargs) -> TextModel:
    config = BiLSTMConfig(
        vocab_size=50, embedding_size=6, lstm_size=5, num_layers=layers, dense_size=7, dropout=0.0, pair=pair
    )
    return TextModel(config, outputs, **kwargs)


def inputs(rows: int = 22, length: int = 8, pair: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    """Ids with padding behind them; for pairs the second half of each row is segment 1."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, length + 1, rows)
    mask = (np.arange(length) < lengths[:, None]).astype("int32")
    ids = rng.integers(1, 50, (rows, length)).astype("int32") * mask
    segments = (np.arange(length) >= lengths[:, None] // 2) * mask if pair else mask * 0
    return {"token_ids": ids, "padding_mask": mask, "segment_ids": segments.astype("int32")}


def hold_files(path: Path, files: dict[str, bytes]) -> None:
    """Put other files in place of those that the .tflite file `path` holds."""
    content = path.read_bytes()
    archive = io.BytesIO(content[: content.index(b"PK\x03\x04")])
    with zipfile.ZipFile(archive, "a") as held:
        for name, text in files.items():
            held.writestr(zipfile.ZipInfo(name), text)
    path.write_bytes(archive.getvalue())
