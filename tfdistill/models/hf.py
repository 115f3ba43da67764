"""Hugging Face directories: config.json, model.safetensors, vocab.txt, and our labels.txt beside them. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save

from tfdistill.errors import UserError
from tfdistill.models.bert import NOT_IN_BERT, BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.distilbert import DistilBertConfig
from tfdistill.models.heads import TASKS
from tfdistill.models.hf_names import PREFIXES, Named, encoder_names, head_names, pooler_names
from tfdistill.models.mobilebert import MobileBertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import atomic_directory, atomic_write
from tfdistill.text.tokenizer import Tokenizer

WEIGHTS, CONFIG, LABELS = "model.safetensors", "config.json", "labels.txt"
# What quantization-aware training learned of the activations; for the weights whose SHA-256 its metadata has.
RANGES = "quantization.safetensors"
BILSTM_TYPE = "tfdistill_bilstm"
# MobileBertConfig can describe an IB-BERT, transformers' layers cannot compute it; so its directory does not claim so.
IB_BERT_TYPE = "tfdistill_ib_bert"
# BERT of uneven shape, or trained with LayerDrop: transformers has no config that says so.
PRUNED_BERT_TYPE = "tfdistill_pruned_bert"

_CONFIGS: dict[Any, type] = {
    "bert": BertConfig,
    "distilbert": DistilBertConfig,
    "mobilebert": MobileBertConfig,
    BILSTM_TYPE: BiLSTMConfig,
    IB_BERT_TYPE: MobileBertConfig,
    PRUNED_BERT_TYPE: BertConfig,
}
_CLASSES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "mobilebert": "MobileBert",
    "bilstm": "BiLSTM",
    "pruned_bert": "PrunedBert",
}
_PROBLEMS = {
    "classification": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}


def load_directory(
    directory: str | Path,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
    lower_case: bool | None = None,
) -> TextModel:
    """Read a Hugging Face BERT, DistilBERT or MobileBERT directory, or a student directory. The tokenizer: `model.tokenizer`; the
    directory: `model.loaded_from`.

    Args:
        directory: holds config.json, model.safetensors and vocab.txt.
        num_outputs, task, label_names: the head. By default what the directory says; a directory without a
            head, or one for another task or number of outputs than asked for, gets a new head with random weights.
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
    said = _task(raw, tensors)
    task = task or said or "classification"
    size, same_head = None, False
    if task in TASKS and TASKS[task].labelled:
        if said is not None and TASKS[said].architecture == TASKS[task].architecture:
            size = _head_size(tensors)
        same_head = size is not None and num_outputs in (None, size)
        if same_head:
            num_outputs, label_names = size, label_names or _label_names(directory, raw)
    model = TextModel(config, num_outputs, task, label_names)
    if not TASKS[task].labelled:
        same_head = all(_find(tensors, name, "") is not None for name, _, _ in head_names(model))
        if same_head and raw.get("tie_word_embeddings") is False and TASKS[task].over_vocabulary:
            raise UserError(
                f"{directory}/{CONFIG}: tie_word_embeddings is false; only tied masked-LM heads are supported"
            )
    prefix = PREFIXES[model.family]
    _fill(encoder_names(model), tensors, directory, prefix)
    # A base or token-level checkpoint has no pooler: that starts afresh, as the head does.
    poolers = list(pooler_names(model))
    if all(_find(tensors, name, prefix) is not None for name, _, _ in poolers):
        _fill(iter(poolers), tensors, directory, prefix)
    if same_head:
        _fill(head_names(model), tensors, directory, prefix)
    model.tokenizer, model.loaded_from = tokenizer, str(directory)
    if (directory / RANGES).is_file():
        model.learned_ranges = _read_ranges(directory / RANGES)
    return model


def save_directory(model: TextModel, directory: str | Path, *, recipe: dict[str, Any] | None = None) -> Path:
    """Write `model` (with its `tokenizer`) as `load_directory` and transformers' `from_pretrained` read it, all or nothing."""
    with atomic_directory(directory) as temporary:
        write_model(model, temporary, recipe)
    return Path(directory)


def write_model(model: TextModel, directory: Path, recipe: dict[str, Any] | None = None) -> None:
    """The files of a student directory, into a directory that is there."""
    tensors = {}
    for name, variable, transpose in chain(encoder_names(model), pooler_names(model), head_names(model)):
        value = np.asarray(variable.numpy(), "float32")
        tensors[name] = np.ascontiguousarray(value.T if transpose else value)
    content = save(tensors, metadata={"format": "pt"})
    atomic_write(directory / WEIGHTS, content)
    _write_ranges(model, directory / RANGES, hashlib.sha256(content).hexdigest())
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


