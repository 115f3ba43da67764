"""What an app needs of a model, in one directory: the file, its vocabulary and labels, test vectors, and a manifest."""

from __future__ import annotations

import json
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.data.tokenize import Encoded
from tfdistill.errors import UserError
from tfdistill.export.convert import check_modes, convert_model
from tfdistill.export.runtime import TFLiteModel
from tfdistill.export.verify import GOLDEN, MANIFEST, MODEL, VERSION, parity
from tfdistill.files import atomic_directory, atomic_write, sha256
from tfdistill.models.text import TextModel

# By how much logits may differ on another processor, as a share of the largest golden logit (at least 1).
TOLERANCE = {"fp32": 1e-3, "fp16": 1e-2, "dynamic_int8": 5e-2}

# Where tokenizers of apps go wrong: case, accents, marks, other scripts, emoji, white space, controls, long words.
_TEXTS = (
    "a quiet, moving film",
    "It's NOT as good as they said!!",
    "",
    " ",
    ".",
    "Café crème, naïve façade, Ångström",
    "cafe\u0301 with a combining accent",
    "don't can't won't - it's o'clock",
    "10,000.50 € on 3/4/2021 @ 12:30",
    "tabs\tand\nnew\r\nlines",
    "non\u00a0breaking\u2009spaces\u3000here",
    "zero\u200bwidth\ufeff and soft\u00adhyphen",
    "emoji 😀👍🏽 and flags 🇩🇪",
    "日本語と中文 mixed with English",
    "Привет, мир! Ελληνικά ς",
    "नमस्ते दुनिया",
    "antidisestablishmentarianism" * 4,
    "[CLS] a text [SEP] with [MASK] special tokens [UNK]",
    "<b>html</b> &amp; http://example.org/?q=1#x",
    "longer than any row " * 60,
)


def export_bundle(
    model: TextModel,
    out: str | os.PathLike,
    *,
    quantize: str = "dynamic_int8",
    length: int = 64,
    dev: tuple[Encoded, np.ndarray, np.ndarray | None] | None = None,
    recipe: dict[str, Any] | None = None,
) -> Path:
    """Write a bundle: model.tflite, vocab.txt, tokenizer_config.json, labels.txt, golden.json and manifest.json, all or nothing.

    Args:
        model: with its tokenizer in `model.tokenizer`.
        out: the directory; one that is there is replaced.
        quantize: fp32, fp16 or dynamic_int8.
        length: tokens in a row, with [CLS] and [SEP].
        dev: a tokenized corpus, the model's logits (N, C) on it and its labels (N,) or None. The manifest then says how close
            the file comes.
        recipe: what made the model; kept as recipe.json.

    Raises:
        UserError: no tokenizer, an unknown quantization, a length out of range, or a file that fails its audit.
    """
    check_modes([quantize])
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is None:
        raise UserError("the model has no tokenizer; expected one in model.tokenizer, the app needs its vocabulary")
    if length < 5:
        raise UserError(f"length is {length}; expected at least 5, for a pair of texts with [CLS] and [SEP]")
    names = model.label_names or tuple(
        "score" if model.task == "regression" else f"LABEL_{n}" for n in range(model.num_outputs)
    )
    with tempfile.TemporaryDirectory(prefix="tfdistill-bundle-") as work, atomic_directory(out) as directory:
        made = convert_model(model, work, name="model", length=length, modes=[quantize])[quantize]
        atomic_write(directory / MODEL, made.path.read_bytes())
        tokenizer.save(directory)
        atomic_write(directory / "labels.txt", "".join(f"{name}\n" for name in names))
        if recipe is not None:
            atomic_write(directory / "recipe.json", json.dumps(recipe, indent=2, default=str) + "\n")
        file = TFLiteModel(directory / MODEL)
        golden = _golden(model, file, TOLERANCE[quantize])
        atomic_write(directory / GOLDEN, json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
        manifest = {
            "format": "tfdistill bundle",
            "version": VERSION,
            "task": model.task,
            "label_names": list(names),
            "family": model.family,
            "parameters": int(sum(np.prod(w.shape) for w in model.weights if "seed_generator" not in w.path)),
            "quantization": quantize,
            "length": length,
            "max_length": getattr(model.config, "max_position_embeddings", None),
            "operators": made.operators,
            "parity": _parity(model, file, dev),
            "versions": {name: metadata.version(name) for name in ("tfdistill", "tensorflow", "ai-edge-litert")},
            "files": {
                path.name: {"sha256": sha256(path), "bytes": path.stat().st_size}
                for path in sorted(directory.iterdir())
            },
        }
        atomic_write(directory / MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n")
    return Path(out)


def _golden(model: TextModel, file: TFLiteModel, tolerance: float) -> dict[str, Any]:
    """Texts, their ids and the file's logits. A model of pairs gets each text with its neighbour."""
    texts = list(_TEXTS)
    seconds = [*texts[1:], texts[0]] if getattr(model.config, "pair", False) else None
    rows = model.tokenizer.encode(texts, seconds, max_length=file.length)
    logits = file.predict(rows, workers=1)
    vectors = []
    for number, text in enumerate(texts):
        span = slice(int(rows.offsets[number]), int(rows.offsets[number + 1]))
        vector = {"text": text} if seconds is None else {"text": text, "text_b": seconds[number]}
        vector |= {"token_ids": rows.token_ids[span].tolist(), "segment_ids": rows.segment_ids[span].tolist()}
        vectors.append({**vector, "logits": [round(float(value), 6) for value in logits[number]]})
    return {"length": file.length, "tolerance": tolerance * max(1.0, float(np.abs(logits).max())), "vectors": vectors}


def _parity(
    model: TextModel, file: TFLiteModel, dev: tuple[Encoded, np.ndarray, np.ndarray | None] | None
) -> dict[str, float] | None:
    if dev is None:
        return None
    rows, expected, labels = dev
    logits = file.predict(rows)
    found: dict[str, float] = {"rows": len(logits), **parity(expected, logits)}
    if labels is not None and model.task == "classification":
        found["keras_accuracy"] = float((np.asarray(expected).argmax(axis=1) == np.asarray(labels)).mean())
        found["accuracy"] = float((logits.argmax(axis=1) == np.asarray(labels)).mean())
    return found
