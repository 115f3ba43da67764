"""Load KerasHub BERT presets into this library's encoder, which is exact where KerasHub's hard-codes tanh-GELU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tfdistill.errors import UserError, optional
from tfdistill.models.bert import BertConfig
from tfdistill.models.stored_head import say_or_refuse
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import say
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.text.vocabulary import casing_line


def load_preset(
    preset: str,
    *,
    num_outputs: int | None = None,
    task: str = "classification",
    label_names: Sequence[str] | None = None,
    new_head: bool | None = None,
) -> TextModel:
    """Load a KerasHub BERT preset with a new head.

    Args:
        preset: a name, a handle or a local preset directory.
        num_outputs: the size of the logits' last axis; None means the task's default.
        task: one of `tfdistill.models.heads.HEADS`.
        label_names: class names, in the order of the logits.
        new_head: False raises MissingHead: a preset has no head.

    Raises:
        MissingExtra: keras-hub is not installed.
        UserError: the preset cannot be loaded, or is not a BERT.
    """
    say_or_refuse(f"hub:{preset}", f"no head for {task}", task, new_head, ["head"])
    hub = optional("keras_hub", "hub")
    try:
        backbone = hub.models.Backbone.from_preset(preset)
        tokenizer = hub.models.BertTokenizer.from_preset(preset)
    except Exception as error:  # keras-hub raises what its download backends raise
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(f"The KerasHub preset '{preset}' cannot be loaded as BERT: {reason}") from error
    if not isinstance(backbone, hub.models.BertBackbone):
        raise UserError(f"The KerasHub preset '{preset}' is a {type(backbone).__name__}; expected a BertBackbone.")
    config = BertConfig(
        vocab_size=backbone.vocabulary_size,
        hidden_size=backbone.hidden_dim,
        num_hidden_layers=backbone.num_layers,
        num_attention_heads=backbone.num_heads,
        intermediate_size=backbone.intermediate_dim,
        max_position_embeddings=backbone.max_sequence_length,
        type_vocab_size=backbone.num_segments,
    )
    model = TextModel(config, num_outputs, task, label_names)
    for weight, hub_weight in paired_weights(model.encoder, backbone):
        weight.assign(np.reshape(hub_weight, weight.shape))
    model.tokenizer = Tokenizer(tokenizer.get_vocabulary(), lower_case=tokenizer.lowercase)
    if line := casing_line(model.tokenizer.vocabulary, model.tokenizer.lower_case):
        say(f"hub:{preset}: {line}")
    return model


def paired_weights(encoder: Any, backbone: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the weights of a `BertEncoder`, each with the one of a `BertBackbone` of the same sizes.

    KerasHub's kernels have an axis for the heads; the order of the numbers is the same.
    """
    embeddings = encoder.embeddings
    pairs = [
        (embeddings.word, backbone.token_embedding),
        (embeddings.position, backbone.get_layer("position_embedding")),
        (embeddings.token_type, backbone.get_layer("segment_embedding")),
        (embeddings.norm, backbone.get_layer("embeddings_layer_norm")),
    ]
    for block, layer in zip(encoder.blocks, backbone.transformer_layers, strict=True):
        attention = layer._self_attention_layer
        pairs += [
            (block.query, attention._query_dense),
            (block.key, attention._key_dense),
            (block.value, attention._value_dense),
            (block.attention_output, attention._output_dense),
            (block.attention_norm, layer._self_attention_layer_norm),
            (block.intermediate, layer._feedforward_intermediate_dense),
            (block.output_dense, layer._feedforward_output_dense),
            (block.output_norm, layer._feedforward_layer_norm),
        ]
    if encoder.pooler is not None:
        pairs.append((encoder.pooler, backbone.get_layer("pooled_dense")))
    for own, hub_layer in pairs:
        yield from zip(own.weights, hub_layer.weights, strict=True)
