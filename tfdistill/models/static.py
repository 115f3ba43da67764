"""Encoder without recurrence or attention: a table of token vectors, a weighted mean, convolutions and dense layers.

Relatives: averaged word embeddings (Shen et al. 2018, "Baseline Needs More Love: On Simple Word-Embedding-Based Models"),
fastText's classifier (Joulin et al. 2017) and Model2Vec, whose tables come from a sentence encoder as ours may.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
from keras import ops

from tfdistill.errors import UserError
from tfdistill.models.encoder import Encoder
from tfdistill.models.layers import MASKED_SCORE, Dropout, Embedding, Linear
from tfdistill.models.static_config import StaticConfig


class StaticEncoder(Encoder):
    """Encode tokens: a table, optional convolutions, pooling and dense layers.

    The pooled vector joins the mean of the token vectors, weighted by the softmax of one learned score for each token
    of the vocabulary, and the maximum of the last convolution over the tokens. Padding never changes it.

    It offers `pooled` and one entry of `hidden_states`, the states (B, L, `state_size`). Siamese models offer `pooled` only.

    Args:
        config: the sizes.
        pooler: whether the task reads `pooled`.

    Raises:
        UserError: a siamese config for a task that reads every token.
    """

    def __init__(self, config: StaticConfig, pooler: bool = True, **kwargs: Any):
        super().__init__(config, pooler, **kwargs)
        if config.pair and not pooler:
            raise UserError("A siamese static model has no states for each token. Use `pair=False` for this task.")
        policy = self.dtype_policy
        self.embedding = Embedding(config.vocab_size, config.embedding_size, "uniform", dtype=policy, name="embedding")
        self.token_score = None
        if pooler:
            self.token_score = Embedding(config.vocab_size, 1, "zeros", dtype=policy, name="token_score")

        def layers(name: str, count: int, size: int) -> list[Linear]:
            return [Linear(size, "relu", dtype=policy, name=f"{name}_{n}") for n in range(1, count + 1)]

        self.convolutions = layers("convolution", config.convolution_layers, config.convolution_size)
        self.dense = layers("dense", config.dense_layers if pooler else 0, config.dense_size)
        self.dropout = Dropout(config.dropout, dtype=policy)

    @property
    def num_layers(self) -> int:
        """The number of entries of `hidden_states`."""
        return 0 if self.config.pair else 1

    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        score = [] if self.token_score is None else [self.token_score]
        convolutions = {"layer_1": [*self.convolutions]} if self.convolutions else {}
        dense = {"pooler": [*self.dense]} if self.dense else {}
        return {"embeddings": [self.embedding, *score], **convolutions, **dense}

    @property
    def offers(self) -> tuple[str, ...]:
        return (*(("pooled",) if self.has_pooled else ()), *(() if self.config.pair else ("hidden_states",)))

    def width(self, feature: str) -> int | None:
        if feature not in self.offers:
            return None
        return self.config.state_size if feature == "hidden_states" else self.config.pooled_size

    def _states(self, token_ids: Any, mask: Any) -> tuple[Any, Any]:
        """Return token vectors (B, L, E), and the last convolution (B, L, units) or None; 0 at padding."""
        real = ops.cast(mask, self.compute_dtype)[:, :, None]
        vectors = self.embedding(token_ids) * real
        x = vectors
        for convolution in self.convolutions:
            before, after = x[:, :-1], x[:, 1:]
            wide = (ops.pad(before, ((0, 0), (1, 0), (0, 0))), x, ops.pad(after, ((0, 0), (0, 1), (0, 0))))
            x = convolution(ops.concatenate(wide, axis=-1)) * real
        return vectors, x if self.convolutions else None

    def _pool(self, token_ids: Any, mask: Any) -> Any:
        """Pool to (B, `state_size`). A text without tokens gives zeros."""
        vectors, last = self._states(token_ids, mask)
        real = ops.cast(mask, "float32")
        assert self.token_score is not None
        scores = ops.cast(self.token_score(token_ids)[:, :, 0], "float32")
        weights = ops.cast(ops.softmax(scores + (1.0 - real) * MASKED_SCORE, axis=-1), vectors.dtype)
        mean = ops.sum(vectors * weights[:, :, None], axis=1)
        # Padding is 0, which never exceeds what ReLU gives for a token.
        return mean if last is None else ops.concatenate([mean, ops.max(last, axis=1)], axis=-1)

    def call(self, inputs: dict[str, Any], want: Collection[str] = (), training: bool = False) -> dict[str, Any]:
        token_ids, mask = inputs["token_ids"], ops.cast(inputs["padding_mask"], "int32")
        features: dict[str, Any] = {}
        if "hidden_states" in want:
            parts = [part for part in self._states(token_ids, mask) if part is not None]
            features["hidden_states"] = (ops.concatenate(parts, axis=-1),)
        if "pooled" in want:
            if self.config.pair:
                second = ops.cast(inputs["segment_ids"], "int32") * mask
                u, v = self._pool(token_ids, mask - second), self._pool(token_ids, second)
                state = ops.concatenate([u, v, ops.abs(u - v), u * v], axis=-1)
            else:
                state = self._pool(token_ids, mask)
            if self.dense:
                state = self.dropout(state, training=training)
            for dense in self.dense:
                state = dense(state)
            features["pooled"] = state
        return features
