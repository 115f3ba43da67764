"""Read and write model directories as Hugging Face lays them out, with a labels.txt added.

A directory holds config.json, model.safetensors and vocab.txt. No pickle is ever read.
"""

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
from tfdistill.models.heads import HEADS
from tfdistill.models.hf_names import PREFIXES, Named, encoder_names, head_names, pooler_names
from tfdistill.models.mobilebert import MobileBertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import atomic_directory, atomic_write, read_json
from tfdistill.text.tokenizer import Tokenizer

WEIGHTS, CONFIG, LABELS = "model.safetensors", "config.json", "labels.txt"
# Activation ranges of quantization-aware training. The metadata hold the SHA-256 of the weights they belong to.
RANGES = "quantization.safetensors"
BILSTM_TYPE = "tfdistill_bilstm"
# transformers' MobileBertConfig can describe an IB-BERT, but its layers cannot compute it.
IB_BERT_TYPE = "tfdistill_ib_bert"
# A BERT with layers of different sizes or with LayerDrop, which transformers' config cannot describe.
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


def load_directory(
    directory: str | Path,
    *,
    num_outputs: int | None = None,
    task: str | None = None,
    label_names: Sequence[str] | None = None,
    lower_case: bool | None = None,
) -> TextModel:
    """Read a Hugging Face directory of a BERT, DistilBERT or MobileBERT model, or a student directory.

    The head is the one in the directory. If the directory has none, or one for another task or
    number of outputs than requested, the model gets a new head with random weights.

    Args:
        directory: holds config.json, model.safetensors and vocab.txt.
        num_outputs: the size of the logits' last axis.
        task: one of `tfdistill.models.heads.HEADS`; by default the one in the directory, or classification.
        label_names: class names, in the order of the logits.
        lower_case: overrides tokenizer_config.json.

    Returns:
        The model, with its tokenizer in `tokenizer` and the directory in `loaded_from`.

    Raises:
        UserError: a file is missing or damaged, the architecture is not supported, or shapes do not fit.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise UserError(f"{directory} is not a directory. Use one with {CONFIG}, {WEIGHTS} and vocab.txt.")
    raw = read_json(directory / CONFIG, f"use a Hugging Face directory with {CONFIG}, {WEIGHTS} and vocab.txt")
    config = _config(raw, directory)
    tensors = _read_weights(directory / WEIGHTS)
    tokenizer = Tokenizer.from_directory(directory, lower_case=lower_case)
    if len(tokenizer.vocabulary) > config.vocab_size:
        raise UserError(
            f"{directory}: the vocabulary has {len(tokenizer.vocabulary)} entries, the embedding {config.vocab_size}. "
            "Use the vocabulary of this model."
        )
    stored = _task(raw, tensors)
    task = task or stored or "classification"
    size, same_head = None, False
    if task in HEADS and HEADS[task].labelled:
        if stored is not None and HEADS[stored].architecture == HEADS[task].architecture:
            size = _head_size(tensors)
        same_head = size is not None and num_outputs in (None, size)
        if same_head:
            num_outputs, label_names = size, label_names or _label_names(directory, raw)
    model = TextModel(config, num_outputs, task, label_names)
    if not HEADS[task].labelled:
        same_head = all(_find(tensors, name, "") is not None for name, _, _ in head_names(model))
        if same_head and raw.get("tie_word_embeddings") is False and HEADS[task].over_vocabulary:
            raise UserError(f"{directory}/{CONFIG}: `tie_word_embeddings` is false. Only tied heads can be read.")
    prefix = PREFIXES[model.family]
    _fill(encoder_names(model), tensors, directory, prefix)
    # A base or token-level checkpoint has no pooler. It starts with random weights, as the head does.
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
    """Write `model` and its tokenizer to a directory, as a whole or not at all.

    `load_directory` reads it; transformers' `from_pretrained` as well, if it knows the architecture.

    Args:
        model: the model.
        directory: replaced as a whole if it exists.
        recipe: how the model was made, for recipe.json.
    """
    with atomic_directory(directory) as temporary:
        write_model(model, temporary, recipe)
    return Path(directory)


def write_model(model: TextModel, directory: Path, recipe: dict[str, Any] | None = None) -> None:
    """Write the files of a student directory into an existing directory; arguments as for `save_directory`."""
    tensors = {}
    for name, variable, transpose in chain(encoder_names(model), pooler_names(model), head_names(model)):
        value = np.asarray(variable.numpy(), "float32")
        tensors[name] = np.ascontiguousarray(value.T if transpose else value)
    content = save(tensors, metadata={"format": "pt"})
    atomic_write(directory / WEIGHTS, content)
    _write_ranges(model, directory / RANGES, hashlib.sha256(content).hexdigest())
    atomic_write(directory / CONFIG, json.dumps(_hf_config(model), indent=2) + "\n")
    if model.tokenizer is not None:
        model.tokenizer.save(directory)
    if model.label_names:
        atomic_write(directory / LABELS, "\n".join(model.label_names) + "\n")
    if recipe is not None:
        atomic_write(directory / "recipe.json", json.dumps(recipe, indent=2, default=str) + "\n")


# --- config ---------------------------------------------------------------------------------------------------------


def _config(raw: dict[str, Any], directory: Path) -> Any:
    kind = raw.get("model_type")
    if kind not in _CONFIGS:
        raise UserError(f"{directory}/{CONFIG}: `model_type` is '{kind}'; expected one of {', '.join(_CONFIGS)}.")
    if raw.get("position_embedding_type", "absolute") != "absolute":
        raise UserError(f"{directory}/{CONFIG}: `position_embedding_type` is not 'absolute', the only supported one.")
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
    head = HEADS[model.task]
    written = {
        "architectures": [_CLASSES[model.family] + head.architecture],
        "model_type": kind,
        **{name: size for name, size in asdict(model.config).items() if kind != "bert" or name not in NOT_IN_BERT},
        "pad_token_id": 0,
    }
    if head.labelled:
        names = model.label_names or tuple(f"LABEL_{n}" for n in range(model.num_outputs))
        written["id2label"] = {str(n): name for n, name in enumerate(names)}
        written["label2id"] = {name: n for n, name in enumerate(names)}
    if head.problem_type is not None:
        written["problem_type"] = head.problem_type
    return written


def _task(raw: dict[str, Any], tensors: dict[str, np.ndarray]) -> str | None:
    """Return the task that the directory was saved for; None for an encoder without a head."""
    architecture = str((raw.get("architectures") or [""])[0])
    for name, head in HEADS.items():
        if architecture.endswith(head.architecture) and head.problem_type is None:
            return name
    if _head_size(tensors) is None:
        return None
    problems = {head.problem_type: name for name, head in HEADS.items()}
    return problems.get(raw.get("problem_type") or "", "classification")


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
        hint = (
            " pytorch_model.bin is a pickle, which is never read: convert it to safetensors." if other.is_file() else ""
        )
        raise UserError(f"{path} is missing.{hint}")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file ({error}). Download it again.") from error


def _read_ranges(path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return the SHA-256 of the weights that the ranges belong to, and the ranges by name."""
    try:
        with safe_open(path, "np") as file:
            return (file.metadata() or {}).get("weights", ""), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or not a safetensors file ({error}). Remove it.") from error


