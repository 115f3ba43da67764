"""Define `TextModel`, an encoder with a head: the kind of model that this library trains and exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import keras
import numpy as np
from keras import ops

from tfdistill.distill.features import Features, feature
from tfdistill.errors import UserError, listing
from tfdistill.models.bert import BertEncoder
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.bilstm import BiLSTMEncoder
from tfdistill.models.bilstm_config import BiLSTMConfig
from tfdistill.models.class_order import checked_names, column_order, generic_names, is_unnamed
from tfdistill.models.distilbert import DistilBertEncoder
from tfdistill.models.distilbert_config import DistilBertConfig
from tfdistill.models.encoder import Encoder
from tfdistill.models.families import LikeBertEncoder
from tfdistill.models.families_config import AlbertConfig, ElectraConfig, RobertaConfig
from tfdistill.models.heads import LinearHead, MaskedLMHead
from tfdistill.models.keras_export import convertible, input_signature
from tfdistill.models.layers import Dropout, initializer
from tfdistill.models.limits import check_ids
from tfdistill.models.mobilebert import MobileBertEncoder
from tfdistill.models.mobilebert_config import MobileBertConfig
from tfdistill.models.static import StaticEncoder
from tfdistill.models.static_config import StaticConfig
from tfdistill.models.tasks import NOT_TRANSFORMERS, outputs_of, task_of
from tfdistill.system.console import say

# By the name of the family: the class of the config and that of the encoder.
ENCODERS: dict[str, tuple[type, type[Encoder]]] = {
    "bert": (BertConfig, BertEncoder),
    "distilbert": (DistilBertConfig, DistilBertEncoder),
    "roberta": (RobertaConfig, LikeBertEncoder),
    "electra": (ElectraConfig, LikeBertEncoder),
    "albert": (AlbertConfig, LikeBertEncoder),
    "mobilebert": (MobileBertConfig, MobileBertEncoder),
    "bilstm": (BiLSTMConfig, BiLSTMEncoder),
    "pruned_bert": (BertConfig, BertEncoder),
    "static": (StaticConfig, StaticEncoder),
}


@keras.saving.register_keras_serializable(package="tfdistill")
class TextModel(keras.Model):
    """Classify, tag or score one text or a pair of texts: an encoder, dropout and a head.

    The model is called with a dict of int32 (B, L) `token_ids`, `padding_mask` and `segment_ids`.
    It returns float32 logits:

    - classification, multilabel, regression, next_sentence: (B, C)
    - token_classification: (B, L, C), undefined at padding
    - question_answering: (B, L, 2), scores of each position as start and as end of the answer
    - masked_lm, pretraining: (B, L, V), or (B, K, V) with an input `masked_positions` int32 (B, K)

    Args:
        config: the encoder's sizes, or a dict of them with the key "family", as in `get_config`.
        num_outputs: the size of the logits' last axis; None means the task's default.
        task: one of `tfdistill.models.tasks.HEADS`.
        label_names: class names, in the order of the logits.

    Raises:
        UserError: an unknown task, one without a head for this family, or numbers that do not fit.

    Example:
        model = TextModel(BertConfig(num_hidden_layers=4), task="regression")
        model({"token_ids": ids, "padding_mask": mask, "segment_ids": segments})  # (B, 1)
    """

    tokenizer: Any = None  # the `Tokenizer` of this vocabulary, set by whoever makes or loads the model
    loaded_from: str | None = None  # the directory that the model was read from
    source: str = ""  # what messages call a model without a directory
    trained_length: int | None = None  # tokens of an example in training, if this process trained the model
    order_is_assumed = False  # whether the outputs had no names, so that those of the data were taken for them
    task_is_assumed = False  # whether the source names no task, as KerasHub, so that data may change it
    student_tokenizer: Any = None  # the vocabulary of students, if they cannot have that of this model
    # Activation ranges of quantization-aware training: of this model, and as read from a directory with the
    # SHA-256 of the weights they belong to.
    activation_ranges: dict[str, np.ndarray] | None = None
    learned_ranges: tuple[str, dict[str, np.ndarray]] = ("", {})

    def __init__(
        self,
        config: Any,
        num_outputs: int | None = None,
        task: str = "classification",
        label_names: Iterable[str] | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if isinstance(config, dict):
            config = dict(config)
            config = ENCODERS[config.pop("family")][0](**config)
        self.family: str = config.family
        self.config, self.task, self._task = config, task, task_of(task, self.family)
        self.num_outputs = outputs_of(task, num_outputs, config.vocab_size)
        self.label_names = checked_names(label_names, self.num_outputs)
        self.encoder = ENCODERS[self.family][1](
            config, pooler=self._task.pooled, dtype=self.dtype_policy, name="encoder"
        )
        self.dropout = Dropout(config.head_dropout(task))
        if self._task.over_vocabulary:
            width = self.encoder.embedding.output_dim
            self.head = MaskedLMHead(config, width, dtype=self.dtype_policy, name="head")
        else:
            self.head = LinearHead(self.num_outputs, self._initializer())
        self.nsp_head = LinearHead(2, self._initializer(), "nsp_head") if task == "pretraining" else None
        self.build(None)

    def build(self, shape: Any) -> None:
        """Make all weights, also those that the logits do not need."""
        self.features(dummy_inputs(), self.offers)

    def _initializer(self) -> Any:
        return "glorot_uniform" if self.family in NOT_TRANSFORMERS else initializer(self.config.initializer_range)

    @property
    def num_layers(self) -> int:
        """The number of layers in `hidden_states`."""
        return self.encoder.num_layers

    @property
    def offers(self) -> tuple[str, ...]:
        """Names of the features that `features` can return."""
        return ("logits", *(("nsp_logits",) if self.nsp_head is not None else ()), *self.encoder.offers)

    def require_layers(self) -> None:
        """Raise UserError if the layers are not of this library, so that they cannot be copied, changed or exported."""

    def take_task(self, task: str) -> None:
        """Take the task of data if that of the model is only assumed, and its outputs allow it."""
        kinds = ("classification", "multilabel", "regression")
        if self.task_is_assumed and task in kinds and (task == "regression") == (self.num_outputs == 1):
            self.task, self._task = task, task_of(task, self.family)

    def order_outputs(self, names: Iterable[str] | None, where: str, *, quiet: bool = False) -> None:
        """Put the outputs of the head in the order of `names`, in place, with a line that says what was done.

        Outputs without names (or with transformers' LABEL_0, LABEL_1, …) get `names` in their order.

        Args:
            names: the class names of data or of another model; None, if there are none, changes nothing.
            where: what has the classes in this order, for messages.
            quiet: whether to print nothing.

        Raises:
            UserError: the outputs have other classes.
        """
        if names is None or not self._task.labelled or self.task == "regression":
            return
        names, who = tuple(names), self.loaded_from or self.source or f"the {self.family} model"
        own = self.label_names or generic_names(self.num_outputs)
        if is_unnamed(own) and set(own) != set(names):
            self.label_names, self.order_is_assumed = checked_names(names, self.num_outputs, where), True
            if not quiet:
                say(f"{who} has no class names: its outputs are taken in the order of {where}: {listing(names)}")
            return
        order = column_order(own, names, who, where)
        if names != own:
            self.head.kernel.assign(self.head.kernel.numpy()[:, order])
            self.head.bias.assign(self.head.bias.numpy()[order])
            if not quiet:
                say(f"{who} has its classes in another order: its outputs are put in that of {where}: {listing(names)}")
        self.label_names = names

    def width(self, feature: str) -> int | None:
        """Return the size of a feature's last axis; None if it varies, or if the model does not have the feature."""
        if feature == "logits":
            return self.num_outputs
        if feature == "nsp_logits":
            return None if self.nsp_head is None else 2
        return self.encoder.width(feature)

    def check_inputs(self, inputs: Any) -> None:
        """Raise UserError if arrays of inputs lack a part, or have an id or length that there is no row for."""
        missing = [
            name for name in ("token_ids", "padding_mask") if not isinstance(inputs, Mapping) or name not in inputs
        ]
        if missing:
            received = f"a dict of {listing(inputs)}" if isinstance(inputs, Mapping) else type(inputs).__name__
            raise UserError(
                f"A {self.family} model reads a dict of token_ids, padding_mask and segment_ids, but received {received}. "
                "Use `model.tokenizer`, which makes it of texts."
            )
        for name in ("token_ids", "segment_ids"):
            values = inputs.get(name)
            if values is not None and (values.dtype.kind not in "iu" or values.ndim != 2):
                raise UserError(f"{name} is {values.dtype} of the shape {values.shape}. Use int32 of the shape (B, L).")
        check_ids(self.config, inputs["token_ids"], inputs.get("segment_ids"), inputs["token_ids"].shape[1])

    def features(self, inputs: dict[str, Any], want: Iterable[str] = ("logits",), training: bool = False) -> Features:
        """Run one forward pass and return the features in `want`; nothing else is computed.

        Args:
            inputs: as for the model itself.
            want: names of fields of `Features`; the other fields stay None.
            training: whether dropout is active.

        Raises:
            UserError: a feature that this model does not have.
        """
        want, have = tuple(want), self.offers
        for name in want:
            feature(name)
            if name not in have:
                raise UserError(f"A {self.family} model for {self.task} has no {name}. Use one of {', '.join(have)}.")
        needs = set(want) - {"logits", "nsp_logits"}
        needs |= {self._task.reads} if "logits" in want else set()
        needs |= {"pooled"} if "nsp_logits" in want else set()
        encoded = self.encoder(inputs, want=sorted(needs), training=training)
        values = {name: encoded[name] for name in want if name in encoded}
        if "logits" in want:
            values["logits"] = self._logits(encoded, inputs, training)
        if "nsp_logits" in want and self.nsp_head is not None:
            values["nsp_logits"] = self.nsp_head(encoded["pooled"])
        return Features(mask=inputs["padding_mask"], words=inputs.get("words"), **values)

    def _logits(self, encoded: dict[str, Any], inputs: dict[str, Any], training: bool) -> Any:
        if self._task.over_vocabulary:
            table = ops.convert_to_tensor(self.encoder.embedding.embeddings)
            return self.head(encoded["hidden_states"][-1], table, positions=inputs.get("masked_positions"))
        read = encoded["hidden_states"][-1] if self._task.per_token else encoded["pooled"]
        return self.head(self.dropout(read, training=training))

    def call(self, inputs: dict[str, Any], training: bool = False) -> Any:
        return self.features(inputs, training=training).logits

    def export(self, filepath: Any, format: str = "tf_saved_model", verbose: Any = None, **kwargs: Any) -> Any:
        """Export the model as `keras.Model.export` does, by default for int32 inputs of any batch and length.

        Args:
            filepath: directory or file to write.
            format: one of Keras' formats, such as "tf_saved_model" or "litert". The last is for one example at a time,
                of the longest length; `tfdistill export` makes smaller and faster files.
            verbose: as in Keras.
            kwargs: further options of Keras, such as `input_signature`.
        """
        if kwargs.get("input_signature") is None:
            kwargs["input_signature"] = input_signature(self.config, format)
        with convertible(self) if format == "litert" else nullcontext():
            return super().export(filepath, format=format, verbose=verbose, **kwargs)

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
    """Return valid inputs, int32 (batch, length) each, to build or trace a model with."""
    ones = np.ones((batch, length), "int32")
    return {"token_ids": ones * 0, "padding_mask": ones, "segment_ids": ones * 0}
