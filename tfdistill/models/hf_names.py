"""Name the tensors of a model: by transformers' names, or by this library's for the BiLSTM and the static encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tfdistill.models.heads import HEADS

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# (tensor name, variable, whether the file holds the transpose)
Named = Iterator[tuple[str, Any, bool]]

# Base checkpoints do not have this prefix.
PREFIXES = {
    "bert": "bert.",
    "distilbert": "distilbert.",
    "mobilebert": "mobilebert.",
    "bilstm": "",
    "pruned_bert": "bert.",
    "static": "",
}


def encoder_names(model: TextModel) -> Named:
    """Yield the tensors of the encoder without its pooler."""
    encoder = model.encoder  # a KerasHub classifier has none, and raises an error that says so
    yield from _ENCODERS[model.family](encoder)


def pooler_names(model: TextModel) -> Named:
    """Yield the tensors of the dense layer over the [CLS] state, if there is one."""
    pooler = model.encoder.pooler
    if pooler is not None:
        yield from _dense(
            "pre_classifier" if model.family == "distilbert" else f"{PREFIXES[model.family]}pooler.dense", pooler
        )


def head_names(model: TextModel) -> Named:
    """Yield the tensors of the head, without the word table that a masked-LM head is tied to."""
    if model.family == "bilstm":
        yield "head.kernel", model.head.kernel, False
        yield "head.bias", model.head.bias, False
    elif HEADS[model.task].over_vocabulary:
        if model.family == "distilbert":
            yield from _dense("vocab_transform", model.head.transform)
            yield from _norm("vocab_layer_norm", model.head.norm)
            yield "vocab_projector.bias", model.head.bias, False
        else:
            yield from _dense("cls.predictions.transform.dense", model.head.transform)
            yield from _norm("cls.predictions.transform.LayerNorm", model.head.norm)
            yield "cls.predictions.bias", model.head.bias, False
            if model.head.rest is not None:
                yield "cls.predictions.dense.weight", model.head.rest, False
        if model.nsp_head is not None:
            yield from _dense("cls.seq_relationship", model.nsp_head)
    else:
        yield from _dense(HEADS[model.task].tensor, model.head)


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


def _bert(encoder: Any) -> Named:
    yield from _embeddings("bert.embeddings", encoder.embeddings)
    if encoder.embeddings.word_projection is not None:
        yield "bert.embeddings.word_projection.weight", encoder.embeddings.word_projection.kernel, True
    for number, block in enumerate(encoder.blocks):
        prefix = f"bert.encoder.layer.{number}"
        yield from _attention(prefix, block)
        yield from _dense(f"{prefix}.intermediate.dense", block.intermediate)
        yield from _dense(f"{prefix}.output.dense", block.output_dense)
        yield from _norm(f"{prefix}.output.LayerNorm", block.output_norm)


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


_ENCODERS = {
    "bert": _bert,
    "distilbert": _distilbert,
    "mobilebert": _mobilebert,
    "bilstm": _bilstm,
    "pruned_bert": _bert,
    "static": _static,
}
