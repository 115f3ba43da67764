"""Look at models and data before the first step of a Distiller, and find the cause of a loss that is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdistill.distill.batch import cached_features, part, unpack
from tfdistill.distill.checks import check_labels, check_teacher_features, check_values, check_weights
from tfdistill.distill.first_batch import First, is_text, rows_of
from tfdistill.distill.foreign import Seen, has_features, look_at, outputs_of
from tfdistill.distill.keras_losses import BINARY, REGRESSION, function_name
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.losses import half_squared_distance, logits_mse, soft_binary_cross_entropy
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.errors import DivergedError, UserError
from tfdistill.system.console import say

_READ_AGAIN = 200  # batches that are searched for the cause of a loss that is not finite


# --- what the terms are about -----------------------------------------------------------------------------------------


def is_binary(terms: Sequence[Term]) -> bool:
    """Return whether each output of the student answers yes or no, as in multi-label classification."""
    return any(
        (isinstance(term, HardLabels) and (term.task == "multilabel" or function_name(term.loss) in BINARY))
        or (isinstance(term, Match) and term.loss is soft_binary_cross_entropy)
        for term in terms
    )


def is_regression(terms: Sequence[Term]) -> bool:
    """Return whether all terms on logits take them for numbers, so that a sigmoid may bound them."""
    readers = [term for term in terms if "logits" in term.student_features]

    def on_numbers(term: Term) -> bool:
        if isinstance(term, HardLabels):
            return function_name(term.loss) in REGRESSION if term.loss is not None else term.task == "regression"
        return isinstance(term, Match) and term.loss in (logits_mse, half_squared_distance)

    return all(map(on_numbers, readers)) and any(isinstance(term, HardLabels) for term in readers)


def check_student_activation(activation: str, terms: Sequence[Term]) -> None:
    """Raise UserError if a student returns probabilities: its losses read logits."""
    if activation and not (activation == "sigmoid" and is_regression(terms)):
        raise UserError(
            f"the student ends in a {activation}, but every loss reads logits. "
            f"Remove the {activation} from its last layer, and apply it to the outputs of the trained student"
        )


# --- before the first step --------------------------------------------------------------------------------------------


def examine(first: First, student: Any, teacher: Any, terms: Sequence[Term], seen: dict[str, Seen]) -> None:
    """Check the first batch, and look at models of other libraries, which are built if they are not.

    Args:
        first: the first batch, or all data.
        student: the student.
        teacher: the teacher, or None.
        terms: all terms.
        seen: filled with what is seen of "student" and "teacher"; what it has is not looked at again.

    Raises:
        UserError: models or data that do not fit together.
    """
    inputs, labels, weights = unpack(first.batch)
    features = cached_features(inputs)
    rows = rows_of(part(inputs, "student"))
    check_weights(weights, rows)
    check_inputs("student", student, part(inputs, "student"))
    _look("student", student, first.few(part(inputs, "student")), seen)
    outputs = seen["student"].outputs
    check_student_activation(seen["student"].activation, terms)
    check_labels(terms, labels, rows, outputs)
    wanted = frozenset().union(*(term.teacher_features for term in terms))
    flat = {name: value for name, value in features.items() if name in wanted and not isinstance(value, tuple)}
    activation = check_teacher_features(flat, outputs)
    live = wanted - set(features)
    if teacher is not None and live and (has_features(teacher) or live == {"logits"}):
        check_inputs("teacher", teacher, part(inputs, "teacher"))
        _look("teacher", teacher, first.few(part(inputs, "teacher")), seen)
        _check_teacher(seen["teacher"], outputs, terms, wanted)
    if activation:
        _note_teacher(activation, "the teacher's logits in the batches are", seen, Seen(outputs, activation))
    elif "logits" in flat:
        seen.pop("teacher", None)


def check_inputs(role: str, model: Any, inputs: Any) -> None:
    """Raise UserError if inputs have a NaN, or an id or length beyond the tables of a model."""
    check = getattr(model, "check_inputs", None)
    if callable(check):
        check(inputs)
    check_values(f"the inputs of the {role}", inputs)


def _look(role: str, model: Any, inputs: Any, seen: dict[str, Seen]) -> None:
    if role in seen:
        return
    if has_features(model):
        seen[role] = Seen(outputs_of(model))
        return
    try:
        saw = look_at(model, inputs)
    except UserError as error:
        if not any(is_text(value) for value in keras.tree.flatten(inputs)):
            raise
        raise UserError(f"the {role} does not read texts. Give fit their token ids: {str(error)[:200]}") from error
    if role == "teacher" and saw.activation:
        _note_teacher(saw.activation, "the teacher returns", seen, saw)
    seen[role] = saw


def _note_teacher(activation: str, what: str, seen: dict[str, Seen], saw: Seen) -> None:
    if seen.get("teacher") != saw:
        say(f"Note: {what} probabilities ({activation}), of which the logarithm is taken as logits.")
    seen["teacher"] = saw


def _check_teacher(saw: Seen, outputs: int | None, terms: Sequence[Term], wanted: frozenset[str]) -> None:
    if not saw.finite:
        raise UserError(
            "the teacher's logits are NaN or infinite on the first examples. Look at its weights and inputs"
        )
    differ = None not in (saw.outputs, outputs) and saw.outputs != outputs
    if differ and any("logits" in term.student_features & term.teacher_features for term in terms):
        raise UserError(
            f"the student has {outputs} classes, the teacher {saw.outputs}. Both need the same number of classes"
        )


def check_checkpoints(callbacks: Sequence[Any], student: keras.Model) -> None:
    """Raise UserError before the first step if a ModelCheckpoint could not save the student."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.ModelCheckpoint) and not callback.save_weights_only:
            check_saving(str(callback.filepath), student, "ModelCheckpoint(..., save_weights_only=True)")


