"""Build the inference graphs of BERT, DistilBERT, RoBERTa, ELECTRA, ALBERT and MobileBERT.

With `Parts.fuses`, query, key and value come from one product if they read the same rows;
`benchmarks/graph_rewrites.py` measures the gain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.export.convert.graph_parts import ACTIVATIONS, Encoder, Function, Parts

# Copied from tfdistill.models, since importing it would load Keras into the converter's process.
MASKED_SCORE = -100.0
MOBILEBERT_MASKED_SCORE = -10_000.0
MOBILEBERT_EPSILON = 1e-5  # PyTorch's default, which transformers uses for some of the norms

# Maps (query's input, key's input, value's input, key_bias (1, length)) to the mixed values.
Attention = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


# --- attention ------------------------------------------------------------------------------------------------------


def attention(parts: Parts, names: tuple[str, str, str], heads: int, scale: float) -> Attention:
    """Return attention of all rows: inputs (length, width) and key_bias (1, length) to (length, heads * value size).

    Args:
        parts: the model's tensors.
        names: names of the query's, the key's and the value's dense layer.
        heads: number of heads.
        scale: factor of the scores; it is multiplied into the query's weights.
    """
    to_query, to_key, to_value = parts.dense(names[0], scale), parts.dense(names[1]), parts.dense(names[2])

    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        queries, keys, values = (_split(x, heads) for x in (to_query(query), to_key(key), to_value(value)))
        return _mix(names[0], queries, keys, values, key_bias)

    return attend


def fused_attention(parts: Parts, names: tuple[str, str, str], heads: int, scale: float, shared: int = 3) -> Attention:
    """Return `attention` in which one product computes the first `shared` (2 or 3) of query, key and value.

    They have to read the same rows. Values whose size differs from the keys' (after pruning) are
    computed separately.
    """
    sizes = [parts.tensors[f"{name}.weight"].shape[0] for name in names]
    shared = min(shared, 3 if sizes[2] == sizes[0] else 2)
    together = parts.dense_together(names[:shared], [scale, 1.0, 1.0][:shared])
    to_value = parts.dense(names[2]) if shared == 2 else None

    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        # One transposition serves the heads of all products.
        products = tf.split(_split(together(query), shared * heads), shared)
        values = products[2] if to_value is None else _split(to_value(value), heads)
        return _mix(names[0], products[0], products[1], values, key_bias)

    return attend


def _split(x: tf.Tensor, heads: int) -> tf.Tensor:
    """Reshape (n, heads * size) to (heads, n, size); with one row or head the memory layout stays the same."""
    n, size = x.shape[0], x.shape[1] // heads
    if 1 in (n, heads):
        return tf.reshape(x, [heads, n, size])
    return tf.transpose(tf.reshape(x, [n, heads, size]), [1, 0, 2])


def _mix(name: str, queries: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
    """Mix values (heads, length, size) by the attention of queries (heads, n, size) to keys: (n, heads * size)."""
    with tf.name_scope(f"{name}.scores"):
        scores = tf.matmul(queries, keys, transpose_b=True)
    with tf.name_scope(f"{name}.masked"):
        masked = scores + key_bias
    mixed = tf.matmul(tf.nn.softmax(masked), values)
    heads, n, size = mixed.shape
    return tf.reshape(mixed if 1 in (n, heads) else tf.transpose(mixed, [1, 0, 2]), [n, heads * size])


def first_attention(parts: Parts, names: tuple[str, str, str], heads: int, scale: float) -> Attention:
    """Return `attention` of one query, which computes no key or value of each token: (1, heads * value size).

    With one query q the products can be reordered: q · (x K) = (q Kᵀ) · x, and a (x V) = (a x) V,
    so that a product for each token becomes one for each head. The key's bias adds the same number
    to all scores, which softmax cancels. The value's bias is added once, since the attention
    weights add up to 1.
    """
    to_query, tensors = parts.dense(names[0], scale), parts.tensors
    key_kernel = parts.hold(tensors[f"{names[1]}.weight"])
    value_kernel = parts.hold(np.ascontiguousarray(tensors[f"{names[2]}.weight"].T))
    bias = tensors[f"{names[2]}.bias"]

    def blocks(size: int) -> np.ndarray:
        """Return a mask (heads, size) whose row h keeps the part of head h."""
        return np.kron(np.eye(heads, dtype="float32"), np.ones((1, size // heads), "float32"))

    query_blocks, value_blocks = blocks(key_kernel.shape[0]), blocks(value_kernel.shape[1])

    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        queries = tf.matmul(to_query(query) * query_blocks, key_kernel)
        scores = tf.matmul(tf.reshape(queries, [1, *queries.shape]), tf.reshape(key, [1, *key.shape]), transpose_b=True)
        mixed = tf.matmul(tf.nn.softmax(scores + key_bias), tf.reshape(value, [1, *value.shape]))
        values = tf.matmul(tf.reshape(mixed, [heads, value.shape[1]]), value_kernel)
        return tf.reduce_sum(values * value_blocks, axis=0, keepdims=True) + bias

    return attend


def _attention_of(parts: Parts, first: bool, shared: int) -> Callable[..., Attention]:
    """Choose the function that builds a layer's attention.

    Args:
        parts: the model's tensors.
        first: whether the layer computes the first row only; then no product with all rows can be
            fused.
        shared: how many of query, key and value read the same rows.
    """
    if first and parts.reorders:
        return first_attention
    # Learned ranges belong to separate products.
    return partial(fused_attention, shared=shared) if parts.fuses and parts.reorders and shared > 1 else attention


def _key_bias(padding_mask: tf.Tensor, masked_score: float) -> tf.Tensor:
    """Return (1, length), which is added to the scores of each head."""
    return (1.0 - tf.cast(padding_mask, tf.float32)) * masked_score


# --- BERT -----------------------------------------------------------------------------------------------------------

NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "project": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "output_norm": "output.LayerNorm",
}


@dataclass(frozen=True)
class Layout:
    """Say which tensors a BERT encoder has, and how it combines them.

    Args:
        embeddings: start of the names of the embeddings.
        layers: start of the names of each layer; layers with the same name share their weights.
        heads: number of heads of each layer.
        scale: factor of the scores.
        activation: the activation of the feed-forward layers.
        epsilon: added to the variance by LayerNorm.
        pooler: name and activation of the dense layer over the [CLS] state; None for the states of all tokens.
        names: the rest of a layer's names, by part.
        projection: name of a dense layer of the embeddings.
        projects_sum: whether it follows LayerNorm; otherwise it belongs to the word table.
        padding_idx: the id of padding, if positions are counted from the one after it.
    """

    embeddings: str
    layers: Sequence[str]
    heads: Sequence[int]
    scale: float
    activation: str
    epsilon: float
    pooler: tuple[str, str] | None
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    projection: str | None = None
    projects_sum: bool = False
    padding_idx: int | None = None


def bert(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return BERT, regular or pruned: its pooler's output (1, width), or the last states (length, width)."""
    pooler = ("bert.pooler.dense", config.get("pooler_act", "tanh")) if pooled else None
    layout = replace(
        _layout(config, "bert", pooler),
        projection="bert.embeddings.word_projection" if config.get("embedding_size") else None,
        projects_sum=config.get("projects_sum", False),
        padding_idx=config.get("padding_idx"),
    )
    return _encoder(parts, length, layout)