def _config(raw: dict[str, Any], directory: Path) -> Any:
    kind = raw.get("model_type")
    if kind not in _CONFIGS:
        raise UserError(f"{directory}/{CONFIG}: model_type is '{kind}'; expected one of {', '.join(_CONFIGS)}")
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(f"{directory}/{CONFIG}: position_embedding_type is not 'absolute'; only that is supported")
    cls = _CONFIGS[kind]
    known = {field.name for field in fields(cls)} - (NOT_IN_BERT.keys() if kind == "bert" else set())
    try:
        return cls(**{name: raw[name] for name in known if name in raw})
    except (TypeError, ValueError) as error:
        raise UserError(f"{directory}/{CONFIG}: {error}") from error


def _hf_config(model: TextModel) -> dict[str, Any]:
    kind = {"bilstm": BILSTM_TYPE, "pruned_bert": PRUNED_BERT_TYPE}.get(model.family, model.family)
    if isinstance(model.config, MobileBertConfig) and not model.config.runs_in_transformers:
        kind = IB_BERT_TYPE
    said = {
        "architectures": [_CLASSES[model.family] + TASKS[model.task].architecture],
        "model_type": kind,
        **{name: size for name, size in asdict(model.config).items() if kind != "bert" or name not in NOT_IN_BERT},
        "pad_token_id": 0,
    }
    if TASKS[model.task].labelled:
        names = model.label_names or tuple(f"LABEL_{n}" for n in range(model.num_outputs))
        said["id2label"] = {str(n): name for n, name in enumerate(names)}
        said["label2id"] = {name: n for n, name in enumerate(names)}
    if model.task in _PROBLEMS:
        said["problem_type"] = _PROBLEMS[model.task]
    return said


def _task(raw: dict[str, Any], tensors: dict[str, np.ndarray]) -> str | None:
    """The task that the directory was saved for; None for a bare encoder."""
    architecture = str((raw.get("architectures") or [""])[0])
    for name, task in TASKS.items():
        if architecture.endswith(task.architecture) and name not in _PROBLEMS:
            return name
    if _head_size(tensors) is None:
        return None
    return next((name for name, problem in _PROBLEMS.items() if problem == raw.get("problem_type")), "classification")


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


def _read_ranges(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """(SHA-256 of the weights that they belong to, the ranges)."""
    try:
        with safe_open(path, "np") as file:
            return (file.metadata() or {}).get("weights", ""), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no safetensors file ({error}); remove it, or fetch it again") from error


def _write_ranges(model: TextModel, path: Path, weights: str) -> None:
    """What quantization-aware training learned, unless the weights (`weights`: their SHA-256) have been trained since."""
    ranges = getattr(model, "activation_ranges", None)
    if ranges is None:
        of, ranges = getattr(model, "learned_ranges", ("", {}))
        if of != weights:
            return
    atomic_write(path, save(dict(ranges), metadata={"weights": weights}))


def _head_size(tensors: dict[str, np.ndarray]) -> int | None:
    """Classes of the head in the file, None if it has no head with classes."""
    if "classifier.weight" in tensors:
        return int(tensors["classifier.weight"].shape[0])
    return int(tensors["head.kernel"].shape[1]) if "head.kernel" in tensors else None


def _find(tensors: dict[str, np.ndarray], name: str, prefix: str) -> np.ndarray | None:
    """A tensor by its name, by that of a base checkpoint, or by what conversions from TensorFlow call a LayerNorm's."""
    legacy = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    for each in (name, name.removeprefix(prefix), legacy, legacy.removeprefix(prefix)):
        if each in tensors:
            return tensors[each]
    return None


def _fill(named: Named, tensors: dict[str, np.ndarray], directory: Path, prefix: str) -> None:
    for name, variable, transpose in named:
        value = _find(tensors, name, prefix)
        if value is None:
            raise UserError(f"{directory}/{WEIGHTS} has no tensor '{name}'; {CONFIG} and weights are not of one model")
        value = value.T if transpose else value
        if value.shape != tuple(variable.shape):
            raise UserError(
                f"{directory}/{WEIGHTS}: '{name}' has shape {value.shape}, {CONFIG} says {tuple(variable.shape)}; "
                "config and weights are not of one model"
            )
        variable.assign(value.astype("float32"))
