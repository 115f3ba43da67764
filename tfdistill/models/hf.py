"""Hugging Face directories: config.json, model.safetensors, vocab.txt, and our labels.txt beside them. Nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from tfdistill.data.tokenize import Tokenizer
from tfdistill.errors import UserError
from tfdistill.files import atomic_directory, atomic_write
from tfdistill.models.bert import BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.text import TextModel

WEIGHTS, CONFIG, LABELS = "model.safetensors", "config.json", "labels.txt"
BILSTM_TYPE = "tfdistill_bilstm"


def load_directory(
    directory: str | Path,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
    lower_case: bool | None = None,
) -> TextModel:
    """Read a Hugging Face BERT directory or a student directory. The model's tokenizer stands in `model.tokenizer`.

    Args:
        directory: holds config.json, model.safetensors and vocab.txt.
        num_outputs, task, label_names: the head. By default what the directory says; a directory without a
            head, or one with another number of outputs than asked for, gets a new head with random weights.
        lower_case: overrules tokenizer_config.json.

    Raises:
        UserError: a file is missing or damaged, the architecture is not supported, or shapes do not fit.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is no directory; expected one with {CONFIG}, {WEIGHTS} and vocab.txt")
    raw = _read_config(directory / CONFIG)
    config = _config(raw, directory)
    tensors = _read_weights(directory / WEIGHTS)
    tokenizer = Tokenizer.from_directory(directory, lower_case=lower_case)
    if len(tokenizer.vocabulary) > config.vocab_size:
        raise UserError(
            f"{directory}: vocab.txt has {len(tokenizer.vocabulary)} pieces, the embedding {config.vocab_size} rows; "
            "the two files are not of one model"
        )
    said_names = _label_names(directory, raw)
    has_head = "classifier.weight" in tensors or "head.kernel" in tensors
    same_head = num_outputs is None or (has_head and num_outputs == _head_size(tensors))
    if has_head and same_head:
        num_outputs = _head_size(tensors)
        task = task or ("regression" if raw.get("problem_type") == "regression" else "classification")
        label_names = label_names or said_names
    model = TextModel(config, num_outputs or 2, task or "classification", label_names)
    _fill(model, tensors, directory, head=has_head and same_head)
    model.tokenizer = tokenizer
    return model


def save_directory(model: TextModel, directory: str | Path, *, recipe: dict[str, Any] | None = None) -> Path:
    """Write `model` (with its `tokenizer`) as `load_directory` and transformers' `from_pretrained` read it, all or nothing."""
    with atomic_directory(directory) as temporary:
        write_model(model, temporary, recipe)
    return Path(directory)


