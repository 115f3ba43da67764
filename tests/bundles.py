"""Tiny models with a tokenizer, and ways to change the bundles made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.export.bundle.bundle import Measured
from tfdistill.export.bundle.manifest import sealed
from tfdistill.metrics.scores import score
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import sha256
from tfdistill.text.tokenizer import Tokenizer

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "##s", "!", ".", ",", "'", "it", "not"]


def reviewer(label_names: tuple[str, ...] = ("no", "yes"), length: int = 16) -> TextModel:
    """Return a BERT with random weights, large enough to tell texts apart."""
    config = BertConfig(len(PIECES), 16, 1, 2, 32, max_position_embeddings=length, initializer_range=0.5)
    model = TextModel(config, len(label_names), label_names=label_names)
    model.tokenizer = Tokenizer(PIECES)
    return model


def measured(model: TextModel, texts: list[str], labels: list[int], length: int = 10) -> Measured:
    """Return what `tfdistill.models.predict.measure` returns, for labelled texts."""
    batch = {name: np.asarray(values) for name, values in model.tokenizer(texts, length=length).items()}
    rows = model.tokenizer.encode(texts, max_length=length)
    return rows, model(batch).numpy(), partial(score, "classification", np.array(labels))


def read(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text("utf-8"))


def reseal(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda manifest: None) -> None:
    """Bring a manifest up to date with its files, change it, and seal it again."""
    manifest = read(bundle / "manifest.json")
    for name, entry in manifest["files"].items():
        entry.update(sha256=sha256(bundle / name), bytes=(bundle / name).stat().st_size)
    change(manifest)
    (bundle / "manifest.json").write_bytes(sealed(manifest).encode("utf-8", "surrogatepass"))
