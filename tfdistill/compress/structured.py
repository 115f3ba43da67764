"""Cut units out of BERT models: choose what to keep, set the rest to zero, make the physically smaller model.

A unit whose weights are all zero, both those that compute it and those that read it, adds nothing to
the output and gets no gradient: it is dead and stays so in training. So the methods of this package
remove units in two steps. `zero` sets them to zero; the model can be trained, evaluated and
checkpointed like any other. At the end `compact` cuts all dead units out of the shapes, without
changing the output.

What can be cut: whole layers; whole heads; query and key neurons of a head, in pairs, since only
their product is read; value neurons of a head, with the rows of the attention output that read them;
neurons of the feed-forward layer; pooler neurons, with the rows of the head that read them; and the
size of the residual stream. Embeddings, attention output and feed-forward output are all added to
this stream, so its neurons are cut from all of them. LayerNorm computes mean and variance over it,
so zeros have not the effect of a cut, and it is cut at once (`cut` with `hidden`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.families_config import ElectraConfig, RobertaConfig
from tfdistill.models.tasks import HEADS

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

Indices = tuple[int, ...]


@dataclass(frozen=True)
class KeptLayer:
    """Name the units of one layer to keep, by their numbers from 0.

    Args:
        heads: the heads.
        query_key: for each of these heads its query and key neurons, the same number for each head.
        value: for each of these heads its value neurons, the same number for each head.
        intermediate: the neurons of the feed-forward layer.
    """

    heads: Indices
    query_key: tuple[Indices, ...]
    value: tuple[Indices, ...]
    intermediate: Indices


@dataclass(frozen=True)
class Kept:
    """Name the units of a BERT model to keep.

    Args:
        layers: the number of each layer, from 1, and its units.
        hidden: the dimensions of the residual stream.
        pooler: the neurons of the pooler; empty if the model has none.
    """

    layers: tuple[tuple[int, KeptLayer], ...]
    hidden: Indices
    pooler: Indices


# --- configs --------------------------------------------------------------------------------------------------------


def sizes_of(model: TextModel) -> BertConfig:
    """Return the sizes of a BERT, DistilBERT, RoBERTa or ELECTRA model in BERT's names.

    Raises:
        UserError: another model.
    """
    if isinstance(model.config, BertConfig):
        return model.config
    if model.family in ("distilbert", "roberta", "electra"):
        return replace(model.config.as_bert(), classifier_dropout=model.config.head_dropout(model.task))
    raise UserError(
        f"The model is of the family {model.family}. Use a BERT, DistilBERT, RoBERTa or ELECTRA, whose layers can be cut."
    )


def _config(model: TextModel, kept: Kept, layerdrop: float) -> Any:
    """Return the sizes of what is kept. A field with a number for each layer is None if all of these are as in `model`."""
    sizes, layers = sizes_of(model), [layer for _, layer in kept.layers]
    counts = {
        "heads_per_layer": ([len(layer.heads) for layer in layers], sizes.num_attention_heads),
        "query_key_sizes": ([len(layer.query_key[0]) for layer in layers], sizes.head_size),
        "value_sizes": ([len(layer.value[0]) for layer in layers], sizes.head_size),
    }
    changed: dict[str, Any] = {
        name: None if set(count) == {whole} else tuple(count) for name, (count, whole) in counts.items()
    }
    inner, hidden = [len(layer.intermediate) for layer in layers], len(kept.hidden)
    even = len(set(inner)) == 1
    changed |= {"intermediate_size": inner[0]} if even else {}
    changed["intermediate_sizes"] = None if even else tuple(inner)
    if hidden != sizes.hidden_size:
        changed |= {"hidden_size": hidden, "attention_head_size": sizes.head_size}
    changed["pooler_size"] = None if len(kept.pooler) in (0, hidden) else len(kept.pooler)
    small = replace(sizes, num_hidden_layers=len(layers), layerdrop=layerdrop, **changed)
    if isinstance(model.config, DistilBertConfig) and replace(small, pooler_act="tanh").is_plain:
        return replace(model.config, n_layers=small.num_hidden_layers, hidden_dim=small.intermediate_size)
    if isinstance(model.config, RobertaConfig | ElectraConfig):
        # The family describes what is kept, if the layers are of one size.
        same: dict[str, Any] = {
            "num_hidden_layers": small.num_hidden_layers,
            "intermediate_size": small.intermediate_size,
        }
        plain: Any = replace(model.config, **same)
        if replace(plain.as_bert(), classifier_dropout=small.classifier_dropout) == small:
            return plain
    return small


# --- cutting --------------------------------------------------------------------------------------------------------


def everything(model: TextModel) -> Kept:
    """Return a `Kept` that keeps all of `model`."""
    sizes = sizes_of(model)
    layers = []
    for number in range(1, model.num_layers + 1):
        shape = sizes.layer_shape(number)
        query_key, value = (tuple(range(size)) for size in (shape.query_key, shape.value))
        heads = tuple(range(shape.heads))
        kept = KeptLayer(heads, (query_key,) * shape.heads, (value,) * shape.heads, tuple(range(shape.intermediate)))
        layers.append((number, kept))
    pooler = model.encoder.pooler
    return Kept(tuple(layers), tuple(range(sizes.hidden_size)), () if pooler is None else tuple(range(pooler.units)))


def like(model: TextModel, config: Any) -> TextModel:
    """Return a new model of `config` with random weights, and with task, label names and tokenizer of `model`."""
    from tfdistill.models.text_model import TextModel

    new = TextModel(config, model.num_outputs, model.task, model.label_names, dtype=model.dtype_policy)
    new.tokenizer = model.tokenizer
    return new


def cut(model: TextModel, kept: Kept, layerdrop: float = 0.0) -> TextModel:
    """Return a new model with only the units in `kept`, weights copied; `model` does not change.

    Args:
        model: a BERT or DistilBERT.
        kept: the units.
        layerdrop: probability with which training the new model skips a layer.

    Raises:
        UserError: not a BERT, nothing left of some kind, heads of one layer with different numbers of
            neurons, or a narrower residual stream under a masked-LM head.
    """
    sizes = sizes_of(model)
    _check(model, kept)
    small = like(model, _config(model, kept, layerdrop))
    hidden = np.array(kept.hidden, int)
    _copy_embeddings(small.encoder.embeddings, model.encoder.embeddings, hidden)
    for block, (number, layer) in zip(small.encoder.blocks, kept.layers, strict=True):
        source, shape = model.encoder.blocks[number - 1], sizes.layer_shape(number)
        query_key = _columns(layer.query_key, layer.heads, shape.query_key)
        value = _columns(layer.value, layer.heads, shape.value)
        inner = np.array(layer.intermediate, int)
        _copy_dense(block.query, source.query, hidden, query_key)
        _copy_dense(block.key, source.key, hidden, query_key)
        _copy_dense(block.value, source.value, hidden, value)
        _copy_dense(block.attention_output, source.attention_output, value, hidden)
        _copy_norm(block.attention_norm, source.attention_norm, hidden)
        _copy_dense(block.intermediate, source.intermediate, hidden, inner)
        _copy_dense(block.output_dense, source.output_dense, inner, hidden)
        _copy_norm(block.output_norm, source.output_norm, hidden)
    pooler = np.array(kept.pooler, int)
    if model.encoder.pooler is not None:
        _copy_dense(small.encoder.pooler, model.encoder.pooler, hidden, pooler)
    read = pooler if HEADS[model.task].reads == "pooled" else hidden
    if HEADS[model.task].over_vocabulary:
        small.head.set_weights(model.head.get_weights())
    else:
        _copy_dense(small.head, model.head, read, np.arange(model.num_outputs))
    if model.nsp_head is not None:
        _copy_dense(small.nsp_head, model.nsp_head, pooler, np.arange(2))
    return small


def _check(model: TextModel, kept: Kept) -> None:
    for number, layer in kept.layers:
        for kind, neurons in (("query_key", layer.query_key), ("value", layer.value)):
            counts = sorted({len(of) for of in neurons})
            if len(neurons) != len(layer.heads) or len(counts) != 1 or not counts[0]:
                raise UserError(
                    f"Layer {number}: {len(layer.heads)} heads keep {counts} {kind} neurons. Keep the same number, at least 1."
                )
    pooler = kept.pooler or model.encoder.pooler is None
    if not (kept.layers and kept.hidden and pooler and all(layer.intermediate for _, layer in kept.layers)):
        raise UserError("Nothing is left of some kind of unit. Keep at least one layer, and one neuron of each kind.")
    if HEADS[model.task].over_vocabulary and len(kept.hidden) != model.config.hidden_size:
        raise UserError(
            f"The hidden size of a model for '{model.task}' cannot be cut. Cut it after fine-tuning on a task."
        )


def _columns(neurons: Sequence[Indices], heads: Indices, size: int) -> np.ndarray:
    """Return columns of a projection that has `size` columns for each head."""
    return np.concatenate([head * size + np.array(of, int) for head, of in zip(heads, neurons, strict=True)])


def _copy_embeddings(to: Any, source: Any, hidden: np.ndarray) -> None:
    if source.projects_sum:
        for part in ("word", "position", "token_type", "norm"):
            getattr(to, part).set_weights(getattr(source, part).get_weights())
        _copy_dense(to.word_projection, source.word_projection, np.arange(source.word.output_dim), hidden)
        return
    tables = [(to.position.embeddings, source.position.embeddings)]
    if source.token_type is not None:
        tables.append((to.token_type.embeddings, source.token_type.embeddings))
    if source.word_projection is None:
        tables.append((to.word.embeddings, source.word.embeddings))
    else:
        to.word.embeddings.assign(source.word.embeddings.numpy())
        tables.append((to.word_projection.kernel, source.word_projection.kernel))
    for small, whole in tables:
        small.assign(whole.numpy()[:, hidden])
    _copy_norm(to.norm, source.norm, hidden)


def _copy_dense(to: Any, source: Any, rows: Any, columns: Any) -> None:
    to.kernel.assign(source.kernel.numpy()[np.ix_(rows, columns)])
    to.bias.assign(source.bias.numpy()[columns])


def _copy_norm(to: Any, source: Any, hidden: np.ndarray) -> None:
    to.gamma.assign(source.gamma.numpy()[hidden])
    to.beta.assign(source.beta.numpy()[hidden])


# --- dead units -----------------------------------------------------------------------------------------------------


def _dead(columns: Sequence[Any], readers: Sequence[Any]) -> np.ndarray:
    """Return which units have only zeros in the dense layers that compute them and in those that read them."""
    zero = [np.all(layer.kernel.numpy() == 0, axis=0) & (layer.bias.numpy() == 0) for layer in columns]
    zero += [np.all(layer.kernel.numpy() == 0, axis=1) for layer in readers]
    return np.logical_and.reduce(zero)


def alive(model: TextModel) -> Kept:
    """Return the units that are not dead, and at least one head of each layer and one neuron of each kind.

    The heads of a layer keep the same number of neurons, that of the head with most living ones; the
    others keep some dead neurons.
    """
    full, sizes = everything(model), sizes_of(model)
    layers = []
    for number, _ in full.layers:
        block, shape = model.encoder.blocks[number - 1], sizes.layer_shape(number)
        value = ~_dead([block.value], [block.attention_output]).reshape(shape.heads, shape.value)
        query_key = ~_dead([block.query, block.key], []).reshape(shape.heads, shape.query_key)
        heads = tuple(int(head) for head in np.flatnonzero(value.any(axis=1))) or (0,)
        inner = np.flatnonzero(~_dead([block.intermediate], [block.output_dense]))
        kept = KeptLayer(
            heads,
            _same_number(query_key[list(heads)]),
            _same_number(value[list(heads)]),
            tuple(inner.tolist()) or (0,),
        )
        layers.append((number, kept))
    pooler = full.pooler
    if _pooler_is_read_by_head_only(model):
        pooler = tuple(np.flatnonzero(~_dead([model.encoder.pooler], [model.head])).tolist()) or (0,)
    return Kept(tuple(layers), full.hidden, pooler)


def _pooler_is_read_by_head_only(model: TextModel) -> bool:
    return model.encoder.pooler is not None and HEADS[model.task].reads == "pooled" and model.nsp_head is None


def _same_number(living: np.ndarray) -> tuple[Indices, ...]:
    """Return the living positions of each row of (A, n), filled up with dead ones to the largest number of any row."""
    count = max(1, int(living.sum(axis=1).max()))
    # A stable sort puts the living first, and keeps the order within both kinds.
    return tuple(tuple(sorted(np.argsort(~row, kind="stable")[:count].tolist())) for row in living)


def compact(model: TextModel) -> TextModel:
    """Return a physically smaller model with the same output, without the dead units of `model`."""
    return cut(model, alive(model))


def zero(model: TextModel, kept: Kept) -> None:
    """Set the units that are not in `kept` to zero, in place.

    Raises:
        UserError: `kept` omits a layer, or part of the residual stream.
    """
    sizes = sizes_of(model)
    if len(kept.layers) != model.num_layers or len(kept.hidden) != sizes.hidden_size:
        raise UserError(
            "Layers and the hidden size cannot be set to zero, since LayerNorm would still count them. Use `cut`."
        )
    for number, layer in kept.layers:
        block, shape = model.encoder.blocks[number - 1], sizes.layer_shape(number)
        query_key = _columns(layer.query_key, layer.heads, shape.query_key)
        value = _columns(layer.value, layer.heads, shape.value)
        inner = np.array(layer.intermediate, int)
        for dense in (block.query, block.key):
            _zero(dense, columns=query_key)
        _zero(block.value, columns=value)
        _zero(block.attention_output, rows=value)
        _zero(block.intermediate, columns=inner)
        _zero(block.output_dense, rows=inner)
    if _pooler_is_read_by_head_only(model):
        pooler = np.array(kept.pooler, int)
        _zero(model.encoder.pooler, columns=pooler)
        _zero(model.head, rows=pooler)


def _zero(dense: Any, rows: np.ndarray | None = None, columns: np.ndarray | None = None) -> None:
    """Set all of a dense layer to zero except these rows (inputs), or columns (outputs, with their biases)."""
    kernel, bias = dense.kernel.numpy(), dense.bias.numpy()
    if rows is not None:
        keep = np.zeros(kernel.shape[0], bool)
        keep[rows] = True
        dense.kernel.assign(np.where(keep[:, None], kernel, 0.0))
    if columns is not None:
        keep = np.zeros(kernel.shape[1], bool)
        keep[columns] = True
        dense.kernel.assign(np.where(keep, kernel, 0.0))
        dense.bias.assign(np.where(keep, bias, 0.0))