def write_model(model: TextModel, directory: Path, recipe: dict[str, Any] | None = None) -> None:
    """The files of a student directory, into a directory that is there."""
    tensors = {}
    for name, variable, transpose in _names(model, with_head=True):
        value = np.asarray(variable.numpy(), "float32")
        tensors[name] = np.ascontiguousarray(value.T if transpose else value)
    atomic_write(directory / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    atomic_write(directory / CONFIG, json.dumps(_hf_config(model), indent=2) + "\n")
    tokenizer = getattr(model, "tokenizer", None)
    if tokenizer is not None:
        tokenizer.save(directory)
    if model.label_names:
        atomic_write(directory / LABELS, "\n".join(model.label_names) + "\n")
    if recipe is not None:
        atomic_write(directory / "recipe.json", json.dumps(recipe, indent=2, default=str) + "\n")


# --- config ---------------------------------------------------------------------------------------------------------


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} is missing; expected a Hugging Face directory with {CONFIG}, {WEIGHTS} and vocab.txt")
    try:
        raw = json.loads(path.read_text("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is no valid JSON ({error}); fetch the directory again") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds a {type(raw).__name__}; expected a JSON object")
    return raw


def _config(raw: dict[str, Any], directory: Path) -> BertConfig | BiLSTMConfig:
    kind = raw.get("model_type")
    classes: dict[Any, type] = {"bert": BertConfig, BILSTM_TYPE: BiLSTMConfig}
    if kind not in classes:
        raise UserError(f"{directory}/{CONFIG}: model_type is '{kind}'; expected one of {', '.join(classes)}")
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(f"{directory}/{CONFIG}: position_embedding_type is not 'absolute'; only that is supported")
    cls = classes[kind]
    try:
        return cls(**{field.name: raw[field.name] for field in fields(cls) if field.name in raw})
    except (TypeError, ValueError) as error:
        raise UserError(f"{directory}/{CONFIG}: {error}") from error


def _hf_config(model: TextModel) -> dict[str, Any]:
    names = model.label_names or tuple(f"LABEL_{n}" for n in range(model.num_outputs))
    common = {
        **asdict(model.config),
        "id2label": {str(n): name for n, name in enumerate(names)},
        "label2id": {name: n for n, name in enumerate(names)},
        "problem_type": "regression" if model.task == "regression" else "single_label_classification",
        "pad_token_id": 0,
    }
    if model.family == "bert":
        return {"architectures": ["BertForSequenceClassification"], "model_type": "bert", **common}
    return {"model_type": BILSTM_TYPE, **common}


def _label_names(directory: Path, raw: dict[str, Any]) -> tuple[str, ...] | None:
    path = directory / LABELS
    if path.is_file():
        return tuple(path.read_text("utf-8").splitlines())
    named = raw.get("id2label") or {}
    ordered = tuple(str(named[key]) for key in sorted(named, key=int))
    return ordered if ordered and not ordered[0].startswith("LABEL_") else None


# --- weights --------------------------------------------------------------------------------------------------------


def _read_weights(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        other = path.parent / "pytorch_model.bin"
        hint = " (pytorch_model.bin is a pickle and never read; convert it with safetensors)" if other.is_file() else ""
        raise UserError(f"{path} is missing{hint}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error}); fetch it again") from error


def _head_size(tensors: dict[str, np.ndarray]) -> int:
    return int(
        tensors["classifier.weight"].shape[0] if "classifier.weight" in tensors else tensors["head.kernel"].shape[1]
    )


def _fill(model: TextModel, tensors: dict[str, np.ndarray], directory: Path, head: bool) -> None:
    for name, variable, transpose in _names(model, with_head=head):
        value = tensors.get(name, tensors.get(name.removeprefix("bert.")))
        if value is None and ".pooler." in name:
            continue  # saved for token-level tasks: the pooler starts afresh
        if value is None:
            raise UserError(f"{directory}/{WEIGHTS} has no tensor '{name}'; {CONFIG} and weights are not of one model")
        value = value.T if transpose else value
        if value.shape != tuple(variable.shape):
            raise UserError(
                f"{directory}/{WEIGHTS}: '{name}' has shape {value.shape}, {CONFIG} says {tuple(variable.shape)}; "
                "config and weights are not of one model"
            )
        variable.assign(value.astype("float32"))


Named = Iterator[tuple[str, Any, bool]]


def _names(model: TextModel, with_head: bool) -> Named:
    """(tensor name, variable, whether the file holds the transpose)."""
    yield from (_bert_names(model) if model.family == "bert" else _bilstm_names(model))
    if with_head and model.family == "bert":
        yield from _dense("classifier", model.head)
    elif with_head:
        yield "head.kernel", model.head.kernel, False
        yield "head.bias", model.head.bias, False


def _dense(name: str, layer: Any) -> Named:
    yield f"{name}.weight", layer.kernel, True
    yield f"{name}.bias", layer.bias, False


def _norm(name: str, layer: Any) -> Named:
    yield f"{name}.weight", layer.gamma, False
    yield f"{name}.bias", layer.beta, False


def _bert_names(model: TextModel) -> Named:
    embeddings = model.encoder.embeddings
    for name, layer in (
        ("word_embeddings", embeddings.word),
        ("position_embeddings", embeddings.position),
        ("token_type_embeddings", embeddings.token_type),
    ):
        yield f"bert.embeddings.{name}.weight", layer.embeddings, False
    yield from _norm("bert.embeddings.LayerNorm", embeddings.norm)
    for number, block in enumerate(model.encoder.blocks):
        prefix = f"bert.encoder.layer.{number}"
        yield from _dense(f"{prefix}.attention.self.query", block.query)
        yield from _dense(f"{prefix}.attention.self.key", block.key)
        yield from _dense(f"{prefix}.attention.self.value", block.value)
        yield from _dense(f"{prefix}.attention.output.dense", block.attention_output)
        yield from _norm(f"{prefix}.attention.output.LayerNorm", block.attention_norm)
        yield from _dense(f"{prefix}.intermediate.dense", block.intermediate)
        yield from _dense(f"{prefix}.output.dense", block.output_dense)
        yield from _norm(f"{prefix}.output.LayerNorm", block.output_norm)
    yield from _dense("bert.pooler.dense", model.encoder.pooler)


def _bilstm_names(model: TextModel) -> Named:
    encoder = model.encoder
    yield "embedding.weight", encoder.embedding.embeddings, False
    for lstm in (*encoder.forward, *encoder.backward):
        yield f"{lstm.name}.kernel", lstm.cell.kernel, False
        yield f"{lstm.name}.recurrent_kernel", lstm.cell.recurrent_kernel, False
        yield f"{lstm.name}.bias", lstm.cell.bias, False
    yield "dense.kernel", encoder.dense.kernel, False
    yield "dense.bias", encoder.dense.bias, False