def _write_ranges(model: TextModel, path: Path, weights: str) -> None:
    """Write learned activation ranges, unless they belong to other weights than those with this SHA-256."""
    ranges = model.activation_ranges
    if ranges is None:
        trained_weights, ranges = model.learned_ranges
        if trained_weights != weights:
            return
    atomic_write(path, save(dict(ranges), metadata={"weights": weights}))


def _head_size(tensors: dict[str, np.ndarray]) -> int | None:
    """Return the number of classes of the head in the file; None if there is no such head."""
    if "classifier.weight" in tensors:
        return int(tensors["classifier.weight"].shape[0])
    return int(tensors["head.kernel"].shape[1]) if "head.kernel" in tensors else None


def _find(tensors: dict[str, np.ndarray], name: str, prefix: str) -> np.ndarray | None:
    """Return a tensor by its name, by that in a base checkpoint, or by that in conversions from TensorFlow."""
    legacy = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    for each in (name, name.removeprefix(prefix), legacy, legacy.removeprefix(prefix)):
        if each in tensors:
            return tensors[each]
    return None


def _fill(named: Named, tensors: dict[str, np.ndarray], directory: Path, prefix: str) -> None:
    for name, variable, transpose in named:
        value = _find(tensors, name, prefix)
        if value is None:
            raise UserError(f"{directory}/{WEIGHTS} has no tensor '{name}'. Use the {CONFIG} of this model.")
        value = value.T if transpose else value
        if value.shape != tuple(variable.shape):
            raise UserError(
                f"{directory}/{WEIGHTS}: '{name}' has shape {value.shape}, expected {tuple(variable.shape)}. "
                f"Use the {CONFIG} of this model."
            )
        variable.assign(value.astype("float32"))
