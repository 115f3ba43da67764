"""Build the model of a Keras user without tfdistill: keras-hub's BERT with the weights of ours."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_keras_hub(model: Any) -> Any:
    """A `BertTextClassifier` that gives the logits of `model`, a `TextModel` of a BERT, but for its GELU, which is the tanh form.

    Raises SystemExit where the logits are further apart than that explains.
    """
    # Here, and not above: who only starts contenders needs no TensorFlow, and a contender quiets it first.
    import keras_hub

    from tfdistill.models.hub import paired_weights
    from tfdistill.models.text_model import dummy_inputs

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
    pairs = [*paired_weights(model.encoder, backbone), *zip(model.head.weights, made.output_dense.weights, strict=True)]
    for source, target in pairs:
        target.assign(np.reshape(source, target.shape))
    inputs = dummy_inputs(2, 8)
    apart = float(np.abs(np.asarray(made(inputs)) - np.asarray(model(inputs))).max())
    if apart > 0.05:
        raise SystemExit(f"keras-hub's logits are {apart:.3g} from ours; expected at most 0.05")
    return made
