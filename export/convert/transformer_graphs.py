"""Inference graphs of the transformer families.

With `Parts.fuses` query, key and value come from one product where they read the same rows (`benchmarks/graph_rewrites.py`
measures it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from tfdistill.export.convert.graph_parts import ACTIVATIONS, Encoder, Function, Parts

# As in tfdistill.models, whose import would bring Keras into the converter's process.
MASKED_SCORE = -100.0
MOBILEBERT_MASKED_SCORE = -10_000.0
MOBILEBERT_EPSILON = 1e-5  # of the norms for which transformers leaves PyTorch's default

# (query's input, key's input, value's input, key_bias (1, length)) to the mixed values.
Attention = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]


# --- attention ------------------------------------------------------------------------------------------------------


def attention(parts: Parts, names: tuple[str, str, str], heads: int, scale: float) -> Attention:
    """Attention of all rows: inputs (length, width) and key_bias (1, length) to (length, heads * value size).

    Args:
        names: of the query's, the key's and the value's dense layer.
        scale: of the scores; it goes into the query's weights.
    """
    ask, offer, give = parts.dense(names[0], scale), parts.dense(names[1]), parts.dense(names[2])

    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        asked, offered, given = (_split(x, heads) for x in (ask(query), offer(key), give(value)))
        return _mix(names[0], asked, offered, given, key_bias)

    return attend


def fused_attention(parts: Parts, names: tuple[str, str, str], heads: int, scale: float, shared: int = 3) -> Attention:
    """`attention` where the first `shared` of query, key and value, 2 or 3, read the same rows: one product gives them.

    Heads whose values have another size than their keys, as pruning leaves them, get their values from a product of their own.
    """
    sizes = [parts.tensors[f"{name}.weight"].shape[0] for name in names]
    shared = min(shared, 3 if sizes[2] == sizes[0] else 2)
    together = parts.dense_together(names[:shared], [scale, 1.0, 1.0][:shared])
    give = parts.dense(names[2]) if shared == 2 else None

    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        # The heads of all lie side by side, so that one transposition serves them.
        found = tf.split(_split(together(query), shared * heads), shared)
        given = found[2] if give is None else _split(give(value), heads)
        return _mix(names[0], found[0], found[1], given, key_bias)

    return attend


def _split(x: tf.Tensor, heads: int) -> tf.Tensor:
    """(n, heads * size) to (heads, n, size). With one row or head, both lie in memory alike."""
    n, size = x.shape[0], x.shape[1] // heads
    if 1 in (n, heads):
        return tf.reshape(x, [heads, n, size])
    return tf.transpose(tf.reshape(x, [n, heads, size]), [1, 0, 2])


def _mix(name: str, asked: tf.Tensor, offered: tf.Tensor, given: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
    """What attention of `asked` (heads, n, size) to `offered` gives of `given` (heads, length, size): (n, heads * size)."""
    with tf.name_scope(f"{name}.scores"):
        scores = tf.matmul(asked, offered, transpose_b=True)
    with tf.name_scope(f"{name}.masked"):
        masked = scores + key_bias
    mixed = tf.matmul(tf.nn.softmax(masked), given)
    heads, n, size = mixed.shape
    return tf.reshape(mixed if 1 in (n, heads) else tf.transpose(mixed, [1, 0, 2]), [n, heads * size])


def first_attention(parts: Parts, names: tuple[str, str, str], heads: int, scale: float) -> Attention:
    """`attention` of one query, without a key or a value for each token: (1, heads * value size).

    With one query q the products can be taken in another order: q · (x K) = (q Kᵀ) · x, and a (x V) = (a x) V. What was a
    product with every token is one with every head. The key's bias adds the same to all scores, which softmax takes away.
    The value's bias is added once, since the weights add up to 1.
    """
    ask, tensors = parts.dense(names[0], scale), parts.tensors
    back = parts.hold(tensors[f"{names[1]}.weight"])
    give = parts.hold(np.ascontiguousarray(tensors[f"{names[2]}.weight"].T))
    bias = tensors[f"{names[2]}.bias"]

    def own(size: int) -> np.ndarray:
        """(heads, size): row h keeps what belongs to head h."""
        return np.kron(np.eye(heads, dtype="float32"), np.ones((1, size // heads), "float32"))

    own_query, own_value = own(back.shape[0]), own(give.shape[1])

    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        asked = tf.matmul(ask(query) * own_query, back)
        scores = tf.matmul(tf.reshape(asked, [1, *asked.shape]), tf.reshape(key, [1, *key.shape]), transpose_b=True)
        mixed = tf.matmul(tf.nn.softmax(scores + key_bias), tf.reshape(value, [1, *value.shape]))
        given = tf.matmul(tf.reshape(mixed, [heads, value.shape[1]]), give)
        return tf.reduce_sum(given * own_value, axis=0, keepdims=True) + bias

    return attend


def _attention_of(parts: Parts, first: bool, shared: int) -> Callable[..., Attention]:
    """What makes the attention of a layer.

    Args:
        first: whether it computes the first row alone; then there is no product with all rows to fuse.
        shared: how many of query, key and value read the same rows.
    """
    if first and parts.reorders:
        return first_attention
    # Learned ranges are those of a product each.
    return partial(fused_attention, shared=shared) if parts.fuses and parts.reorders and shared > 1 else attention


def _key_bias(padding_mask: tf.Tensor, masked_score: float) -> tf.Tensor:
    """(1, length), which is added to the scores of each head."""
    return (1.0 - tf.cast(padding_mask, tf.float32)) * masked_score


# --- BERT -----------------------------------------------------------------------------------------------------------


def bert(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """BERT, even or pruned: its pooler's output (1, width), or the last states (length, width)."""
    prefix = "bert.encoder.layer"
    names = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "project": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "widen": "intermediate.dense",
        "narrow": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    head_size = config.get("attention_head_size") or config["hidden_size"] // config["num_attention_heads"]
    heads = config.get("heads_per_layer") or [config["num_attention_heads"]] * config["num_hidden_layers"]
    pooler = ("bert.pooler.dense", config.get("pooler_act", "tanh")) if pooled else None
    settings = heads, head_size**-0.5, config["hidden_act"], config["layer_norm_eps"]
    return _encoder(parts, length, "bert.embeddings", prefix, names, pooler, *settings)


