"""Read and write config.json of a model directory."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from tfdistill.errors import UserError
from tfdistill.models.bert import NOT_IN_BERT, BertConfig
from tfdistill.models.bilstm import BiLSTMConfig
from tfdistill.models.distilbert import DistilBertConfig
from tfdistill.models.heads import HEADS
from tfdistill.models.mobilebert import MobileBertConfig
from tfdistill.models.text_model import TextModel

CONFIG = "config.json"
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


def config_of(raw: dict[str, Any], directory: Path) -> Any:
    """Return the config of the encoder that a parsed config.json of `directory` describes."""
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


def config_json(model: TextModel) -> dict[str, Any]:
    """Return the content of config.json for a model."""
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
