"""`TextModel`: an encoder with a head, the one kind of model this library trains and exports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import keras
import numpy as np

from tfdistill.errors import UserError
from tfdistill.features import NAMES, Features
from tfdistill.models.bert import BertConfig, BertEncoder, Linear
from tfdistill.models.bilstm import BiLSTMConfig, BiLSTMEncoder

ENCODERS: dict[str, tuple[type, type]] = {"bert": (BertConfig, BertEncoder), "bilstm": (BiLSTMConfig, BiLSTMEncoder)}
TASKS = ("classification", "regression")


@keras.saving.register_keras_serializable(package="tfdistill")
class TextModel(keras.Model):
    """Encoder, dropout and a linear head, for one sentence or a pair.

    Args:
        config: `BertConfig` or `BiLSTMConfig` (a dict with the key "family" works too: what `get_config` gives).
        num_outputs: classes, or 1 for regression.
        task: "classification" or "regression".
        label_names: class names, in the order of the logits.

    Called with a dict of int32 (B, L) `token_ids`, `padding_mask`, `segment_ids`; returns float32 logits (B, C).
    """

    def __init__(
        self,
        config: Any,
        num_outputs: int = 2,
        task: str = "classification",
        label_names: Iterable[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = dict(config)
            config = ENCODERS[config.pop("family")][0](**config)
        if task not in TASKS:
            raise UserError(f"task '{task}' is unknown; expected one of {', '.join(TASKS)}")
        self.family = next(name for name, (kind, _) in ENCODERS.items() if isinstance(config, kind))
        self.config, self.task, self.num_outputs = config, task, num_outputs
        self.label_names = None if label_names is None else tuple(label_names)
        if self.label_names is not None and len(self.label_names) != num_outputs:
            raise UserError(f"{len(self.label_names)} label names for {num_outputs} outputs; expected one for each")
        self.encoder = ENCODERS[self.family][1](config, dtype=self.dtype_policy, name="encoder")
        rate = config.hidden_dropout_prob if self.family == "bert" else 0.0
        self.dropout = keras.layers.Dropout(rate)
        init = keras.initializers.TruncatedNormal(stddev=0.02) if self.family == "bert" else "glorot_uniform"
        # Logits stay in float32 under mixed precision: their softmax is where the range is lost.
        self.head = Linear(num_outputs, kernel_initializer=init, dtype="float32", name="head")
        self(dummy_inputs())

    # What a Match may ask for, and how wide it is.

    @property
    def num_layers(self) -> int:
        return len(self.encoder.blocks) if self.family == "bert" else 0

    def width(self, feature: str) -> int | None:
        """Size of the last axis of a feature, or None if the model does not have it."""
        if feature == "logits":
            return self.num_outputs
        if feature == "pooled":
            return self.head.kernel.shape[0]
        if self.family == "bert" and feature in ("embeddings", "hidden_states"):
            return self.config.hidden_size
        return None

    def features(self, inputs: dict[str, Any], want: Iterable[str] = ("logits",), training: bool = False) -> Features:
        """One forward pass. `want` names fields of `Features`; the others stay None.

        Raises UserError for a feature this family does not have.
        """
        said = self.encoder(inputs, training=training)
        values: dict[str, Any] = {}
        for name in want:
            if name not in NAMES:
                raise UserError(f"feature '{name}' is unknown; expected one of {', '.join(NAMES)}")
            if name == "logits":
                values[name] = self.head(self.dropout(said["pooled"], training=training))
            elif name in said:
                values[name] = tuple(said[name]) if isinstance(said[name], list) else said[name]
            else:
                raise UserError(f"a {self.family} model has no {name}; match another feature")
        return Features(mask=inputs["padding_mask"], **values)

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        return self.features(inputs, ("logits",), training).logits

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "config": {"family": self.family, **asdict(self.config)},
            "num_outputs": self.num_outputs,
            "task": self.task,
            "label_names": self.label_names,
            "dtype": keras.dtype_policies.serialize(self.dtype_policy),
        }


def dummy_inputs(batch: int = 1, length: int = 4) -> dict[str, np.ndarray]:
    """Valid inputs of the smallest kind, to build or trace a model with."""
    ones = np.ones((batch, length), "int32")
    return {"token_ids": ones * 0, "padding_mask": ones, "segment_ids": ones * 0}
