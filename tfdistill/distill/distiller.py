"""`Distiller`: a `keras.Model` whose `train_step` sums distillation terms, alone or under `tf.distribute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfdistill.distill.batch import cached_features, part, split_rows, unpack
from tfdistill.distill.features import Features, features_of
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.step import Step, Term
from tfdistill.errors import DivergedError, UserError
from tfdistill.optim.freezing import positions_once
from tfdistill.system.devices import by_one_replica


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


def _sum_and_count(term: Term, step: Step, rows: Any, sample_weight: Any) -> tuple[Any, Any]:
    """(weighted sum, count) of a term in this batch of so many `rows`."""
    value = term(step)
    if isinstance(value, tuple):
        sums, counts = value
    else:  # one value a row: their number is known without any of them, so without a forward pass
        sums, counts = value, rows if value.shape.rank == 1 else tf.ones_like(value)
    if sample_weight is not None:
        sums = sums * tf.cast(tf.reshape(sample_weight, [-1]), sums.dtype)
    return tf.reduce_sum(sums), tf.reduce_sum(counts)


def _rows(inputs: Any) -> Any:
    return tf.cast(tf.shape(tf.nest.flatten(part(inputs, "student"))[0])[0], tf.float32)


def _plus(one: Any, other: Any) -> Any:
    """The sum of the gradients of two parts. None is that of a variable which a part does not reach; rows of tables stay rows."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tf.IndexedSlices) and isinstance(other, tf.IndexedSlices):
        values, rows = (tf.concat([getattr(each, name) for each in (one, other)], 0) for name in ("values", "indices"))
        return tf.IndexedSlices(values, rows, one.dense_shape)
    return tf.convert_to_tensor(one) + tf.convert_to_tensor(other)