def check_saving(path: str, student: keras.Model, instead: str) -> None:
    """Raise UserError if Keras cannot save a student as a whole."""
    flat = {"Functional", "Sequential"} & {each.__name__ for each in type(student).__mro__}
    if path.endswith((".h5", ".hdf5")) and not flat:
        raise UserError(f"{path}: HDF5 holds Functional and Sequential models only. Use a name that ends in .keras")
    try:
        keras.saving.serialize_keras_object(student)
    except Exception as error:
        raise UserError(
            f"{path}: the student {type(student).__name__} has no `get_config`, so that Keras cannot save it. "
            f"Define one, or use {instead}"
        ) from error


# --- errors of a step -------------------------------------------------------------------------------------------------


@contextmanager
def in_one_line() -> Iterator[None]:
    """Raise UserError for labels and ids beyond a table, which TensorFlow finds in the middle of a step on a CPU."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        lines = [line.strip() for line in str(error.message).splitlines()]
        for line in lines:
            if "label value" in line and "valid range" in line:
                text = line[line.index("Received") if "Received" in line else 0 :].split(".  Label")[0]
                raise UserError(f"{text}. Give class numbers from 0, one output of the student for each") from error
            if "is not in [" in line and "indices[" in line:
                text = line[line.index("indices[") :]
                raise UserError(
                    f"an id, segment or position is beyond its table: {text}. "
                    "Use the model's own tokenizer, and texts that are not longer than it can read"
                ) from error
        raise


def cause_of(error: DivergedError, x: Any, first: First | None, distiller: Any) -> str:
    """Return a sentence that says why a loss is not finite, or "" if a high learning rate may be the reason.

    Args:
        error: names the step.
        x: the data, of which some batches are read again.
        first: the first batch.
        distiller: the Distiller, for its teacher.
    """
    teacher = distiller.teacher
    weights = () if teacher is None or distiller.trains_teacher else getattr(teacher, "weights", ())
    if any(not np.isfinite(np.asarray(weight)).all() for weight in weights):
        return "The teacher's weights contain NaN or infinity. Load or train it again."
    batches: Any = [first.batch] if first is not None and first.batch is not None else []
    if isinstance(x, tf.data.Dataset):
        batches = x.take(min(error.step, _READ_AGAIN))
    for number, batch in enumerate(batches, 1):
        inputs, _, weights = unpack(batch)
        for name, values in (("inputs", inputs), ("sample weights", weights)):
            if any(_is_bad(value) for value in keras.tree.flatten(values)):
                where = f"batch {number}" if isinstance(x, tf.data.Dataset) else "the data"
                return f"The {_name(inputs, name)} of {where} contain NaN or infinity. Repair or remove these examples."
        if number == 1 and _teacher_is_bad(distiller, batch):
            return "The teacher's outputs are not finite for the first examples. Look at its weights and inputs."
    if error.step == 1:
        return "The loss is not finite before any update. Look at inputs, labels and initial weights."
    return ""


def _is_bad(value: Any) -> bool:
    if value is None or not tf.as_dtype(value.dtype).is_floating:
        return False
    return not bool(tf.reduce_all(tf.math.is_finite(tf.cast(value, tf.float32))))


def _name(inputs: Any, name: str) -> str:
    features = inputs.get("teacher_features") if name == "inputs" and isinstance(inputs, Mapping) else None
    return "teacher's features" if any(_is_bad(each) for each in keras.tree.flatten(features)) else name


def _teacher_is_bad(distiller: Any, batch: Any) -> bool:
    inputs, labels, _ = unpack(
        keras.tree.map_structure(lambda v: None if v is None else tf.convert_to_tensor(v), batch)
    )
    step = distiller.forward(inputs, labels, training=False)
    return step.teacher is not None and step.teacher.logits is not None and _is_bad(step.teacher.logits)
