"""The model that a Keras user has without us: keras-hub's BERT with the weights of ours."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfdistill.models.text import TextModel, dummy_inputs


def as_keras_hub(model: TextModel) -> Any:
    """A `BertTextClassifier` that gives the logits of `model`, a BERT, but for its GELU, which is the tanh form.

    Raises SystemExit where the logits are further apart than that explains.
    """
    import keras_hub

    config = model.config
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=config.vocab_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_dim=config.hidden_size,
        intermediate_dim=config.intermediate_size,
        dropout=config.hidden_dropout_prob,
        max_sequence_length=config.max_position_embeddings,
        num_segments=config.type_vocab_size,
    )
    made = keras_hub.models.BertTextClassifier(backbone, model.num_outputs, dropout=config.head_dropout(model.task))
    encoder = model.encoder
    tables = (
        (backbone.token_embedding.embeddings, encoder.embeddings.word),
        (backbone.get_layer("position_embedding").position_embeddings, encoder.embeddings.position),
        (backbone.get_layer("segment_embedding").embeddings, encoder.embeddings.token_type),
    )
    for theirs, ours in tables:
        theirs.assign(ours.embeddings)
    pairs = [
        (backbone.get_layer("embeddings_layer_norm"), encoder.embeddings.norm),
        (backbone.get_layer("pooled_dense"), encoder.pooler),
        (made.output_dense, model.head),
    ]
    for theirs, ours in zip(backbone.transformer_layers, encoder.blocks, strict=True):
        attention = theirs._self_attention_layer
        pairs += [
            (attention._query_dense, ours.query),
            (attention._key_dense, ours.key),
            (attention._value_dense, ours.value),
            (attention._output_dense, ours.attention_output),
            (theirs._self_attention_layer_norm, ours.attention_norm),
            (theirs._feedforward_intermediate_dense, ours.intermediate),
            (theirs._feedforward_output_dense, ours.output_dense),
            (theirs._feedforward_layer_norm, ours.output_norm),
        ]
    for theirs, ours in pairs:
        for variable, value in zip(theirs.weights, ours.get_weights(), strict=True):
            variable.assign(np.reshape(value, variable.shape))
    inputs = dummy_inputs(2, 8)
    apart = float(np.abs(np.asarray(made(inputs)) - np.asarray(model(inputs))).max())
    if apart > 0.05:
        raise SystemExit(f"keras-hub's logits are {apart:.3g} from ours; expected at most 0.05")
    return made