def roberta(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return RoBERTa, XLM-R or CamemBERT: the first layer of its head (1, width), or the last states (length, width)."""
    layout = _layout(config, "roberta", ("classifier.dense", "tanh") if pooled else None)
    return _encoder(parts, length, replace(layout, padding_idx=config["pad_token_id"]))


def electra(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return ELECTRA: the first layer of its head (1, width), or the last states (length, width)."""
    layout = _layout(config, "electra", ("classifier.dense", "gelu") if pooled else None)
    projection = "electra.embeddings_project" if config["embedding_size"] != config["hidden_size"] else None
    return _encoder(parts, length, replace(layout, projection=projection, projects_sum=True))


def albert(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return ALBERT, whose layers share weights: its pooler's output (1, width), or the last states (length, width)."""
    count, inner = config["num_hidden_layers"], range(config["inner_group_num"])
    groups = [int(n / (count / config["num_hidden_groups"])) for n in range(count)]
    layers = [f"albert.encoder.albert_layer_groups.{group}.albert_layers.{n}" for group in groups for n in inner]
    layout = replace(
        _layout(config, "albert", ("albert.pooler", "tanh") if pooled else None),
        layers=layers,
        heads=[config["num_attention_heads"]] * len(layers),
        projection="albert.encoder.embedding_hidden_mapping_in",
        projects_sum=True,
        names={
            "query": "attention.query",
            "key": "attention.key",
            "value": "attention.value",
            "project": "attention.dense",
            "attention_norm": "attention.LayerNorm",
            "widen": "ffn",
            "narrow": "ffn_output",
            "output_norm": "full_layer_layer_norm",
        },
    )
    return _encoder(parts, length, layout)


def _layout(config: Mapping[str, Any], prefix: str, pooler: tuple[str, str] | None) -> Layout:
    head_size = config.get("attention_head_size") or config["hidden_size"] // config["num_attention_heads"]
    heads = config.get("heads_per_layer") or [config["num_attention_heads"]] * config["num_hidden_layers"]
    return Layout(
        embeddings=f"{prefix}.embeddings",
        layers=[f"{prefix}.encoder.layer.{n}" for n in range(len(heads))],
        heads=heads,
        scale=head_size**-0.5,
        activation=config["hidden_act"],
        epsilon=config["layer_norm_eps"],
        pooler=pooler,
    )


def distilbert(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return DistilBERT: the output of its `pre_classifier` (1, width), or the last states (length, width)."""
    names = {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "project": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "widen": "ffn.lin1",
        "narrow": "ffn.lin2",
        "output_norm": "output_layer_norm",
    }
    layout = Layout(
        embeddings="distilbert.embeddings",
        layers=[f"distilbert.transformer.layer.{n}" for n in range(config["n_layers"])],
        heads=[config["n_heads"]] * config["n_layers"],
        scale=(config["dim"] // config["n_heads"]) ** -0.5,
        activation=config["activation"],
        epsilon=1e-12,
        pooler=("pre_classifier", "relu") if pooled else None,
        names=names,
    )
    return _encoder(parts, length, layout)


def _encoder(parts: Parts, length: int, layout: Layout) -> Encoder:
    embed = _embeddings(parts, length, layout)
    # A pooler reads only [CLS], so the last layer computes nothing else.
    last = None if layout.pooler is None else len(layout.layers) - 1
    blocks = [_layer(parts, layout, number, number == last) for number in range(len(layout.layers))]
    pool = None if layout.pooler is None else (parts.dense(layout.pooler[0]), ACTIVATIONS[layout.pooler[1]])

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        key_bias = _key_bias(padding_mask, MASKED_SCORE)
        x = embed(tf.reshape(token_ids, [length]), tf.reshape(segment_ids, [length]))
        for block in blocks:
            x = block(x, key_bias)
        return x if pool is None else pool[1](pool[0](x))

    return forward


def _embeddings(parts: Parts, length: int, layout: Layout) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the embeddings of ids (length,) and segments (length,): (length, width)."""
    name, padding_idx = layout.embeddings, layout.padding_idx
    word, norm = parts.embedding(f"{name}.word_embeddings"), parts.layer_norm(f"{name}.LayerNorm", layout.epsilon)
    first = 0 if padding_idx is None else padding_idx + 1
    table = parts.hold(parts.tensors[f"{name}.position_embeddings.weight"][: first + length])
    token_types = parts.tensors.get(f"{name}.token_type_embeddings.weight")
    project = ACTIVATIONS["linear"] if layout.projection is None else parts.dense(layout.projection)
    widen, finish = (ACTIVATIONS["linear"], project) if layout.projects_sum else (project, ACTIVATIONS["linear"])

    def positions(token_ids: tf.Tensor) -> tf.Tensor:
        if padding_idx is None:
            return table
        # Padding is recognised by its id and has the row of that number, as in `tfdistill.models.bert`.
        tokens = tf.cast(tf.not_equal(token_ids, padding_idx), tf.int32)
        return tf.gather(table, tf.cumsum(tokens) * tokens + padding_idx)

    def embed(token_ids: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        x = widen(word(token_ids)) + positions(token_ids)
        if token_types is not None:
            x = x + tf.gather(token_types, segment_ids)
        return finish(norm(x))

    return embed


def _layer(parts: Parts, layout: Layout, number: int, first: bool) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a layer: (x (length, width), key_bias) to its states (length, width), or (1, width) if `first`."""
    kind, act = _attention_of(parts, first, 3), ACTIVATIONS[layout.activation]
    name = {part: f"{layout.layers[number]}.{rest}" for part, rest in layout.names.items()}
    attend = kind(parts, (name["query"], name["key"], name["value"]), layout.heads[number], layout.scale)
    widen = parts.dense(name["widen"])
    project, narrow = (parts.add_dense(name[part]) for part in ("project", "narrow"))
    norms = [parts.layer_norm(name[part], layout.epsilon) for part in ("attention_norm", "output_norm")]

    def layer(x: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        rest = x[:1] if first else x
        x = norms[0](project(rest, attend(rest, x, x, key_bias)))
        return norms[1](narrow(x, act(widen(x))))

    return layer


# --- MobileBERT -----------------------------------------------------------------------------------------------------


def mobilebert(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """Return MobileBERT, TINY or IB-BERT: the pooled output (1, width), or the last states (length, width)."""
    word = parts.embedding("mobilebert.embeddings.word_embeddings")
    transformation = "mobilebert.embeddings.embedding_transformation"
    transform = parts.dense(transformation) if f"{transformation}.weight" in parts.tensors else ACTIVATIONS["linear"]
    positions = parts.hold(parts.tensors["mobilebert.embeddings.position_embeddings.weight"][:length])
    token_types = parts.tensors["mobilebert.embeddings.token_type_embeddings.weight"]
    norm = _mobile_norm(config, parts, "mobilebert.embeddings.LayerNorm", MOBILEBERT_EPSILON)
    count = config["num_hidden_layers"]
    blocks = [
        _mobile_layer(config, parts, f"mobilebert.encoder.layer.{number}", pooled and number + 1 == count)
        for number in range(count)
    ]
    pooler = parts.dense("mobilebert.pooler.dense") if pooled and config["classifier_activation"] else None

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        key_bias, x = _key_bias(padding_mask, MOBILEBERT_MASKED_SCORE), word(tf.reshape(token_ids, [length]))
        if config["trigram_input"]:
            x = x * tf.reshape(tf.cast(padding_mask, tf.float32), [length, 1])
            x = tf.concat([tf.pad(x[1:], [[0, 1], [0, 0]]), x, tf.pad(x[:-1], [[1, 0], [0, 0]])], axis=1)
        x = norm(transform(x) + positions + tf.gather(token_types, tf.reshape(segment_ids, [length])))
        for block in blocks:
            x = block(x, key_bias)
        return x if pooler is None else tf.tanh(pooler(x))

    return forward


def _mobile_norm(config: Mapping[str, Any], parts: Parts, name: str, epsilon: float) -> Function:
    return parts.no_norm(name) if config["normalization_type"] == "no_norm" else parts.layer_norm(name, epsilon)


def _mobile_layer(
    config: Mapping[str, Any], parts: Parts, prefix: str, first: bool
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return a layer like `_layer`, whose states have the hidden size of the body."""
    activation, epsilon = ACTIVATIONS[config["hidden_act"]], config["layer_norm_eps"]
    heads, has_bottleneck = config["num_attention_heads"], config["use_bottleneck"]
    width = config["intra_bottleneck_size"] if has_bottleneck else config["hidden_size"]

    def norm(name: str, epsilon: float = epsilon) -> Function:
        return _mobile_norm(config, parts, f"{prefix}.{name}", epsilon)

    def bottleneck(name: str) -> Function | None:
        if f"{prefix}.bottleneck.{name}.dense.weight" not in parts.tensors:
            return None
        inner, after = parts.dense(f"{prefix}.bottleneck.{name}.dense"), norm(f"bottleneck.{name}.LayerNorm")
        return lambda x: after(inner(x))

    def feed_forward(name: str, epsilon: float = epsilon) -> Function:
        widen, narrow = (
            parts.dense(f"{prefix}.{name}intermediate.dense"),
            parts.add_dense(f"{prefix}.{name}output.dense"),
        )
        after = norm(f"{name}output.LayerNorm", epsilon)
        return lambda x: after(narrow(x, activation(widen(x))))

    squeeze, squeeze_attention = bottleneck("input"), bottleneck("attention")
    reads_narrow = has_bottleneck and config["use_bottleneck_attention"]
    # Values read the wide rows, unless all three read the narrow rows or there is no narrow query.
    kind = _attention_of(parts, first, 3 if reads_narrow or squeeze_attention is None else 2)
    inner = f"{prefix}.attention.self"
    attend = kind(parts, (f"{inner}.query", f"{inner}.key", f"{inner}.value"), heads, (width // heads) ** -0.5)
    project, attention_norm = parts.add_dense(f"{prefix}.attention.output.dense"), norm("attention.output.LayerNorm")
    networks = [feed_forward(f"ffn.{n}.") for n in range(config["num_feedforward_networks"] - 1)]
    networks.append(feed_forward("", MOBILEBERT_EPSILON))
    if has_bottleneck:
        expand, output_norm = parts.add_dense(f"{prefix}.output.bottleneck.dense"), norm("output.bottleneck.LayerNorm")

    def layer(x: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        rest = x[:1] if first else x
        inside = x if reads_narrow else rest  # keys that read it need all of its rows
        inside = inside if squeeze is None else squeeze(inside)
        query = x if squeeze_attention is None else squeeze_attention(x)
        query = inside if reads_narrow else query
        mixed = attend(query[:1] if first else query, query, inside if reads_narrow else x, key_bias)
        inside = attention_norm(project(inside[:1] if first else inside, mixed))
        for network in networks:
            inside = network(inside)
        return output_norm(expand(rest, inside)) if has_bottleneck else inside

    return layer
