"""Read and write config.json of a model directory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfdistill.errors import UserError
from tfdistill.models.bert_config import NOT_IN_BERT, BertConfig
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.config_fields import shown
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.families_config import ROBERTA_TYPES, AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.google_config import GOOGLE_CONFIG, as_hugging_face
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.static_config import StaticConfig
from tfdistill.models.tasks import HEADS
from tfdistill.system.console import say
from tfdistill.system.files import read_json

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

CONFIG = "config.json"
BILSTM_TYPE = "tfdistill_bilstm"
STATIC_TYPE = "tfdistill_static"
# transformers' MobileBertConfig can describe an IB-BERT, but its layers cannot compute it.
IB_BERT_TYPE = "tfdistill_ib_bert"
# A BERT with layers of different sizes or with LayerDrop, which transformers' config cannot describe.
PRUNED_BERT_TYPE = "tfdistill_pruned_bert"

_CONFIGS: dict[Any, type] = {
    "bert": BertConfig,
    "distilbert": DistilBertConfig,
    "mobilebert": MobileBertConfig,
    **dict.fromkeys(ROBERTA_TYPES, RobertaConfig),
    "electra": ElectraConfig,
    "albert": AlbertConfig,
    BILSTM_TYPE: BiLSTMConfig,
    IB_BERT_TYPE: MobileBertConfig,
    PRUNED_BERT_TYPE: BertConfig,
    STATIC_TYPE: StaticConfig,
}
# Parts of the names of tensors, and the family that has them.
_PARTS = {
    "transformer.layer.": "distilbert",
    ".bottleneck.": "mobilebert",
    "embedding_transformation": "mobilebert",
    "albert_layer_groups.": "albert",
    "electra.": "electra",
    "roberta.": "roberta",
    "encoder.layer.": "bert",
}
# Starts of the names of transformers' classes, by model_type.
_CLASSES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "electra": "Electra",
    "albert": "Albert",
    "mobilebert": "MobileBert",
    IB_BERT_TYPE: "MobileBert",
    BILSTM_TYPE: "BiLSTM",
    PRUNED_BERT_TYPE: "PrunedBert",
    STATIC_TYPE: "Static",
}


_SUPPORTED = (
    f"Supported are {', '.join(_CONFIGS)}. Any other model can be the teacher by a file of its answers: "
    "--teacher answers:FILE."
)
# Other names of the fields of DistilBERT, which transformers takes as well.
_OTHER_NAMES = {"distilbert": {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}}
# What no encoder of this library computes, with the value that is computed.
_UNSUPPORTED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
# Fields that decide about training alone: outputs do not change if they are missing.
_OF_TRAINING = ("dropout", "initializer_range", "layerdrop")


def read_config(directory: Path) -> dict[str, Any]:
    """Read config.json of a model directory, or else the bert_config.json of a TensorFlow checkpoint.

    Raises:
        UserError: the file is missing or damaged, or a field that all models have is of another type.
    """
    path = directory / CONFIG
    is_google = not path.exists() and (directory / GOOGLE_CONFIG).exists()
    path = directory / GOOGLE_CONFIG if is_google else path
    advice = f"use a Hugging Face directory with {CONFIG}, model.safetensors and vocab.txt"
    raw = read_json(path, advice, strict=True, limit=1 << 26)
    classes = raw.get("architectures")
    if classes is not None and not (isinstance(classes, list) and all(isinstance(each, str) for each in classes)):
        raise UserError(f"{path}: `architectures` is {shown(classes)}. Use a list of names, or remove it.")
    for name in ("model_type", "problem_type"):
        if not isinstance(raw.get(name), str | None):
            raise UserError(f"{path}: `{name}` is {shown(raw[name])}. Use a text, or remove it.")
    return as_hugging_face(raw) if is_google else raw


def config_of(raw: dict[str, Any], directory: Path, names: Collection[str]) -> Any:
    """Return the config of the encoder that a parsed config.json describes.

    Args:
        raw: the content of config.json.
        directory: the model's directory, for messages.
        names: of the tensors, which show the family if the file does not name it.

    Raises:
        UserError: an architecture that is not supported, or a field of another type or out of its range.
    """
    path = directory / CONFIG
    kind = raw.get("model_type") or _family_of(raw, path, names)
    if kind not in _CONFIGS:
        raise UserError(f"{path}: `model_type` is {shown(kind)}. {_SUPPORTED}")
    for name, value in _UNSUPPORTED.items():
        if raw.get(name, value) != value:
            raise UserError(f"{path}: `{name}` is {shown(raw[name])}. Only {shown(value)} is supported.")
    cls, other = _CONFIGS[kind], _OTHER_NAMES.get(kind, {})
    given = {other.get(name, name): value for name, value in raw.items() if other.get(name) not in raw}
    known = {field.name for field in fields(cls)} - (NOT_IN_BERT.keys() if kind == "bert" else set())
    try:
        config = cls(**{name: given[name] for name in known if name in given})
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    if kind == "bert":
        if config.type_vocab_size < 1:
            raise UserError(f"{path}: `type_vocab_size` is 0. Use an integer of at least 1.")
        unread = [name for name, plain in NOT_IN_BERT.items() if raw.get(name, plain) not in (plain, None)]
        if unread:
            say(f"{path}: a model of type 'bert' has no {', '.join(unread)}, which {_is_are(unread)} not read.")
    _say_missing(config, given, path)
    return config


def _family_of(raw: dict[str, Any], path: Path, names: Collection[str]) -> str:
    """Return the family that the names of the tensors show; as in transformers' oldest directories, it is not named."""
    family = next((family for part, family in _PARTS.items() if any(part in name for name in names)), None)
    if family is None or any(raw.get(name) is not None for name in NOT_IN_BERT if name != "embedding_size"):
        raise UserError(f"{path}: `model_type` is missing. {_SUPPORTED}")
    say(f"{path} has no `model_type`: taken as '{family}', whose tensors the weights have.")
    return family


