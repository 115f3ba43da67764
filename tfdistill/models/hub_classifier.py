"""`HubClassifier`: a text classifier of KerasHub as a teacher, with KerasHub's own preprocessor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfdistill.distill.features import Features, feature
from tfdistill.distill.foreign import as_logits, look_at
from tfdistill.errors import UserError, listing
from tfdistill.models.class_order import checked_names, column_order
from tfdistill.models.hub_tokenizer import HubTokenizer
from tfdistill.models.tasks import HEADS
from tfdistill.models.text_model import TextModel, dummy_inputs
from tfdistill.system.console import say

_TASKS = ("classification", "multilabel", "regression")
_WITHOUT_MEANING = ("name", "trainable", "dtype")


@dataclass(frozen=True)
class HubConfig:
    """Hold the sizes of a KerasHub classifier, as far as batches are checked against them.

    Args:
        vocab_size: V, the number of rows of the word table.
        max_position_embeddings: the number of tokens that its preprocessor cuts an example to.
        hidden_size: H, the size of hidden states.
        num_hidden_layers: the number of layers.
        type_vocab_size: the number of segments; 2 if it reads none.
        settings: everything else that its outputs depend on, as JSON.
    """

    vocab_size: int
    max_position_embeddings: int
    hidden_size: int
    num_hidden_layers: int
    type_vocab_size: int
    settings: str

    family: ClassVar[str] = "keras_hub"


class HubClassifier(TextModel):
    """Hold a KerasHub text classifier with the interface of a model of this library, for use as a teacher.

    Its logits are those of the classifier for texts that its own preprocessor reads. An activation at the end of the
    classifier (softmax or sigmoid) is inverted; one sigmoid becomes the logits of two classes. Hidden states and the pooled
    vector come from the backbone. No student can be made of its layers, and it cannot be saved or exported.

    Args:
        classifier: a `keras_hub.models.TextClassifier` with a preprocessor.
        source: what to call it in messages.
        task: "classification", "multilabel" or "regression"; by default "regression" for one output without an activation,
            "multilabel" for several sigmoids, else "classification". Data of another of these tasks change an assumed one.
        label_names: class names, in the order of the outputs.

    Raises:
        UserError: the classifier has no preprocessor, or the number of outputs does not fit.
    """

    vocabulary: Callable[[], Any] | None = None  # makes the vocabulary of students

    def __init__(self, classifier: Any, source: str, task: str | None = None, label_names: Iterable[str] | None = None):
        super(TextModel, self).__init__()
        if getattr(classifier, "preprocessor", None) is None:
            raise UserError(
                f"{source} has no preprocessor, so that it cannot read texts. Make the classifier with `preprocessor=`, "
                "and save it again."
            )
        self.source, self.classifier = source, classifier
        self.tokenizer = HubTokenizer(classifier.preprocessor, source)
        self.family = HubConfig.family
        self._columns: np.ndarray | None = None
        seen = look_at(classifier, {name: value for name, value in dummy_inputs().items() if name in classifier.input})
        size, self._activation = int(seen.outputs or 0), seen.activation
        self._is_binary = self._activation == "sigmoid" and size == 1
        self.num_outputs = 2 if self._is_binary else size
        self.task_is_assumed = task is None
        self.task = task or self._likely_task()
        if self.task not in _TASKS:
            raise UserError(f"{source} is a text classifier, not a model for {self.task}. Use a model for {self.task}.")
        self._task = HEADS[self.task]
        self.label_names = checked_names(label_names, self.num_outputs, source)
        self.config = _config(classifier, self.tokenizer)
        self._body, self._head = _parts(classifier)
        self.build(None)

    def _likely_task(self) -> str:
        if self._activation == "sigmoid" and not self._is_binary:
            return "multilabel"
        return "regression" if self.num_outputs == 1 else "classification"

    def take_task(self, task: str) -> None:
        """Take the task of data if that of the classifier is only assumed, and its outputs allow it."""
        if not (self._is_binary and task == "multilabel"):
            super().take_task(task)

    def require_layers(self) -> Any:
        raise UserError(
            f"{self.source} is computed by KerasHub, and this needs its layers. As a teacher, use it with a student of its own "
            "(`--set student=hf:DIR` or a preset) and without terms on attention; else use a model directory."
        )

    @cached_property
    def student_tokenizer(self) -> Any:
        """The vocabulary of students, which cannot read KerasHub's tokens; made of the training texts of a recipe."""
        if self.vocabulary is None:
            raise UserError(f"{self.source} has no vocabulary for students. Give a `tokenizer`.")
        return self.vocabulary()

    encoder = property(require_layers)
    head = property(require_layers)
    dropout = property(require_layers)
    nsp_head = None

    @property
    def num_layers(self) -> int:
        return self.config.num_hidden_layers

    @property
    def offers(self) -> tuple[str, ...]:
        return ("logits", *(self._body.output if self._body is not None else ()))

    def width(self, feature: str) -> int | None:
        if feature == "logits":
            return self.num_outputs
        return self.config.hidden_size if feature in self.offers else None

    def order_outputs(self, names: Iterable[str] | None, where: str, *, quiet: bool = False) -> None:
        if names is None or self.task == "regression":
            return
        names = tuple(names)
        if self.label_names is None:
            self.label_names, self.order_is_assumed = checked_names(names, self.num_outputs, where), True
            line = f"{self.source} has no class names: its outputs are taken in the order of {where}: {listing(names)}"
        else:
            order = column_order(self.label_names, names, self.source, where)
            if names == self.label_names:
                return
            self._columns = order if self._columns is None else self._columns[order]
            self.label_names = names
            line = f"{self.source} has its classes in another order: its outputs are put in that of {where}: {listing(names)}"
        if not quiet:
            say(line)

    def check_inputs(self, inputs: Any) -> None:
        raise UserError(f"{self.source} reads texts through its own preprocessor. Use `model.tokenizer.encode`.")

    def features(self, inputs: dict[str, Any], want: Iterable[str] = ("logits",), training: bool = False) -> Features:
        want = tuple(want)
        for name in want:
            feature(name)
            if name not in self.offers:
                raise UserError(
                    f"{self.source} gives {listing(self.offers)} through KerasHub, and not {name}. Use settings without it, "
                    "or a model directory as `--teacher`."
                )
        length, given = ops.shape(inputs["token_ids"])[1], self._inputs(inputs)
        values: dict[str, Any] = {}
        if set(want) <= {"logits"}:
            outputs = self.classifier(given, training=training)
        else:
            made = self._body(given, training=training)
            for name in want:
                if name in made:
                    values[name] = _cut(made[name], length) if name != "pooled" else made[name]
            outputs = self._head(made["pooled"], training=training) if "logits" in want else None
        if "logits" in want:
            values["logits"] = self._logits(outputs)
        return Features(mask=inputs["padding_mask"], words=inputs.get("words"), **values)

    def _inputs(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the inputs of the classifier as its preprocessor makes them."""
        names, pad, ids = set(self.classifier.input), self.tokenizer.pad_id, inputs["token_ids"]
        ids = ops.where(ops.cast(inputs["padding_mask"], "bool"), ids, pad)
        segments = inputs.get("segment_ids")
        segments = ops.zeros_like(ids) if segments is None else ops.convert_to_tensor(segments)
        if "padding_mask" not in names:  # the backbone reads padding, whose length then matters
            more = ops.maximum(self.tokenizer.sequence_length - ops.shape(ids)[1], 0)
            ids, segments = tf.pad(ids, [[0, 0], [0, more]], constant_values=pad), tf.pad(segments, [[0, 0], [0, more]])
        mask = ops.cast(ops.not_equal(ids, pad), "int32")
        return {
            name: value
            for name, value in (("token_ids", ids), ("padding_mask", mask), ("segment_ids", segments))
            if name in names
        }

    def _logits(self, outputs: Any) -> Any:  # type: ignore[override]
        logits = as_logits(ops.cast(outputs, "float32"), self._activation)
        if self._is_binary:
            logits = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return logits if self._columns is None else ops.take(logits, self._columns, axis=-1)

    def export(self, filepath: Any, format: str = "tf_saved_model", verbose: Any = None, **kwargs: Any) -> Any:
        raise UserError(f"{self.source} is a teacher that KerasHub computes. Train a student, and export that.")

    def get_config(self) -> dict[str, Any]:
        return {
            "config": {"family": self.family, "settings": self.config.settings},
            "num_outputs": self.num_outputs,
            "task": self.task,
            "activation": self._activation,
            "columns": None if self._columns is None else self._columns.tolist(),
        }


def _cut(value: Any, length: Any) -> Any:
    return tuple(each[:, :length] for each in value) if isinstance(value, list | tuple) else value[:, :length]


def _config(classifier: Any, tokenizer: HubTokenizer) -> HubConfig:
    backbone = classifier.backbone
    own = {key: value for key, value in backbone.get_config().items() if key not in _WITHOUT_MEANING}
    settings = [type(classifier).__name__, own, str(backbone.dtype_policy.name)]
    return HubConfig(
        vocab_size=max(int(backbone.token_embedding.input_dim), tokenizer.vocab_size),
        max_position_embeddings=tokenizer.sequence_length,
        hidden_size=int(backbone.hidden_dim),
        num_hidden_layers=int(backbone.num_layers),
        type_vocab_size=max(2, int(getattr(backbone, "num_segments", 2))),
        settings=json.dumps(settings, sort_keys=True, default=repr),
    )


def _parts(classifier: Any) -> tuple[Any, Any]:
    """Return models of the backbone's states and of the head; (None, None) where the layers do not show them."""
    backbone, own = classifier.backbone, getattr(classifier.backbone, "transformer_layers", [])
    after = [layer for layer in classifier.layers if layer is not backbone and layer.weights]
    if not type(classifier).__module__.startswith("keras_hub.") or not after:
        return None, None
    try:
        states = [layer.output for layer in own]
        first = own[0].input
        outputs = backbone.output
        is_dict = isinstance(outputs, dict)
        sequence = outputs["sequence_output"] if is_dict else outputs
        pooled = outputs["pooled_output"] if is_dict else sequence[:, _start(backbone), :]
        if states[-1] is not sequence:
            return None, None
        embeddings = first[0] if isinstance(first, list | tuple) else first
        values = {"embeddings": embeddings, "hidden_states": states, "pooled": pooled}
        follows = [layer for layer in classifier.layers if layer is not backbone and not _is_input(layer)]
        return keras.Model(backbone.input, values), keras.Model(follows[0].input, classifier.output)
    except (AttributeError, ValueError, TypeError, KeyError, IndexError):  # as of ALBERT, whose layers are shared
        return None, None


def _start(backbone: Any) -> int:
    return int(getattr(backbone, "start_token_index", getattr(backbone, "cls_token_index", 0)))


def _is_input(layer: Any) -> bool:
    return isinstance(layer, keras.layers.InputLayer)
