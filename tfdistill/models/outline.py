"""Outline a model from its config: all variables of its encoder with names and shapes, and nothing built.

`encoder_names` and `pooler_names` of `tfdistill.models.hf_names` read an outline as they read a model.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

from tfdistill.models.bert_config import LayerShape


class Size(int):
    """An axis, with the field of the config that decides it."""

    field: str

    def __new__(cls, value: int, field: str) -> Size:
        size = super().__new__(cls, value)
        size.field = field
        return size


class Shape(NamedTuple):
    """The outline of a variable."""

    shape: tuple[Size, ...]


def outline(config: Any) -> Any:
    """Return the outline of a model: `family`, `config`, `encoder`, and no head.

    Layers are outlined when they are read. What a model of tokens does not have is the `pooler`: the dense layer of a
    BiLSTM, the token scores and dense layers of a static encoder.
    """
    encoder = {"bilstm": _bilstm, "static": _static}.get(config.family, _transformer)(config)
    return SimpleNamespace(family=config.family, config=config, encoder=encoder)


def _dense(inputs: Size, units: Size) -> Any:
    return SimpleNamespace(kernel=Shape((inputs, units)), bias=Shape((units,)))


def _norm(width: Size) -> Any:
    return SimpleNamespace(gamma=Shape((width,)), beta=Shape((width,)))


def _table(rows: Size, columns: Size) -> Any:
    return SimpleNamespace(embeddings=Shape((rows, columns)))


def _of(config: Any, field: str) -> Size:
    """Return a field of a config as a size."""
    return Size(getattr(config, field), field)


def _transformer(config: Any) -> Any:
    mobile = config.family == "mobilebert"
    config = config if mobile else config.as_bert()
    hidden = _of(config, "hidden_size")
    blocks = (_mobile_layer(config) if mobile else _bert_layer(config, n) for n in range(config.num_hidden_layers))
    pooler = None
    if config.pooler_act:
        width = _of(config, "pooler_size") if config.pooler_size else hidden
        pooler = _dense(hidden, width)
    embeddings = _mobile_embeddings(config, hidden) if mobile else _embeddings(config, hidden)
    return SimpleNamespace(embeddings=embeddings, blocks=blocks, pooler=pooler)


def _embeddings(config: Any, hidden: Size) -> Any:
    columns = _of(config, "embedding_size") if config.embedding_size else hidden
    projection = None
    if columns is not hidden:
        projection = _dense(columns, hidden)
        if not config.projects_sum:
            projection.bias = None
    tables = _tables(config, columns, columns if config.projects_sum else hidden)
    return SimpleNamespace(**tables, word_projection=projection)


def _mobile_embeddings(config: Any, hidden: Size) -> Any:
    columns, transformation = _of(config, "embedding_size"), None
    if config.embedding_transformation:
        transformation = _dense(Size(columns * (3 if config.trigram_input else 1), "trigram_input"), hidden)
    return SimpleNamespace(**_tables(config, columns, hidden), transformation=transformation)


def _tables(config: Any, columns: Size, width: Size) -> dict[str, Any]:
    types = _of(config, "type_vocab_size")
    return {
        "word": _table(_of(config, "vocab_size"), columns),
        "position": _table(_of(config, "max_position_embeddings"), width),
        "token_type": _table(types, width) if types else None,
        "norm": _norm(width),
    }


def _attention(reads: Size, values: Size, sizes: tuple[Size, Size], width: Size) -> dict[str, Any]:
    """Return dense layers; `sizes` are the units of queries and keys, and of values."""
    return {
        "query": _dense(reads, sizes[0]),
        "key": _dense(reads, sizes[0]),
        "value": _dense(values, sizes[1]),
        "attention_output": _dense(sizes[1], width),
        "attention_norm": _norm(width),
    }


def _bert_layer(config: Any, number: int) -> Any:
    hidden = _of(config, "hidden_size")
    shape = config.layer_shape(number + 1)
    intermediate = Size(shape.intermediate, _field(config, "intermediate_sizes", "intermediate_size"))
    return SimpleNamespace(
        **_attention(hidden, hidden, _head_sizes(config, shape, hidden), hidden),
        intermediate=_dense(hidden, intermediate),
        output_dense=_dense(intermediate, hidden),
        output_norm=_norm(hidden),
    )


def _head_sizes(config: Any, shape: LayerShape, hidden: Size) -> tuple[Size, Size]:
    units = (shape.heads * shape.query_key, shape.heads * shape.value)
    if units == (hidden, hidden):
        return hidden, hidden
    names = (_field(config, "query_key_sizes", "heads_per_layer"), _field(config, "value_sizes", "heads_per_layer"))
    return Size(units[0], names[0]), Size(units[1], names[1])


def _field(config: Any, first: str, other: str) -> str:
    return first if getattr(config, first, None) else other


def _mobile_layer(config: Any) -> Any:
    hidden = _of(config, "hidden_size")
    width = _of(config, "intra_bottleneck_size") if config.use_bottleneck else hidden
    intermediate = _of(config, "intermediate_size")
    reads, values = _mobile_reads(config, hidden, width)

    def bottleneck() -> Any:
        return SimpleNamespace(dense=_dense(hidden, width), norm=_norm(width))

    def network() -> Any:
        parts = {"intermediate": _dense(width, intermediate), "output_dense": _dense(intermediate, width)}
        return SimpleNamespace(**parts, norm=_norm(width))

    def stack() -> Iterator[Any]:
        return (network() for _ in range(1, config.num_feedforward_networks))

    return SimpleNamespace(
        config=config,
        input_bottleneck=bottleneck() if config.use_bottleneck else None,
        attention_bottleneck=bottleneck() if config.attention_bottleneck else None,
        **_attention(reads, values, (width, width), width),
        stack=stack(),
        last=network(),
        output_dense=_dense(width, hidden),
        output_norm=_norm(hidden),
    )


def _mobile_reads(config: Any, hidden: Size, width: Size) -> tuple[Size, Size]:
    """Return the sizes that queries and keys read, and that values read."""
    if config.attention_bottleneck:
        return width, hidden
    both = width if config.use_bottleneck_attention and config.use_bottleneck else hidden
    return both, both


def _bilstm(config: Any) -> Any:
    units, columns = _of(config, "lstm_size"), _of(config, "embedding_size")
    gates, both = Size(4 * units, "lstm_size"), Size(2 * units, "lstm_size")

    def layers(direction: str) -> Iterator[Any]:
        for number in range(1, config.num_layers + 1):
            kernel = Shape((columns if number == 1 else both, gates))
            cell = SimpleNamespace(kernel=kernel, recurrent_kernel=Shape((units, gates)), bias=Shape((gates,)))
            yield SimpleNamespace(name=f"{direction}_{number}", cell=cell)

    dense = None
    if config.dense_size:
        dense = _dense(Size(both * (4 if config.pair else 1), "lstm_size"), _of(config, "dense_size"))
    return SimpleNamespace(
        embedding=_table(_of(config, "vocab_size"), columns),
        forward=layers("forward"),
        backward=layers("backward"),
        dense=None,
        pooler=dense,
    )


def _static(config: Any) -> Any:
    rows, columns = _of(config, "vocab_size"), _of(config, "embedding_size")

    def layers(name: str, reads: Size, window: int) -> list[Any]:
        """Outline the layers `name`, of which the first reads `reads` values, and each other one `window` states."""
        units, found = _of(config, f"{name}_size"), []
        for n in range(1, getattr(config, f"{name}_layers") + 1):
            found.append(SimpleNamespace(name=f"{name}_{n}", **vars(_dense(reads, units))))
            reads = Size(window * units, f"{name}_size")
        return found

    pooled = Size(config.state_size * (4 if config.pair else 1), "embedding_size")
    return SimpleNamespace(
        embedding=_table(rows, columns),
        token_score=None,
        convolutions=layers("convolution", Size(3 * columns, "embedding_size"), 3),
        dense=[],
        pooler=SimpleNamespace(token_score=_table(rows, Size(1, "vocab_size")), dense=layers("dense", pooled, 1)),
    )