def _say_missing(config: Any, given: Collection[str], path: Path) -> None:
    """Print a line about fields that decide about the outputs and are not in the file."""
    missing = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if field.name not in given
        and not str(field.type).endswith("None")
        and not any(part in field.name for part in _OF_TRAINING)
        and field.name not in NOT_IN_BERT
    }
    if missing:
        values = ", ".join(f"{name} {shown(value)}" for name, value in missing.items())
        say(f"{path} does not have all fields of the model. Defaults are used: {values}.")


def _is_are(names: Collection[str]) -> str:
    return "is" if len(names) == 1 else "are"


def config_json(model: TextModel) -> dict[str, Any]:
    """Return the content of config.json for a model."""
    own = {"bilstm": BILSTM_TYPE, "static": STATIC_TYPE, "pruned_bert": PRUNED_BERT_TYPE}
    kind = own.get(model.family, model.family)
    kind = getattr(model.config, "model_type", kind)
    if isinstance(model.config, MobileBertConfig) and not model.config.runs_in_transformers:
        kind = IB_BERT_TYPE
    head = HEADS[model.task]
    written = {
        "architectures": [_CLASSES[kind] + head.architecture],
        "model_type": kind,
        "pad_token_id": 0 if model.tokenizer is None else model.tokenizer.pad_id,
        # RoBERTa's own `pad_token_id` decides about positions, and stays.
        **{name: size for name, size in asdict(model.config).items() if kind != "bert" or name not in NOT_IN_BERT},
    }
    if head.labelled:
        names = model.label_names or tuple(f"LABEL_{n}" for n in range(model.num_outputs))
        written["id2label"] = {str(n): name for n, name in enumerate(names)}
        written["label2id"] = {name: n for n, name in enumerate(names)}
    if head.problem_type is not None:
        written["problem_type"] = head.problem_type
    return written
