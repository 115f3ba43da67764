"""What a `Distiller` does in Keras' public methods: check models and data first, and train, evaluate and save the student."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdistill.distill import keras_losses, keras_metrics, preparation
from tfdistill.distill.batch import part
from tfdistill.distill.first_batch import First, class_weighted, first_batch
from tfdistill.distill.foreign import Seen, has_features, outputs_of
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.step import Term
from tfdistill.errors import DivergedError, UserError
from tfdistill.system.console import say


class Untracked:
    """Hides a value from Keras' attribute tracking, so that a model is neither trained nor saved."""

    def __init__(self, value: Any):
        self.value = value


class StopOnDivergence(keras.callbacks.Callback):
    """Raises DivergedError, which names the term, at the first step whose loss is NaN or infinite."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step += 1
        values = {name: float(np.asarray(value)) for name, value in (logs or {}).items()}
        if not np.isfinite(values.get("loss", 0.0)):
            bad = [name for name, value in values.items() if name != "loss" and not np.isfinite(value)]
            raise DivergedError(self.step, bad[0] if bad else "loss")


def _has_examples(x: Any) -> bool:
    """Return whether a batch has examples. A worker may get a batch without any, which goes through a step as any other."""
    return all(len(leaf) for leaf in keras.tree.flatten(x) if getattr(leaf, "shape", None))


class KerasMethods(keras.Model):
    """Base class of `Distiller` with Keras' public methods, which a Distiller uses like any other model.

    Attributes:
        student: the student.
        teacher: the teacher, or None.
        terms: the terms of the loss, and the compiled loss.
    """

    student: Any
    _compiled_term: Untracked | None
    _compile_tracker: Any
    _compile_options: Untracked  # arguments of `compile`
    _compiled_parts: bool
    _seen: dict[str, Seen]  # what the first batch showed of "student" and "teacher"

    @property
    def teacher(self) -> Any:
        raise NotImplementedError

    @property
    def terms(self) -> tuple[Term, ...]:
        raise NotImplementedError

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        jit_compile: Any = False,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configure the training as `keras.Model.compile` does.

        Args:
            loss: one loss on the logits, added to the terms; further losses are terms. Losses that could read
                probabilities get `from_logits=True`.
            jit_compile: off by default, since XLA measured slower on CPUs. On several devices XLA compiles the forward
                and backward passes; sums over devices and the update stay outside, where XLA cannot reach.
            metrics: metrics that expect probabilities, such as AUC, get those that belong to the logits.
            weighted_metrics: likewise.

        Raises:
            UserError: an unknown name, or a loss that cannot read logits.
        """
        options = {"optimizer": optimizer, "loss": loss, "jit_compile": jit_compile, **kwargs}
        self._compile_options = Untracked({**options, "metrics": metrics, "weighted_metrics": weighted_metrics})
        self._compiled_term = None
        several = self.distribute_strategy.num_replicas_in_sync > 1
        self._compiled_parts = several and jit_compile is True
        jit_compile = False if several else jit_compile
        if kwargs.get("loss_weights") is not None:
            raise UserError(
                "compile(loss_weights=...) has no effect. Give the loss as HardLabels(loss=..., weight=...)"
            )
        if loss is not None:
            if isinstance(loss, list | tuple) or (isinstance(loss, Mapping) and "class_name" not in loss):
                raise UserError("compile(loss=...) takes one loss on the logits. Give further losses as terms")
            self._compiled_term = Untracked(HardLabels(loss=loss, name="compile_loss"))
            self._compile_tracker = keras.metrics.Mean(name="compile_loss")
            if keras_losses.on_logits(self._compiled_term.value.loss)[1]:
                say("Note: the compiled loss reads the student's logits (from_logits=True).")
        binary, outputs = preparation.is_binary(self.terms), self._outputs()
        metrics, one = keras_metrics.on_logits(metrics, binary=binary, outputs=outputs)
        weighted_metrics, other = keras_metrics.on_logits(weighted_metrics, binary=binary, outputs=outputs)
        if one or other:
            activation = "sigmoid" if binary or outputs == 1 else "softmax"
            say(f"Note: {', '.join([*one, *other])} read the {activation} of the student's logits.")
        super().compile(
            optimizer=optimizer,
            loss=None,
            jit_compile=jit_compile,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            **kwargs,
        )

    def _outputs(self) -> int | None:
        """The number of the student's logits, if it is known."""
        return self._seen["student"].outputs if "student" in self._seen else outputs_of(self.student)

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int = 1,
        verbose: Any = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Train as `keras.Model.fit` does.

        Arrays are checked before the first step, of other data the first batch.

        Raises:
            UserError: data that student, teacher or terms cannot read.
            DivergedError: the loss of a step is not finite.
        """
        if not self.terms:
            raise UserError("the Distiller has no terms to train on. Give it `matches`, or compile a loss")
        if class_weight is not None:
            if any(isinstance(term, HardLabels) and term.task == "multilabel" for term in self.terms):
                raise UserError("class_weight needs one class for each example. Use sample_weight for several labels")
            x, y, class_weight = class_weighted(x, y, sample_weight, class_weight)
        first = self._prepare(x, y, sample_weight, batch_size)
        if validation_data is not None and not inspect.isgenerator(validation_data):
            self._prepare(*keras.utils.unpack_x_y_sample_weight(validation_data))
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            own = [StopOnDivergence()]  # no checkpoint of a step that diverged
            callbacks = [*own, *keras.tree.flatten(callbacks or [])]
            preparation.check_checkpoints(callbacks, self.student)
        if isinstance(first.x, tf.data.Dataset) or inspect.isgenerator(first.x):
            shuffle = False  # It shuffles itself; Keras would warn.
        self.build_optimizer()
        options = {"validation_split": validation_split, "validation_data": validation_data, "shuffle": shuffle}
        options |= {"class_weight": class_weight, "sample_weight": sample_weight, **kwargs}
        try:
            with preparation.in_one_line():
                return super().fit(first.x, y, batch_size, epochs, verbose, callbacks, **options)
        except DivergedError as error:
            cause = ""
            with suppress(UserError, ValueError, TypeError, tf.errors.OpError):  # the first error counts
                cause = preparation.cause_of(error, x, first, self)
            raise DivergedError(error.step, error.term, cause) if cause else error from None

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: Any = "auto",
        sample_weight: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Evaluate as `keras.Model.evaluate` does. Raises UserError as `fit` does."""
        if not kwargs.get("_use_cached_eval_dataset"):  # within `fit`, which has checked its data
            x = self._prepare(x, y, sample_weight, batch_size).x
        with preparation.in_one_line():
            return super().evaluate(x, y, batch_size, verbose, sample_weight, **kwargs)

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train on one batch as `keras.Model.train_on_batch` does. Models and the first batch are checked as in `fit`."""
        if not self._seen:
            if _has_examples(x):
                self._prepare(x, y, sample_weight)
            self.build_optimizer()
        return super().train_on_batch(x, y, sample_weight, *args, **kwargs)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None, **kwargs: Any) -> Any:
        """Evaluate one batch as `keras.Model.test_on_batch` does. Models and the first batch are checked as in `fit`."""
        if not self._seen and _has_examples(x):
            self._prepare(x, y, sample_weight)
        return super().test_on_batch(x, y, sample_weight, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the student's logits as `keras.Model.predict` does. Raises UserError for inputs it cannot read."""
        first = first_batch(x, read=False) if not inspect.isgenerator(x) else None
        if first is not None and first.batch is not None:
            preparation.check_inputs("student", self.student, part(first.batch, "student"))
        return super().predict(x, *args, **kwargs)

    def _prepare(self, x: Any, y: Any, sample_weight: Any, batch_size: int | None = None) -> First:
        """Check data and models before the first step; build models that are not built."""
        if not self.compiled:
            raise UserError("the Distiller is not compiled. Call distiller.compile(optimizer=...) first")
        if batch_size is not None and batch_size < 1:
            raise UserError(f"batch_size is {batch_size}; expected at least 1")
        unbuilt, seen = not self.student.built, dict(self._seen)
        models = (self.student, *(() if self.teacher is None else (self.teacher,)))
        new = any(not has_features(model) for model in models) and not self._seen
        spec = getattr(x, "element_spec", None)
        cached = isinstance(spec, Mapping) and "teacher_features" in spec
        first = first_batch(x, y, sample_weight, read=new or cached)
        if first.batch is not None:
            with self.distribute_strategy.scope():
                preparation.examine(first, self.student, self.teacher, self.terms, self._seen)
        elif unbuilt:
            raise UserError(
                "the student is not built. Call it once on a batch, or give fit arrays or a tf.data.Dataset"
            )
        options = self._compile_options.value
        if unbuilt and (options.get("metrics") or options.get("weighted_metrics")):
            self.compile(**options)  # the number of its outputs is known now
        if self._seen != seen:  # the compiled steps do not know it
            self.train_function = self.test_function = None
        return first

    def build_optimizer(self) -> None:
        """Create the optimizer's slots for all variables, also for those that the first stage does not train."""
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    # --- saving -----------------------------------------------------------------------------------------------------

    def save(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Save the student, as `student.save` does. Raises UserError if Keras cannot save it."""
        preparation.check_saving(str(filepath), self.student, "save_weights")
        self.student.save(filepath, *args, **kwargs)

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        """Export the student, as `student.export` does."""
        return self.student.export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        raise UserError("a Distiller has no config of its own. Save or clone its `student`")