def distilbert(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """DistilBERT: the output of its `pre_classifier` (1, width), or the last states (length, width)."""
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
    heads, scale = [config["n_heads"]] * config["n_layers"], (config["dim"] // config["n_heads"]) ** -0.5
    pooler = ("pre_classifier", "relu") if pooled else None
    settings = heads, scale, config["activation"], 1e-12
    return _encoder(parts, length, "distilbert.embeddings", "distilbert.transformer.layer", names, pooler, *settings)


def _encoder(
    parts: Parts,
    length: int,
    embeddings: str,
    prefix: str,
    names: Mapping[str, str],
    pooler: tuple[str, str] | None,
    heads: list[int],
    scale: float,
    activation: str,
    epsilon: float,
) -> Encoder:
    word, norm = parts.embedding(f"{embeddings}.word_embeddings"), parts.layer_norm(f"{embeddings}.LayerNorm", epsilon)
    positions = parts.hold(parts.tensors[f"{embeddings}.position_embeddings.weight"][:length])
    token_types = parts.tensors.get(f"{embeddings}.token_type_embeddings.weight")
    factor = f"{embeddings}.word_projection"
    project = parts.dense(factor) if f"{factor}.weight" in parts.tensors else ACTIVATIONS["linear"]
    # A pooler reads [CLS] alone, so the last layer need not compute more.
    blocks = [
        _layer(
            parts, f"{prefix}.{n}", names, count, scale, activation, epsilon, pooler is not None and n + 1 == len(heads)
        )
        for n, count in enumerate(heads)
    ]
    pool = None if pooler is None else (parts.dense(pooler[0]), ACTIVATIONS[pooler[1]])

    def forward(token_ids: tf.Tensor, padding_mask: tf.Tensor, segment_ids: tf.Tensor) -> tf.Tensor:
        key_bias = _key_bias(padding_mask, MASKED_SCORE)
        x = project(word(tf.reshape(token_ids, [length]))) + positions
        if token_types is not None:
            x = x + tf.gather(token_types, tf.reshape(segment_ids, [length]))
        x = norm(x)
        for block in blocks:
            x = block(x, key_bias)
        return x if pool is None else pool[1](pool[0](x))

    return forward


def _layer(
    parts: Parts,
    prefix: str,
    names: Mapping[str, str],
    heads: int,
    scale: float,
    activation: str,
    epsilon: float,
    first: bool,
) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(x (length, width), key_bias) to the layer's states (length, width), or its first one (1, width) if `first`."""
    kind, act = _attention_of(parts, first, 3), ACTIVATIONS[activation]
    query, key, value = (f"{prefix}.{names[part]}" for part in ("query", "key", "value"))
    attend = kind(parts, (query, key, value), heads, scale)
    widen = parts.dense(f"{prefix}.{names['widen']}")
    project, narrow = (parts.add_dense(f"{prefix}.{names[part]}") for part in ("project", "narrow"))
    norms = [parts.layer_norm(f"{prefix}.{names[part]}", epsilon) for part in ("attention_norm", "output_norm")]

    def layer(x: tf.Tensor, key_bias: tf.Tensor) -> tf.Tensor:
        rest = x[:1] if first else x
        x = norms[0](project(rest, attend(rest, x, x, key_bias)))
        return norms[1](narrow(x, act(widen(x))))

    return layer


# --- MobileBERT -----------------------------------------------------------------------------------------------------


def mobilebert(config: Mapping[str, Any], parts: Parts, length: int, pooled: bool) -> Encoder:
    """MobileBERT, TINY and IB-BERT: the pooled output (1, width), or the last states (length, width)."""
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
    """As `_layer`; the states are as wide as the body."""
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
    # Values are made of the wide rows, unless all three read the narrow ones or there is no narrow query.
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
        inside = x if reads_narrow else rest  # where keys are made of it, all of it is needed
        inside = inside if squeeze is None else squeeze(inside)
        query = x if squeeze_attention is None else squeeze_attention(x)
        query = inside if reads_narrow else query
        mixed = attend(query[:1] if first else query, query, inside if reads_narrow else x, key_bias)
        inside = attention_norm(project(inside[:1] if first else inside, mixed))
        for network in networks:
            inside = network(inside)
        return output_norm(expand(rest, inside)) if has_bottleneck else inside

    return layer
