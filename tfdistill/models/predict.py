"""Compute the logits of whole splits, in batches of similar length, and evaluate them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from tfdistill.data.batching import Examples, dataset, plan
from tfdistill.data.dataset import Data, Rows
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData, with_label_names
from tfdistill.errors import UserError
from tfdistill.models.class_order import is_unnamed
from tfdistill.models.limits import check_encoded, most_tokens
from tfdistill.system.console import say, task
from tfdistill.system.lazy import tf
from tfdistill.text.encoded import Encoded

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# One compiled forward pass for each living model: tracing it again for each evaluation costs more than a small evaluation.
_FORWARDS: WeakKeyDictionary[TextModel, Callable[[dict[str, Any]], Any]] = WeakKeyDictionary()


def _forward(model: TextModel) -> Callable[[dict[str, Any]], Any]:
    if model not in _FORWARDS:
        reference = weakref.ref(model)
        ids = tf.TensorSpec((None, None), tf.int32)

        def forward(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
            living = reference()
            assert living is not None
            return living(inputs, training=False)

        signature = [{"token_ids": ids, "padding_mask": ids, "segment_ids": ids}]
        _FORWARDS[model] = tf.function(forward, input_signature=signature, autograph=False)
    return _FORWARDS[model]


def predict_logits(
    model: TextModel, encoded: Encoded, *, batch_size: int = 64, advance: Callable[..., Any] | None = None
) -> np.ndarray:
    """Compute the logits of all examples. The longest come first, so that memory peaks at the start.

    Args:
        model: the model.
        encoded: n tokenized examples.
        batch_size: examples in a batch.
        advance: called with the number of examples after each batch.

    Returns:
        Float32 (n, C) in the order of `encoded`; for heads over tokens (n, L, C), L the longest example.

    Raises:
        UserError: there are no examples, or the model has no row for an id, a segment or a length.
    """
    from tfdistill.models.tasks import HEADS

    check_encoded(model.config, encoded)
    tokens = (int(encoded.lengths.max(initial=1)),) if HEADS[model.task].per_token else ()
    logits = np.zeros((len(encoded), *tokens, model.num_outputs), "float32")
    batches = plan(encoded.lengths, batch_size, seed=0, epoch=0, shuffle=False)
    for rows, batch in zip(batches, dataset(Examples(encoded), batch_size, shuffle=False), strict=True):
        values = _forward(model)(batch["student"]).numpy()
        if tokens:
            logits[rows, : values.shape[1]] = values[:, : tokens[0]]
        else:
            logits[rows] = values
        if advance is not None:
            advance(len(rows))
    return logits


def encode(model: TextModel, split: Split, max_length: int) -> Encoded:
    """Tokenize the texts of a split with the model's tokenizer."""
    return model.tokenizer.encode(split.texts, split.texts_b, max_length=max_length)


def say_cut(rows: Rows, model: TextModel, max_length: int, *, option: str, split: str) -> None:
    """Print a line if examples of a split were cut; it proposes another value of `option`, unless that is ""."""
    line = rows.cut_line(max_length, option=option, longest=most_tokens(model.config))
    if line is not None:
        say(f"{split}: {line}")


def in_order_of(model: TextModel, data: Data, who: str | None = None) -> Data:
    """Return data with its classes numbered as the outputs of a model. Outputs without names get those of the data.

    Raises:
        UserError: data of another task or number of outputs, or with classes that the model does not have.
    """
    who = who or model.loaded_from or model.source or f"the {model.family} model"
    model.take_task(data.task)
    names, others = model.label_names, data.label_names
    is_part = names is not None and others is not None and not is_unnamed(names) and set(others) <= set(names)
    if names is not None and is_part and others != names:
        data = with_label_names(data, names) if isinstance(data, TextData) else replace(data, label_names=names)  # type: ignore[type-var]
    require_fit(model, data, who, "Use data with the model's classes.")
    model.order_outputs(data.label_names, data.name)
    return data


def require_fit(model: Any, data: Data, who: str, advice: str) -> None:
    """Check that a model, or a `StoredModel`, is for the task of the data and has an output for each class.

    Raises:
        UserError: it is not; the message begins with `who` and ends with `advice`.
    """
    if (model.task, model.num_outputs) != (data.task, data.num_outputs):
        raise UserError(
            f"{who} is a {model.task} model with {model.num_outputs} outputs, {data.name} is for {data.task} with "
            f"{data.num_outputs}. {advice}"
        )


def measure(
    model: TextModel, data: Data, name: str, *, max_length: int, batch_size: int = 64, cut_option: str | None = None
) -> tuple[Encoded, np.ndarray, Callable[[np.ndarray], dict[str, float]] | None]:
    """Run a model on the split `name`.

    Args:
        model: the model.
        data: the data of the split.
        name: name of the split.
        max_length: tokens of an example that the model reads.
        batch_size: examples in a batch.
        cut_option: if examples are cut, print a line that proposes another value of this option; "" proposes none, and
            None prints nothing.

    Returns:
        The tokenized examples, their logits as `predict_logits` gives them, and a function from
        such logits to scores; None if the split has no labels.
    """
    data = in_order_of(model, data)
    rows = data.encode(data.splits[name], model.tokenizer, max_length)
    if cut_option is not None:
        say_cut(rows, model, max_length, option=cut_option, split=name)
    with task(f"Keras model on {name}", len(rows.encoded)) as advance:
        logits = predict_logits(model, rows.encoded, batch_size=batch_size, advance=advance)
    return rows.encoded, logits, rows.score if data.has_labels(name) else None


def evaluate(
    model: TextModel, data: Data, name: str, *, max_length: int, batch_size: int = 64, cut_option: str | None = None
) -> dict[str, float]:
    """Return the scores of a model on the labelled split `name`, the most important one first. Arguments as for `measure`."""
    _, logits, scores = measure(model, data, name, max_length=max_length, batch_size=batch_size, cut_option=cut_option)
    assert scores is not None, f"{name} has no labels"
    return scores(logits)