class Distiller(keras.Model):
    """Trains a student against a frozen teacher.

    Args:
        student: a built `keras.Model` that returns logits (B, C). Models of `tfdistill.models` also give hidden states
            and attention scores.
        teacher: the same for the teacher; None if every batch carries "teacher_features" (a teacher cache) or no term
            reads the teacher. It is always called with training=False, never trained and never saved.
        matches: terms to sum: `Match`, `HardLabels`, or any other subclass of `Term`.
        train_teacher: the teacher learns too (shared projection does this); then it is also called with training=True.
        micro_batches: forward and backward go through the batch in so many parts, one after the other, before one update: the
            memory of a part, the result of the whole.

    `compile` takes any optimizer and metrics; a `loss` given there is one more term of weight 1 on the labels, named
    "compile_loss". `fit`, `evaluate` and `predict` behave as usual. Batches are `(x, y[, sample_weight])` for both
    models alike, or dicts as in `unpack`. In `evaluate` the loss is the same sum of terms.

    The loss of a term is Σ w·value / Σ count over the global batch, so that devices and padding change nothing.
    Like Keras, sample weights scale the numerator only. Optimizers of `tfdistill.optim.optimizers` clip the gradient of the global
    batch; those of Keras clip each replica's share by itself.

    Example:
        distiller = Distiller(student, teacher, [Match(losses.soft_kl, options={"temperature": 2.0}), HardLabels()])
        distiller.compile(optimizer="adam", metrics=["accuracy"])
        distiller.fit(x, y, epochs=3)
        student.save("student.keras")
    """

    def __init__(
        self,
        student: keras.Model,
        teacher: Any = None,
        matches: Sequence[Term] = (),
        train_teacher: bool = False,
        micro_batches: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        names = [term.name for term in matches]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"two terms are called '{twice[0]}'; give each Match a name of its own")
        if teacher is student:
            raise UserError("teacher and student are the same object; give the student a model of its own")
        self.student = student
        self.micro_batches = micro_batches
        self._teacher = teacher if train_teacher else _Untracked(teacher)
        self._matches = _Untracked(tuple(matches))
        # A variable, so that stages which only weigh their terms differently share one compiled step.
        self._term_weights = _Untracked(tf.Variable([float(term.weight) for term in matches] or [0.0], trainable=False))
        self._compiled_term: _Untracked | None = None
        self._compiled_parts = False
        self._projections: dict[str, keras.layers.Layer] = {}
        for term in matches:
            self._projections.update(term.make_projections(student, teacher))
        self._trackers = [keras.metrics.Mean(name=name) for name in names]
        self._compile_tracker = None
        self.built = True

    # --- parts ------------------------------------------------------------------------------------------------------

    @property
    def teacher(self) -> Any:
        return self._teacher.value if isinstance(self._teacher, _Untracked) else self._teacher

    @property
    def trains_teacher(self) -> bool:
        return not isinstance(self._teacher, _Untracked)

    @property
    def terms(self) -> tuple[Term, ...]:
        compiled = self._compiled_term
        return self._matches.value + ((compiled.value,) if compiled is not None else ())

    @property
    def projections(self) -> dict[str, keras.layers.Layer]:
        """The trainable maps between widths, by the term and the student's layer. They are no part of the student."""
        return self._projections

    def weigh(self, weights: Sequence[float]) -> None:
        """Set the weights of the terms, in the order of `matches`, without another compilation."""
        self._term_weights.value.assign([float(weight) for weight in weights])

    def call(self, inputs: Any, training: bool = False) -> Any:
        return self.student(part(inputs, "student"), training=training)

    # --- keras ------------------------------------------------------------------------------------------------------

    def compile(self, optimizer: Any = "adam", loss: Any = None, jit_compile: Any = False, **kwargs: Any) -> None:
        """As `keras.Model.compile`. `jit_compile` is off by default: on CPUs it measured slower. On several devices it compiles the
        forward and backward passes; sums over the devices and the update stay outside, since XLA cannot reach across them."""
        self._compiled_term = None
        several = self.distribute_strategy.num_replicas_in_sync > 1
        self._compiled_parts = several and jit_compile is True
        jit_compile = False if several else jit_compile
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
            callbacks = [
                StopOnDivergence(),
                *keras.tree.flatten(callbacks or []),
            ]  # no checkpoint of a step that diverged
        if isinstance(args[0] if args else kwargs.get("x"), tf.data.Dataset):
            kwargs.setdefault("shuffle", False)  # a data set shuffles itself; Keras would warn
        self.build_optimizer()
        return super().fit(*args, callbacks=callbacks, **kwargs)

    def build_optimizer(self) -> None:
        """Create the optimizer's slots for all trainable variables, unless they exist."""
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
        """Exactly one student and one teacher forward; none of the teacher where all it is asked for is cached."""
        want_student = frozenset().union(*(term.student_features for term in self.terms))
        if self._compile_metrics is not None:
            want_student |= {"logits"}
        want_teacher = frozenset().union(*(term.teacher_features for term in self.terms))
        student = features_of(self.student, part(inputs, "student"), sorted(want_student), training)
        cached = {name: value for name, value in cached_features(inputs).items() if name in want_teacher}
        live = want_teacher - set(cached)
        if live and self.teacher is None:
            raise UserError(
                f"the terms read {', '.join(sorted(live))} of the teacher, but there is neither a teacher nor "
                f"cached features of that name; received {sorted(cached) or 'none'}"
            )
        reads = part(inputs, "teacher")
        words = reads.get("words") if cached and isinstance(reads, Mapping) else None
        teacher = Features(**cached, words=words) if want_teacher else None
        if live:
            said = features_of(self.teacher, part(inputs, "teacher"), sorted(live), training and self.trains_teacher)
            values = {name: getattr(said, name) for name in live}
            if not self.trains_teacher:
                values = tf.nest.map_structure(tf.stop_gradient, values)
            teacher = Features(**cached, **values, mask=said.mask, words=said.words)
        return Step(student, teacher, labels, self._projections, (self.student, self.teacher))

    def _over_replicas(self, value: Any) -> Any:
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return value
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)

    def _loss(
        self, step: Step, rows: Any, sample_weight: Any, counts: Sequence[Any] = (), first: bool = True
    ) -> tuple[Any, list[Any]]:
        """(this replica's share of the global loss, [value and weight of each term] for `_track_terms`); the shares sum up to the
        loss.

        Args:
            counts: what the sum of each term is divided by; by default its count in this batch, over all replicas.
            first: whether this is the first part of a batch, with which terms on parameters and regularisation count.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        total = tf.constant(0.0)
        weights = [*tf.unstack(tf.convert_to_tensor(self._term_weights.value))[: len(self._matches.value)], 1.0]
        told: list[Any] = []
        for number, (term, weight) in enumerate(zip(self.terms, weights, strict=False)):
            if term.on_parameters:
                if first:
                    value = term(step)
                    total += weight * value / replicas
                told.append((value, 1.0) if first else None)
                continue
            local_sum, local_count = _sum_and_count(term, step, rows, sample_weight)
            whole = counts[number] if counts else self._over_replicas(local_count)
            total += weight * local_sum / tf.maximum(whole, 1.0)
            told.append((local_sum / tf.maximum(local_count, 1.0), local_count))
        if self.student.losses and first:
            total += tf.add_n([tf.cast(loss, tf.float32) for loss in self.student.losses]) / replicas
        return total, told

    def _track_terms(self, told: Sequence[Any]) -> None:
        trackers = [*self._trackers, *([self._compile_tracker] if self._compiled_term is not None else [])]
        for tracker, said in zip(trackers, told, strict=True):
            if said is not None:
                tracker.update_state(said[0], sample_weight=said[1])

    def _track(self, total: Any, examples: Any) -> None:
        # Summed over replicas this is (global loss · global batch, global batch): the mean over batches, weighted by size.
        replicas = self.distribute_strategy.num_replicas_in_sync
        self._loss_tracker.update_state(total * replicas, sample_weight=self._over_replicas(examples) / replicas)

    def train_step(self, data: Any) -> dict[str, Any]:
        parts = split_rows(data, self.micro_batches)
        counts = self._counts(parts) if len(parts) > 1 or self._compiled_parts else ()
        backward = (
            tf.function(self._backward, autograph=False, jit_compile=True) if self._compiled_parts else self._backward
        )
        variables = self.trainable_variables
        gradients: list[Any] = []
        total, examples = tf.constant(0.0), tf.constant(0.0)
        for number, micro_batch in enumerate(parts):
            new, loss, rows, told, logits = backward(micro_batch, counts, number == 0)
            gradients = [_plus(a, b) for a, b in zip(gradients, new, strict=True)] if number else new
            total, examples = total + loss, examples + rows
            self._track_terms(told)
            logs = self._logs(micro_batch, logits)
        if len(parts) > 1:
            gradients = positions_once(gradients, variables)
        pairs = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
        self.optimizer.apply_gradients(pairs)
        self._track(total, examples)
        return self._told({**logs, "loss": self._loss_tracker.result()})

    def _backward(self, data: Any, counts: Sequence[Any], first: bool) -> tuple[Any, ...]:
        """(gradients, loss, number of rows, what terms are tracked with, the student's logits where metrics want them) of one part of
        a batch. Changes nothing but the state of dropout, so that XLA can compile it beside other devices."""
        inputs, labels, sample_weight = unpack(data)
        with tf.GradientTape() as tape:
            step = self._forward(inputs, labels, training=True)
            rows = _rows(inputs)
            loss, told = self._loss(step, rows, sample_weight, counts, first)
            scaled = self.optimizer.scale_loss(loss)
        logits = None if self._compile_metrics is None else step.student.logits
        return tape.gradient(scaled, self.trainable_variables), loss, rows, told, logits

    def _told(self, logs: dict[str, Any]) -> dict[str, Any]:
        # Between workers Keras averages what a step returns over its first axis, which a scalar has not.
        if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}

    def _counts(self, parts: Sequence[Any]) -> list[Any]:
        """The count of each term over all parts and replicas. Only counts are asked for, so no forward pass stays in the graph."""
        steps = [
            (self._forward(inputs, labels, training=False), _rows(inputs), weight)
            for inputs, labels, weight in map(unpack, parts)
        ]
        return [
            self._over_replicas(tf.add_n([_sum_and_count(term, *step)[1] for step in steps]))
            if not term.on_parameters
            else tf.constant(1.0)
            for term in self.terms
        ]

    def gradient_norms(self, data: Any) -> dict[str, float]:
        """Norm of the gradient of each weighted term over all trainable variables, for one batch. A look, not a step."""
        with self.distribute_strategy.scope():
            norms = by_one_replica(partial(self._gradient_norms, self._term_weights.value.numpy()))(data)
        return {name: float(norm) for name, norm in norms.items()}

    def _gradient_norms(self, weights: Sequence[float], data: Any) -> dict[str, Any]:
        inputs, labels, sample_weight = unpack(data)
        weighted = {}
        with tf.GradientTape(persistent=True) as tape:
            step = self._forward(inputs, labels, training=False)
            for term, weight in zip(self._matches.value, weights, strict=False):
                if term.on_parameters:
                    weighted[term.name] = weight * term(step)
                else:
                    local_sum, local_count = _sum_and_count(term, step, _rows(inputs), sample_weight)
                    weighted[term.name] = weight * local_sum / tf.maximum(local_count, 1.0)
        norms = {}
        for name, loss in weighted.items():
            gradients = [g for g in tape.gradient(loss, self.trainable_variables) if g is not None]
            norms[name] = tf.linalg.global_norm(gradients or [tf.zeros(())])
        return norms

    def test_step(self, data: Any) -> dict[str, Any]:
        inputs, labels, sample_weight = unpack(data)
        step = self._forward(inputs, labels, training=False)
        total, told = self._loss(step, _rows(inputs), sample_weight)
        self._track_terms(told)
        self._track(total, _rows(inputs))
        return self._told(self._logs(data, step.student.logits))

    def predict_step(self, data: Any) -> Any:
        return self(unpack(data)[0], training=False)

    def _logs(self, data: Any, logits: Any) -> dict[str, Any]:
        if self._compile_metrics is None:
            return self.get_metrics_result()
        inputs, labels, sample_weight = unpack(data)
        if labels is None:
            raise UserError(
                "compile(metrics=...) was given, but the batch has no labels; leave the metrics out, or give labels"
            )
        return self.compute_metrics(part(inputs, "student"), labels, logits, sample_weight)
