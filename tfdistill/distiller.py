"""`Distiller`: a `keras.Model` whose `train_step` sums distillation terms, alone or under `tf.distribute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdistill.errors import DivergedError, UserError
from tfdistill.features import Features, features_of
from tfdistill.match import HardLabels, Match, Step, Term


class _Untracked:
    """Hides a model from Keras' attribute tracking, so that it is neither trained nor saved."""

    def __init__(self, value: Any):
        self.value = value


class StopOnDivergence(keras.callbacks.Callback):
    """Raises DivergedError at the first step whose loss is NaN or infinite, naming the term."""

    def __init__(self) -> None:
        super().__init__()
        self.step = 0

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.step += 1
        values = {name: float(np.asarray(value)) for name, value in (logs or {}).items()}
        if not np.isfinite(values.get("loss", 0.0)):
            bad = [name for name, value in values.items() if name != "loss" and not np.isfinite(value)]
            raise DivergedError(self.step, bad[0] if bad else "loss")


def unpack(data: Any) -> tuple[Any, Any, Any]:
    """(inputs, labels, sample_weight) of a batch.

    A batch is `(x[, y[, sample_weight]])` as everywhere in Keras, or a dict with the keys "student" and, as needed,
    "teacher", "teacher_features", "labels", "sample_weight".
    """
    if isinstance(data, Mapping) and "student" in data:
        inputs = {key: data[key] for key in ("student", "teacher", "teacher_features") if key in data}
        return inputs, data.get("labels"), data.get("sample_weight")
    return keras.utils.unpack_x_y_sample_weight(data)


def _part(inputs: Any, name: str) -> Any:
    """The inputs of "student" or "teacher": their own if the batch tells them apart, else the same for both."""
    if isinstance(inputs, Mapping) and "student" in inputs:
        return inputs.get(name, inputs["student"])
    return inputs


