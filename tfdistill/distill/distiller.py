"""`Distiller`: a `keras.Model` whose `train_step` sums distillation terms, alone or under `tf.distribute`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfdistill.distill import preparation
from tfdistill.distill.batch import cached_features, part, split_batch, unpack
from tfdistill.distill.features import Features, features_of
from tfdistill.distill.foreign import Seen, activation_of, as_logits, check_pair, has_features, logits_of
from tfdistill.distill.keras_methods import KerasMethods, Untracked
from tfdistill.distill.step import Projections, Step, Term
from tfdistill.errors import UserError
from tfdistill.optim.freezing import positions_once
from tfdistill.system.workers import on_one_replica


class _Tracked(NamedTuple):
    """What the metric of a term is updated with."""

    value: Any
    weight: Any


class _Backward(NamedTuple):
    """The outcome of one forward and backward pass. The logits are there only if metrics read them."""

    gradients: list[Any]
    loss: Any
    examples: Any
    tracked: list[_Tracked | None]
    logits: Any


def _sum_and_count(term: Term, step: Step, examples: Any, sample_weight: Any) -> tuple[Any, Any]:
    """The weighted sum and the count of a term in this batch."""
    value = term(step)
    if isinstance(value, tuple):
        sums, counts = value
    else:  # One value an example: their number is known without the values, so without a forward pass.
        sums, counts = value, examples if value.shape.rank == 1 else tf.ones_like(value)
    if sample_weight is not None:
        sums = sums * tf.cast(tf.reshape(sample_weight, [-1]), sums.dtype)
    return tf.reduce_sum(sums), tf.reduce_sum(counts)


def _examples(inputs: Any) -> Any:
    """The number of examples in a batch."""
    return tf.cast(tf.shape(tf.nest.flatten(part(inputs, "student"))[0])[0], tf.float32)


def _plus(one: Any, other: Any) -> Any:
    """The sum of two gradients. None is the gradient of an unused variable; sparse gradients stay sparse."""
    if one is None or other is None:
        return other if one is None else one
    if isinstance(one, tf.IndexedSlices) and isinstance(other, tf.IndexedSlices):
        values, rows = tf.concat([one.values, other.values], 0), tf.concat([one.indices, other.indices], 0)
        return tf.IndexedSlices(values, rows, one.dense_shape)
    return tf.convert_to_tensor(one) + tf.convert_to_tensor(other)


def _join_outputs(student: Any, teacher: Any, matches: Sequence[Term]) -> None:
    """Put the teacher's outputs in the order of the student's classes, if both are named and a term reads them."""
    names, order = getattr(student, "label_names", None), getattr(teacher, "order_outputs", None)
    read = any("logits" in term.teacher_features for term in matches)
    if read and names and order is not None and student.task == teacher.task:
        order(names, "the student")


def _check_terms(matches: Any, micro_batches: int) -> None:
    if isinstance(matches, Term) or not isinstance(matches, Sequence) or isinstance(matches, str):
        raise UserError(f"matches is a {type(matches).__name__}; expected a list of terms, such as [Match('soft_kl')]")
    for term in matches:
        if not isinstance(term, Term):
            raise UserError(f"matches has {term!r}; expected terms, such as Match('soft_kl') or HardLabels()")
        if not np.isfinite(float(term.weight)):
            raise UserError(f"the term '{term.name}' has the weight {term.weight}; expected a number")
    if micro_batches < 1:
        raise UserError(f"micro_batches is {micro_batches}; expected at least 1")


class Distiller(KerasMethods):
    """Trains a student against a frozen teacher.

    `compile` takes any optimizer and metrics; a `loss` given there is one more term of weight 1 on the labels, named
    "compile_loss". `fit`, `evaluate` and `predict` behave as usual. Batches are `(x, y[, sample_weight])` for both
    models alike, or dicts as in `tfdistill.distill.batch.unpack`. `evaluate` reports the same sum of terms as loss.

    The loss of a term is Σ w·value / Σ count over the global batch, so that neither the number of devices nor padding
    changes it. Like in Keras, sample weights scale the numerator only. Optimizers of `tfdistill.optim.optimizers` clip
    the gradient of the global batch; those of Keras clip each replica's gradient by itself.

    `save`, `export` and Keras' ModelCheckpoint write the student alone; `save_weights` also writes the projections.

    Args:
        student: a `keras.Model` that returns logits (B, C), as a tensor or as "logits" of a dict. Models of
            `tfdistill.models` also provide hidden states and attention scores.
        teacher: the same for the teacher; None if every batch carries "teacher_features" (a teacher cache) or no term
            reads the teacher. It is always called with training=False, never trained and never saved. If it returns
            probabilities, their logarithm is taken as logits.
        matches: the terms to sum: `Match`, `HardLabels`, or any other subclass of `Term`.
        train_teacher: whether the teacher is trained, too, as in shared projection; it is then called with training=True.
        micro_batches: number of parts of a batch. Forward and backward passes run on one part after the other before
            one update: the memory of a part, the result of the whole batch.

    Raises:
        UserError: two terms of one name, something that is not a term or model, or a teacher that is the student.

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
        check_pair(student, teacher)
        _check_terms(matches, micro_batches)
        names = [term.name for term in matches]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise UserError(f"two terms have the name '{repeated[0]}'. Give each a `name`")
        if teacher is student:
            raise UserError("teacher and student are the same object. Give the student a model of its own")
        _join_outputs(student, teacher, matches)
        self.student = student
        self.micro_batches = micro_batches
        self._teacher = teacher if train_teacher else Untracked(teacher)
        self._matches = Untracked(tuple(matches))
        # A variable, so that stages which differ only in the weights of their terms share one compiled step.
        self._term_weights = Untracked(tf.Variable([float(term.weight) for term in matches] or [0.0], trainable=False))
        self._compiled_term: Untracked | None = None
        self._compiled_parts = False
        self._compile_options = Untracked({})
        self._seen: dict[str, Seen] = {}
        self._projections: Projections = {}
        for term in matches:
            self._projections.update(term.make_projections(student, teacher))
        self._trackers = [keras.metrics.Mean(name=name) for name in names]
        self._compile_tracker = None
        self.built = True

    # --- parts ------------------------------------------------------------------------------------------------------

    @property
    def teacher(self) -> Any:
        return self._teacher.value if isinstance(self._teacher, Untracked) else self._teacher

    @property
    def trains_teacher(self) -> bool:
        return not isinstance(self._teacher, Untracked)

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of `matches`, and the compiled loss."""
        compiled = self._compiled_term
        return self._matches.value + ((compiled.value,) if compiled is not None else ())

    @property
    def projections(self) -> Projections:
        """The trainable projections, by term and student layer. They are not part of the student."""
        return self._projections

    def weigh(self, weights: Sequence[float]) -> None:
        """Set the weights of the terms, in the order of `matches`, without another compilation."""
        self._term_weights.value.assign([float(weight) for weight in weights])

    def call(self, inputs: Any, training: bool = False) -> Any:
        outputs = self.student(part(inputs, "student"), training=training)
        return outputs if has_features(self.student) else logits_of(self.student, outputs)

    # --- keras ------------------------------------------------------------------------------------------------------

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        # Keras averages the replicas' batches here, which fails for ids and for uneven or multi-worker batches. Only
        # the metrics' variables are missing, and for these the shapes of one replica are enough.
        if self._distribute_strategy is None or self._compile_metrics is None or self._compile_metrics.built:
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = next(batches)
                break
        strategy = self.distribute_strategy
        example = tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0][:1], data_batch)
        inputs, labels, _ = unpack(example)
        if labels is not None:
            with strategy.scope():
                self._compile_metrics.build(labels, self(inputs, training=False))

    # --- steps ------------------------------------------------------------------------------------------------------

    def forward(self, inputs: Any, labels: Any, training: bool) -> Step:
        """Run one student and one teacher forward pass for all terms.

        The teacher does not run if the batch carries all of its features that the terms read.

        Raises:
            UserError: a term reads the teacher, but there is neither a teacher nor a cached feature.
        """
        student_features = frozenset().union(*(term.student_features for term in self.terms))
        if self._compile_metrics is not None:
            student_features |= {"logits"}
        teacher_features = frozenset().union(*(term.teacher_features for term in self.terms))
        student = features_of(self.student, part(inputs, "student"), sorted(student_features), training)
        if student.logits is not None and not has_features(self.student):
            preparation.check_student_activation(activation_of(student.logits), self.terms)
        cached = {name: value for name, value in cached_features(inputs).items() if name in teacher_features}
        if "logits" in cached:
            cached["logits"] = self._teacher_logits(cached["logits"])
        live = teacher_features - set(cached)
        teacher = None
        if live:
            if self.teacher is None:
                raise UserError(
                    f"the terms read {', '.join(sorted(live))} of the teacher, but there is neither a teacher nor a "
                    f"cached feature of that name; received {sorted(cached) or 'none'}"
                )
            trained = training and self.trains_teacher
            outputs = features_of(self.teacher, part(inputs, "teacher"), sorted(live), trained)
            values = {name: getattr(outputs, name) for name in live}
            if "logits" in values and not has_features(self.teacher):
                values["logits"] = self._teacher_logits(values["logits"])
            if not self.trains_teacher:
                values = tf.nest.map_structure(tf.stop_gradient, values)
            teacher = Features(**cached, **values, mask=outputs.mask, words=outputs.words)
        elif cached:
            teacher_inputs = part(inputs, "teacher")
            words = teacher_inputs.get("words") if isinstance(teacher_inputs, Mapping) else None
            teacher = Features(**cached, words=words)
        return Step(student, teacher, labels, self._projections, (self.student, self.teacher))

    def _teacher_logits(self, outputs: Any) -> Any:
        """Logits of the teacher, also if it returns probabilities."""
        seen = self._seen.get("teacher", Seen())
        activation = activation_of(outputs) or seen.activation
        regression = activation == "sigmoid" and preparation.is_regression(self.terms)
        return outputs if regression else as_logits(outputs, activation)

    def _over_replicas(self, value: Any) -> Any:
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return value
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)

    def _loss(
        self, step: Step, examples: Any, sample_weight: Any, counts: Sequence[Any] = (), first: bool = True
    ) -> tuple[Any, list[_Tracked | None]]:
        """This replica's share of the global loss, of which the shares of all replicas are summed, and the terms' values.

        Args:
            counts: what the sum of each term is divided by; by default its count in this batch, over all replicas.
            first: whether this is the first part of a batch. Terms on parameters and regularisation count only there.
        """
        replicas = self.distribute_strategy.num_replicas_in_sync
        total = tf.constant(0.0)
        weights = [*tf.unstack(tf.convert_to_tensor(self._term_weights.value))[: len(self._matches.value)], 1.0]
        tracked: list[_Tracked | None] = []
        for number, (term, weight) in enumerate(zip(self.terms, weights, strict=False)):
            if term.on_parameters:
                value = term(step) if first else None
                total = total + weight * value / replicas if first else total
                tracked.append(_Tracked(value, 1.0) if first else None)
                continue
            local_sum, local_count = _sum_and_count(term, step, examples, sample_weight)
            global_count = counts[number] if counts else self._over_replicas(local_count)
            total += weight * local_sum / tf.maximum(global_count, 1.0)
            tracked.append(_Tracked(local_sum / tf.maximum(local_count, 1.0), local_count))
        if self.student.losses and first:
            total += tf.add_n([tf.cast(loss, tf.float32) for loss in self.student.losses]) / replicas
        return total, tracked

    def _track_terms(self, tracked: Sequence[_Tracked | None]) -> None:
        trackers = [*self._trackers, *([self._compile_tracker] if self._compiled_term is not None else [])]
        for tracker, entry in zip(trackers, tracked, strict=True):
            if entry is not None:
                tracker.update_state(entry.value, sample_weight=entry.weight)

    def _track(self, total: Any, examples: Any) -> None:
        # Summed over replicas this is (global loss · global batch, global batch): the mean over batches, weighted by size.
        replicas = self.distribute_strategy.num_replicas_in_sync
        self._loss_tracker.update_state(total * replicas, sample_weight=self._over_replicas(examples) / replicas)

    def train_step(self, data: Any) -> dict[str, Any]:
        parts = split_batch(data, self.micro_batches)
        counts = self.term_counts(parts) if len(parts) > 1 or self._compiled_parts else ()
        backward = self._backward
        if self._compiled_parts:
            backward = tf.function(self._backward, autograph=False, jit_compile=True)
        variables = self.trainable_variables
        gradients: list[Any] = []
        total, examples = tf.constant(0.0), tf.constant(0.0)
        for number, micro_batch in enumerate(parts):
            done = backward(micro_batch, counts, number == 0)
            gradients = (
                [_plus(a, b) for a, b in zip(gradients, done.gradients, strict=True)] if number else done.gradients
            )
            total, examples = total + done.loss, examples + done.examples
            self._track_terms(done.tracked)
            logs = self._logs(micro_batch, done.logits)
        if len(parts) > 1:
            gradients = positions_once(gradients, variables)
        pairs = [pair for pair in zip(gradients, variables, strict=True) if pair[0] is not None]
        self.optimizer.apply_gradients(pairs)
        self._track(total, examples)
        return self._returned({**logs, "loss": self._loss_tracker.result()})

    def _backward(self, data: Any, counts: Sequence[Any], first: bool) -> _Backward:
        """Run forward and backward on one part of a batch.

        This changes nothing but the state of dropout, so that XLA can compile it when there are several devices.
        """
        inputs, labels, sample_weight = unpack(data)
        with tf.GradientTape() as tape:
            step = self.forward(inputs, labels, training=True)
            examples = _examples(inputs)
            loss, tracked = self._loss(step, examples, sample_weight, counts, first)
            scaled = self.optimizer.scale_loss(loss)
        logits = None if self._compile_metrics is None else step.student.logits
        return _Backward(tape.gradient(scaled, self.trainable_variables), loss, examples, tracked, logits)

    def _returned(self, logs: dict[str, Any]) -> dict[str, Any]:
        # Between workers Keras averages what a step returns over its first axis, which a scalar does not have.
        if not isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            return logs
        return {name: tf.reshape(value, [1]) for name, value in logs.items()}

    def term_counts(self, parts: Sequence[Any]) -> list[Any]:
        """Return the count of each term over all parts of a batch and all replicas.

        Only counts are used, so that no forward pass stays in a compiled graph.
        """
        steps = [
            (self.forward(inputs, labels, training=False), _examples(inputs), weight)
            for inputs, labels, weight in map(unpack, parts)
        ]
        return [
            tf.constant(1.0)
            if term.on_parameters
            else self._over_replicas(tf.add_n([_sum_and_count(term, *step)[1] for step in steps]))
            for term in self.terms
        ]

    def gradient_norms(self, data: Any) -> dict[str, float]:
        """Return the norm of the gradient of each weighted term over all trainable variables, without an update."""
        with self.distribute_strategy.scope():
            norms = on_one_replica(partial(self._gradient_norms, self._term_weights.value.numpy()))(data)
        return {name: float(norm) for name, norm in norms.items()}

    def _gradient_norms(self, weights: Sequence[float], data: Any) -> dict[str, Any]:
        inputs, labels, sample_weight = unpack(data)
        weighted = {}
        with tf.GradientTape(persistent=True) as tape:
            step = self.forward(inputs, labels, training=False)
            for term, weight in zip(self._matches.value, weights, strict=False):
                if term.on_parameters:
                    weighted[term.name] = weight * term(step)
                else:
                    local_sum, local_count = _sum_and_count(term, step, _examples(inputs), sample_weight)
                    weighted[term.name] = weight * local_sum / tf.maximum(local_count, 1.0)
        norms = {}
        for name, loss in weighted.items():
            gradients = [g for g in tape.gradient(loss, self.trainable_variables) if g is not None]
            norms[name] = tf.linalg.global_norm(gradients or [tf.zeros(())])
        return norms

    def test_step(self, data: Any) -> dict[str, Any]:
        inputs, labels, sample_weight = unpack(data)
        step = self.forward(inputs, labels, training=False)
        total, tracked = self._loss(step, _examples(inputs), sample_weight)
        self._track_terms(tracked)
        self._track(total, _examples(inputs))
        return self._returned(self._logs(data, step.student.logits))

    def predict_step(self, data: Any) -> Any:
        return self.call(unpack(data)[0], training=False)

    def _logs(self, data: Any, logits: Any) -> dict[str, Any]:
        if self._compile_metrics is None:
            return self.get_metrics_result()
        inputs, labels, sample_weight = unpack(data)
        if labels is None:
            raise UserError(
                "compile(metrics=...) needs labels, but the batch has none. Give labels, or remove `metrics`"
            )
        return self.compute_metrics(part(inputs, "student"), labels, logits, sample_weight)
