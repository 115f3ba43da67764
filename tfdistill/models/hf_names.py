"""Name the tensors of a model: by transformers' names, or by this library's for the BiLSTM and the static encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tfdistill.models.tasks import HEADS, SEQUENCE_TASKS

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# (tensor name, variable, whether the file holds the transpose)
Named = Iterator[tuple[str, Any, bool]]

# Base checkpoints do not have this prefix.
PREFIXES = {
    "bert": "bert.",
    "distilbert": "distilbert.",
    "roberta": "roberta.",
    "electra": "electra.",
    "albert": "albert.",
    "mobilebert": "mobilebert.",
    "bilstm": "",
    "pruned_bert": "bert.",
    "static": "",
}


# Layers over the [CLS] state with other names than `pooler.dense`.
_POOLERS = {
    "distilbert": "pre_classifier",
    "roberta": "classifier.dense",
    "electra": "classifier.dense",
    "albert": "albert.pooler",
}


class _MaskedLM(NamedTuple):
    """The names of the tensors of a masked-LM head."""

    transform: str
    norm: str
    bias: str


_MASKED_LM = {
    "distilbert": _MaskedLM("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
    "roberta": _MaskedLM("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
    "electra": _MaskedLM("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
    "albert": _MaskedLM("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
}
_BERTS_MASKED_LM = _MaskedLM(
    "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"
)


def encoder_names(model: TextModel) -> Named:
    """Yield the tensors of the encoder without its pooler."""
    encoder = model.encoder  # a KerasHub classifier has none, and raises an error that says so
    if model.family == "albert":
        yield from _albert(encoder, model.config)
    else:
        yield from _ENCODERS[model.family](encoder)


def pooler_names(model: TextModel) -> Named:
    """Yield the tensors of the dense layer over the [CLS] state, if there is one."""
    pooler = model.encoder.pooler
    if pooler is not None:
        yield from _dense(_POOLERS.get(model.family, f"{PREFIXES[model.family]}pooler.dense"), pooler)


def head_tensor(task: str, family: str) -> str:
    """Return the name of the dense layer of a head that is not over the vocabulary."""
    if task in SEQUENCE_TASKS and _POOLERS.get(family) == "classifier.dense":
        return "classifier.out_proj"
    return HEADS[task].tensor


def head_names(model: TextModel) -> Named:
    """Yield the tensors of the head, without the word table that a masked-LM head is tied to."""
    if model.family == "bilstm":
        yield "head.kernel", model.head.kernel, False
        yield "head.bias", model.head.bias, False
    elif HEADS[model.task].over_vocabulary:
        names = _MASKED_LM.get(model.family, _BERTS_MASKED_LM)
        yield from _dense(names.transform, model.head.transform)
        yield from _norm(names.norm, model.head.norm)
        yield names.bias, model.head.bias, False
        if model.head.rest is not None:
            yield "cls.predictions.dense.weight", model.head.rest, False
        if model.nsp_head is not None:
            yield from _dense("cls.seq_relationship", model.nsp_head)
    else:
        yield from _dense(head_tensor(model.task, model.family), model.head)


def _dense(name: str, layer: Any) -> Named:
    yield f"{name}.weight", layer.kernel, True
    yield f"{name}.bias", layer.bias, False


def _norm(name: str, layer: Any) -> Named:
    yield f"{name}.weight", layer.gamma, False
    yield f"{name}.bias", layer.beta, False


def _embeddings(prefix: str, embeddings: Any) -> Named:
    yield f"{prefix}.word_embeddings.weight", embeddings.word.embeddings, False
    yield f"{prefix}.position_embeddings.weight", embeddings.position.embeddings, False
    if embeddings.token_type is not None:
        yield f"{prefix}.token_type_embeddings.weight", embeddings.token_type.embeddings, False
    yield from _norm(f"{prefix}.LayerNorm", embeddings.norm)


def _attention(prefix: str, block: Any) -> Named:
    for part in ("query", "key", "value"):
        yield from _dense(f"{prefix}.attention.self.{part}", getattr(block, part))
    yield from _dense(f"{prefix}.attention.output.dense", block.attention_output)
    yield from _norm(f"{prefix}.attention.output.LayerNorm", block.attention_norm)


def _bert(encoder: Any, prefix: str = "bert") -> Named:
    yield from _embeddings(f"{prefix}.embeddings", encoder.embeddings)
    projection = encoder.embeddings.word_projection
    if projection is not None:
        name = "embeddings_project" if prefix == "electra" else "embeddings.word_projection"
        named = _dense(f"{prefix}.{name}", projection)
        yield from ((name, variable, turned) for name, variable, turned in named if variable is not None)
    yield from _layers(f"{prefix}.encoder.layer", encoder.blocks)


def _layers(start: str, blocks: Iterable[Any]) -> Named:
    for number, block in enumerate(blocks):
        prefix = f"{start}.{number}"
        yield from _attention(prefix, block)
        yield from _dense(f"{prefix}.intermediate.dense", block.intermediate)
        yield from _dense(f"{prefix}.output.dense", block.output_dense)
        yield from _norm(f"{prefix}.output.LayerNorm", block.output_norm)


def _albert(encoder: Any, config: Any) -> Named:
    yield from _embeddings("albert.embeddings", encoder.embeddings)
    yield from _dense("albert.encoder.embedding_hidden_mapping_in", encoder.embeddings.word_projection)
    for number, block in dict(zip(config.layer_weights, encoder.blocks, strict=True)).items():
        group, inner = divmod(number, config.inner_group_num)
        prefix = f"albert.encoder.albert_layer_groups.{group}.albert_layers.{inner}"
        for part in ("query", "key", "value"):
            yield from _dense(f"{prefix}.attention.{part}", getattr(block, part))
        yield from _dense(f"{prefix}.attention.dense", block.attention_output)
        yield from _norm(f"{prefix}.attention.LayerNorm", block.attention_norm)
        yield from _dense(f"{prefix}.ffn", block.intermediate)
        yield from _dense(f"{prefix}.ffn_output", block.output_dense)
        yield from _norm(f"{prefix}.full_layer_layer_norm", block.output_norm)


def _distilbert(encoder: Any) -> Named:
    yield from _embeddings("distilbert.embeddings", encoder.embeddings)
    for number, block in enumerate(encoder.blocks):
        prefix = f"distilbert.transformer.layer.{number}"
        yield from _dense(f"{prefix}.attention.q_lin", block.query)
        yield from _dense(f"{prefix}.attention.k_lin", block.key)
        yield from _dense(f"{prefix}.attention.v_lin", block.value)
        yield from _dense(f"{prefix}.attention.out_lin", block.attention_output)
        yield from _norm(f"{prefix}.sa_layer_norm", block.attention_norm)
        yield from _dense(f"{prefix}.ffn.lin1", block.intermediate)
        yield from _dense(f"{prefix}.ffn.lin2", block.output_dense)
        yield from _norm(f"{prefix}.output_layer_norm", block.output_norm)


def _mobilebert(encoder: Any) -> Named:
    yield from _embeddings("mobilebert.embeddings", encoder.embeddings)
    if encoder.embeddings.transformation is not None:
        yield from _dense("mobilebert.embeddings.embedding_transformation", encoder.embeddings.transformation)
    for number, block in enumerate(encoder.blocks):
        prefix = f"mobilebert.encoder.layer.{number}"
        for name, bottleneck in (("input", block.input_bottleneck), ("attention", block.attention_bottleneck)):
            if bottleneck is not None:
                yield from _dense(f"{prefix}.bottleneck.{name}.dense", bottleneck.dense)
                yield from _norm(f"{prefix}.bottleneck.{name}.LayerNorm", bottleneck.norm)
        yield from _attention(prefix, block)
        for n, network in enumerate(block.stack):
            yield from _feed_forward(f"{prefix}.ffn.{n}", network)
        yield from _feed_forward(prefix, block.last)
        if block.config.use_bottleneck:
            yield from _dense(f"{prefix}.output.bottleneck.dense", block.output_dense)
            yield from _norm(f"{prefix}.output.bottleneck.LayerNorm", block.output_norm)


def _feed_forward(prefix: str, network: Any) -> Named:
    yield from _dense(f"{prefix}.intermediate.dense", network.intermediate)
    yield from _dense(f"{prefix}.output.dense", network.output_dense)
    yield from _norm(f"{prefix}.output.LayerNorm", network.norm)


def _bilstm(encoder: Any) -> Named:
    yield "embedding.weight", encoder.embedding.embeddings, False
    for lstm in (*encoder.forward, *encoder.backward):
        yield f"{lstm.name}.kernel", lstm.cell.kernel, False
        yield f"{lstm.name}.recurrent_kernel", lstm.cell.recurrent_kernel, False
        yield f"{lstm.name}.bias", lstm.cell.bias, False
    if encoder.dense is not None:
        yield "dense.kernel", encoder.dense.kernel, False
        yield "dense.bias", encoder.dense.bias, False


def _static(encoder: Any) -> Named:
    yield "embedding.weight", encoder.embedding.embeddings, False
    for layer in encoder.convolutions:
        yield from _dense(layer.name, layer)
    yield from static_pooler_names(encoder)


def static_pooler_names(encoder: Any) -> Named:
    """Yield the tensors that a static encoder only has for whole texts."""
    if encoder.token_score is not None:
        yield "token_score.weight", encoder.token_score.embeddings, False
    for layer in encoder.dense:
        yield from _dense(layer.name, layer)


_ENCODERS: dict[str, Callable[[Any], Named]] = {
    "bert": _bert,
    "roberta": partial(_bert, prefix="roberta"),
    "electra": partial(_bert, prefix="electra"),
    "distilbert": _distilbert,
    "mobilebert": _mobilebert,
    "bilstm": _bilstm,
    "pruned_bert": _bert,
    "static": _static,
}