class Distiller(keras.Model):
    """Trains a student against a frozen teacher.

    Args:
        student: a built `keras.Model` that returns logits (B, C). Models of `tfdistill.models` also give hidden states
            and attention scores.
        teacher: the same for the teacher; None if every batch carries "teacher_features" (a teacher cache) or no term
            reads the teacher. It is always called with training=False, never trained and never saved.
        matches: terms to sum, `Match` and `HardLabels` or anything with their call.

    `compile` takes any optimizer and metrics; a `loss` given there is one more term of weight 1 on the labels, named
    "compile_loss". `fit`, `evaluate` and `predict` behave as usual. Batches are `(x, y[, sample_weight])` for both
    models alike, or dicts as in `unpack`. In `evaluate` the loss is the same sum of terms.

    The loss of a term is Σ w·value / Σ count over the global batch, so that devices and padding change nothing.
    Like Keras, sample weights scale the numerator only.

    Example:
        distiller = Distiller(student, teacher, [Match(losses.soft_kl, options={"temperature": 2.0}), HardLabels()])
        distiller.compile(optimizer="adam", metrics=["accuracy"])
        distiller.fit(x, y, epochs=3)
        student.save("student.keras")
    """

    def __init__(self, student: keras.Model, teacher: Any = None, matches: Sequence[Term] = (), **kwargs: Any):
        super().__init__(**kwargs)
        names = [term.name for term in matches]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two terms are called '{twice[0]}'; give each Match a name of its own")
        if teacher is student:
            raise UserError("teacher and student are the same object; give the student a model of its own")
        self.student = student
        self._frozen = _Untracked(teacher)
        self._matches = _Untracked(tuple(matches))
        self._compiled_term: _Untracked | None = None
        self._projections = self._make_projections()
        self._trackers = [keras.metrics.Mean(name=name) for name in names]
        self._compile_tracker = None
        self.built = True

    # --- parts ------------------------------------------------------------------------------------------------------

    @property
    def teacher(self) -> Any:
        return self._frozen.value

    @property
    def terms(self) -> tuple[Term, ...]:
        compiled = self._compiled_term
        return self._matches.value + ((compiled.value,) if compiled is not None else ())

    def _make_projections(self) -> dict[str, keras.layers.Layer]:
        projections = {}
        for match in self._matches.value:
            if not isinstance(match, Match) or match.project is None:
                continue
            widths = [getattr(model, "width", lambda _: None)(match.on) for model in (self.student, self.teacher)]
            if None in widths:
                raise UserError(
                    f"the term '{match.name}' projects {match.on}, whose width is known for models of tfdistill.models only"
                )
            for student_layer, _ in match.pairs():
                key = match.projection_key(student_layer)
                projection = keras.layers.Dense(widths[1], use_bias=False, name=f"projection_{key}")
                projection.build((None, None, widths[0]))
                projections[key] = projection
        return projections

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.student(_part(inputs, "student"), training=training)

    # --- keras ------------------------------------------------------------------------------------------------------

    def compile(self, optimizer: Any = "adam", loss: Any = None, jit_compile: Any = False, **kwargs: Any) -> None:
        """As `keras.Model.compile`. `jit_compile` is off by default: on CPU it measured slower."""
        self._compiled_term = None
        if loss is not None:
            if isinstance(loss, Mapping | list | tuple):
                raise UserError(
                    "compile(loss=...) takes one loss on the logits; further losses are terms of the Distiller"
                )
            self._compiled_term = _Untracked(HardLabels(loss=keras.losses.get(loss), name="compile_loss"))
            self._compile_tracker = keras.metrics.Mean(name="compile_loss")
        super().compile(optimizer=optimizer, loss=None, jit_compile=jit_compile, **kwargs)

    def fit(self, *args: Any, callbacks: Any = None, **kwargs: Any) -> Any:
        """As `keras.Model.fit`. Raises DivergedError at the first step whose loss is not finite."""
        if not self.terms:
            raise UserError("nothing to train on: the Distiller has no terms; give it matches, or compile a loss")
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks or []), StopOnDivergence()]
        if isinstance(args[0] if args else kwargs.get("x"), tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # a data set shuffles itself; Keras would warn
        self._build_optimizer()
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def _build_optimizer(self) -> None:
        # Slots for all variables exist from the start, also for those that the first stage does not train.
        if self.optimizer is not None and not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras averages the replicas' batches here, which fails for ids and for uneven or multi-worker batches. All that is
        # missing is the metrics' variables, and one replica's shapes are enough for these.
        if self._distribute_strategy is None or self._compile_metrics is None or self._compile_metrics.built:
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = next(batches)
                break
        strategy = self.distribute_strategy
        row = tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0][:1], data_batch)
        inputs, labels, _ = unpack(row)
        if labels is not None:
            with strategy.scope():
                self._compile_metrics.build(labels, self(inputs, training=False))

    # --- steps ------------------------------------------------------------------------------------------------------

    def _forward(self, inputs: Any, labels: Any, training: bool) -> Step:
        """Exactly one student and one teacher forward (or the cached teacher features)."""
        want_student = frozenset().union(*(term.student_features for term in self.terms))
        if self._compile_metrics is not None:
            want_student |= {"logits"}
        want_teacher = frozenset().union(*(term.teacher_features for term in self.terms))
        student = features_of(self.student, _part(inputs, "student"), sorted(want_student), training)
        teacher = None
        cached = inputs.get("teacher_features", {}) if isinstance(inputs, Mapping) else {}
        if want_teacher and want_teacher <= set(cached):
            teacher = Features(**{name: cached[name] for name in want_teacher})
        elif want_teacher:
            if self.teacher is None:
                raise UserError(
                    f"the terms read {', '.join(sorted(want_teacher))} of the teacher, but there is neither a teacher nor "
                    f"cached features of that name; received {sorted(cached) or 'none'}"
                )
            teacher = features_of(self.teacher, _part(inputs, "teacher"), sorted(want_teacher), False)
        if teacher is not None:
            fixed = {name: tf.nest.map_structure(tf.stop_gradient, getattr(teacher, name)) for name in want_teacher}
            teacher = Features(**fixed)
        return Step(student, teacher, labels, self._projections)

    def _loss(self, step: Step, sample_weight: Any) -> Any:
        """This replica's share of the global loss; the shares sum up to it. Also feeds the metrics of the terms."""
        context = tf.distribute.get_replica_context()
        replicas = self.distribute_strategy.num_replicas_in_sync

        def over_replicas(value: Any) -> Any:
            return context.all_reduce(tf.distribute.ReduceOp.SUM, value) if replicas > 1 else value

        total = tf.constant(0.0)
        examples = tf.constant(0.0)
        trackers = [*self._trackers, *([self._compile_tracker] if self._compiled_term is not None else [])]
        for term, tracker in zip(self.terms, trackers, strict=True):
            value = term(step)
            sums, counts = value if isinstance(value, tuple) else (value, tf.ones_like(value))
            if sample_weight is not None:
                sums = sums * tf.cast(tf.reshape(sample_weight, [-1]), sums.dtype)
            local_sum, local_count = tf.reduce_sum(sums), tf.reduce_sum(counts)
            total += term.weight * local_sum / tf.maximum(over_replicas(local_count), 1.0)
            tracker.update_state(local_sum / tf.maximum(local_count, 1.0), sample_weight=local_count)
            examples = tf.cast(tf.shape(sums)[0], tf.float32)
        if self.student.losses:
            total += tf.add_n([tf.cast(loss, tf.float32) for loss in self.student.losses]) / replicas
        # Summed over replicas this is (global loss · global batch, global batch): the mean over batches, weighted by size.
        self._loss_tracker.update_state(total * replicas, sample_weight=over_replicas(examples) / replicas)
        return total

    def train_step(self, data: Any) -> dict[str, Any]:
        inputs, labels, sample_weight = unpack(data)
        with tf.GradientTape() as tape:
            step = self._forward(inputs, labels, training=True)
            loss = self._loss(step, sample_weight)
            scaled = self.optimizer.scale_loss(loss)
        variables = self.trainable_variables
        pairs = [pair for pair in zip(tape.gradient(scaled, variables), variables, strict=True) if pair[0] is not None]
        self.optimizer.apply_gradients(pairs)
        return self._logs(inputs, labels, step, sample_weight)

    def test_step(self, data: Any) -> dict[str, Any]:
        inputs, labels, sample_weight = unpack(data)
        step = self._forward(inputs, labels, training=False)
        self._loss(step, sample_weight)
        return self._logs(inputs, labels, step, sample_weight)

    def predict_step(self, data: Any) -> Any:
        return self(unpack(data)[0], training=False)

    def _logs(self, inputs: Any, labels: Any, step: Step, sample_weight: Any) -> dict[str, Any]:
        if self._compile_metrics is None:
            return self.get_metrics_result()
        if labels is None:
            raise UserError(
                "compile(metrics=...) was given, but the batch has no labels; leave the metrics out, or give labels"
            )
        return self.compute_metrics(_part(inputs, "student"), labels, step.student.logits, sample_weight)
