"""`Encoder`: what every encoder offers to heads, to distillation, and to the code that freezes or copies its parts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

import keras

from tfdistill.models.layers import Composite, Embedding


class Encoder(Composite):
    """Base class of the encoders.

    Args:
        config: the sizes, a frozen dataclass.
        pooler: whether the encoder offers `pooled`, one vector for each example.
    """

    embedding: Embedding  # the word table (V, E)
    pooler: keras.layers.Dense | None = None  # a dense layer over the [CLS] state

    def __init__(self, config: Any, pooler: bool = True, **kwargs: Any):
        super().__init__(**kwargs)
        self.config, self.has_pooled = config, pooler

    @property
    def num_layers(self) -> int:
        """The number of entries of `hidden_states`."""
        raise NotImplementedError

    @property
    def offers(self) -> tuple[str, ...]:
        """Names of the features that `call` can return."""
        raise NotImplementedError

    def parts(self) -> dict[str, list[keras.layers.Layer]]:
        """Return the layers of each part by its name, from the bottom up: embeddings, layer_1 to layer_N, pooler.

        This is a method, since Keras would save and restore the layers in a property a second time.
        """
        raise NotImplementedError

    def width(self, feature: str) -> int | None:
        """Return the size of a feature's last axis; None if it varies, or if the encoder does not have the feature."""
        raise NotImplementedError

    def call(self, inputs: dict[str, Any], want: Collection[str] = (), training: bool = False) -> dict[str, Any]:
        """Return the features named in `want`, as described in `tfdistill.distill.features.Features`.

        Args:
            inputs: int32 (B, L) `token_ids` and `padding_mask`, and optionally `segment_ids`.
            want: some of `offers`.
            training: whether dropout is active.
        """
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "config": asdict(self.config), "pooler": self.has_pooled}
