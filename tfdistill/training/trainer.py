"""Train stages one after the other, with as few compilations as possible."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tfdistill.data.batching import Buckets, Examples, dataset
from tfdistill.distill.distiller import Distiller
from tfdistill.errors import DivergedError, UserError
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear
from tfdistill.system.workers import by_worker, splits_by_worker
from tfdistill.training.execution import Execution
from tfdistill.training.freezing import frozen, layers_of
from tfdistill.training.schedules import share_a_step
from tfdistill.training.stage import Source, Stage

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_UNKNOWN = 10**6  # steps of a schedule as long as the clock has not shown how many there will be


def _batches(
    data: Examples | Source, batch_size: int, seed: int, epochs: int, first_step: int, buckets: Buckets = ()
) -> tf.data.Dataset:
    """Return the batches from step `first_step` on. Each of several workers reads only its own examples if the data can do that."""
    if isinstance(data, Examples):
        return dataset(data, batch_size, seed=seed, epochs=epochs, first_step=first_step, buckets=buckets)
    known = inspect.signature(data.dataset).parameters
    if "first_step" not in known:
        return data.dataset(batch_size, seed=seed, epochs=epochs).skip(first_step)
    make: Callable[..., tf.data.Dataset] = partial(data.dataset, batch_size, seed=seed, epochs=epochs)
    make = partial(make, first_step=first_step, **({"buckets": buckets} if "buckets" in known else {}))
    return by_worker(make) if "worker" in known and splits_by_worker() else make()


@dataclass(frozen=True)
class Position:
    """Where a stage was left.

    Args:
        step: optimizer steps that are done.
        optimizer: values of the optimizer's variables.
        metrics: values of the metrics' variables.
    """

    step: int
    optimizer: Sequence[Any]
    metrics: Sequence[Any]


class StageCallback(keras.callbacks.Callback):
    """Callback of a stage that may have been stopped in the middle of an evaluation."""

    def catch_up(self, distiller: Distiller) -> bool:
        """Finish an evaluation that was interrupted, before the next step. Return whether the stage is over."""
        return False


class _Metrics(keras.callbacks.Callback):
    """Restores metrics of steps before a stop; Keras has just reset them."""

    def __init__(self, values: Sequence[Any]):
        super().__init__()
        self.values = values

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assign(self.model.metrics_variables, self.values, "metrics")


def assign(variables: Sequence[Any], values: Sequence[Any], what: str) -> None:
    """Assign `values` to `variables`. Raises UserError if number or shapes differ; nothing is changed then."""
    if [tuple(each.shape) for each in variables] != [tuple(each.shape) for each in values]:
        raise UserError(
            f"The {what} of the checkpoint do not fit this recipe. Use the same models, another --out, or --force."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class Trainer:
    """Trains a student in place through stages, in their order.

    Neighbouring stages that differ only in the weights of their terms, in frozen parts, learning rate and length share one
    Distiller: one compilation, projections, and optimizer slots from the start. This works because term weights, the
    numbers of the schedule and the learning-rate factor of each parameter are variables. 24 progressive stages compile
    once. Each stage begins with a fresh optimizer state (moments and step number zero): moments of another loss and
    another learning rate would only mislead, and parts that were frozen until now have none. Projections continue from
    stage to stage if name and shape are the same.
    """

    def __init__(self, student: TextModel, stages: Sequence[Stage], execution: Execution | None = None):
        self.student, self.stages, self.execution = student, tuple(stages), execution or Execution()
        self.distiller: Distiller | None = None
        self._schedule: WarmupLinear | None = None
        self._stage: Stage | None = None
        self._built_for: Stage | None = None
        self._always_frozen: tuple[str, ...] = ()
        self._projections: dict[str, list[Any]] = {}
        self.norms: dict[str, float] = {}

    def train(
        self,
        number: int,
        teacher: Any,
        data: Examples | Source,
        *,
        seed: int,
        steps: int | None = None,
        callback: StageCallback | None = None,
        gradient_norms: bool = False,
        position: Position | None = None,
    ) -> None:
        """Train stage `number` (from 0).

        The batches and their order depend on (stage, examples, seed) alone.

        Args:
            teacher: the recipe's teacher; the stage's own takes its place.
            steps: number of optimizer steps; by default the stage's epochs on `data`.
            callback: evaluates, saves, and may end the stage.
            gradient_norms: whether to set `norms`, the gradient norm of each term at the first step.
            position: where the stage was left. With the models' variables and `projections` as they were then, the result
                is, on CPUs bit for bit, that of a training that never stopped.

        Raises:
            DivergedError: a loss term became NaN or infinite.
        """
        self._stage = stage = self.stages[number]
        total = stage.evaluation_steps(steps or stage.steps(len(data)))[-1]
        # Batches of a source continue over the end of a pass, so that its passes may have a part of a step.
        passes = math.ceil(total * stage.batch_size / len(data))

        def batches(first_step: int = 0) -> tf.data.Dataset:
            return _batches(data, stage.batch_size, seed, passes, first_step, self.execution.buckets)

        keras.utils.set_random_seed(seed)
        if self._built_for is None or not share_a_step(self._built_for, stage):
            self._build(self._first_alike(number), stage.teacher or teacher)
        distiller = self.distiller
        assert distiller is not None
        with frozen(stage.student or self.student, self._always_frozen):
            distiller.build_optimizer()
            self._freeze(stage)
            distiller.optimizer.restart()
            distiller.weigh([term.weight for term in stage.terms])
            self.expect(min(total, _UNKNOWN))
            callbacks: list[keras.callbacks.Callback] = [] if callback is None else [callback]
            done, over = 0, False
            if position is None:
                self.norms = distiller.gradient_norms(next(iter(batches()))) if gradient_norms else {}
            else:
                done = position.step
                assign(distiller.optimizer.variables, position.optimizer, "optimizer")
                assign(distiller.metrics_variables, position.metrics, "metrics")
                over = callback is not None and callback.catch_up(distiller)
                callbacks.insert(0, _Metrics([np.array(value) for value in distiller.metrics_variables]))
            try:
                if not over:
                    distiller.fit(batches(done), steps_per_epoch=total - done, verbose=0, callbacks=callbacks)
            except DivergedError as error:
                raise DivergedError(done + error.step, error.term, error.cause) from error
        self._projections = self.projections

    def expect(self, total: int) -> None:
        """Let the learning rate of the present stage reach zero after `total` steps."""
        stage, schedule = self._stage, self._schedule
        assert stage is not None and schedule is not None
        schedule.set(stage.learning_rate, round(stage.warmup * total), total)

    @property
    def projections(self) -> dict[str, list[Any]]:
        """Return the weights of the projections of all stages so far, by their keys."""
        present = {} if self.distiller is None or self._built_for is None else self.distiller.projections
        return {**self._projections, **{key: layer.get_weights() for key, layer in present.items()}}

    @projections.setter
    def projections(self, weights: Mapping[str, list[Any]]) -> None:
        self._projections, self._built_for = dict(weights), None

    @property
    def variables(self) -> dict[str, list[Any]]:
        """Return what a stage changes besides models and projections: "optimizer" and "metrics"."""
        assert self.distiller is not None
        return {"optimizer": self.distiller.optimizer.variables, "metrics": self.distiller.metrics_variables}

    @property
    def step(self) -> int:
        """Return the number of optimizer steps of the present stage that are done."""
        return 0 if self.distiller is None else int(self.distiller.optimizer.iterations.numpy())

    def begin(self, stages: Sequence[Stage]) -> None:
        """Start over with other stages for the same student and teacher, as a new Trainer would.

        The compiled step is kept if they differ in learning rate and length only. It is not kept if it has projections,
        since these start over too.
        """
        alike = len(stages) == len(self.stages) and all(
            share_a_step(one, other) and (one.freeze, one.rates) == (other.freeze, other.rates)
            for one, other in zip(self.stages, stages, strict=True)
        )
        if not alike or self.distiller is None or self.distiller.projections:
            self._built_for = None
        self.stages, self._projections, self.norms = tuple(stages), {}, {}

    def _first_alike(self, number: int) -> int:
        """Return the stage for which a training of all stages would have built the Distiller of stage `number`."""
        first: int | None = None
        for place, stage in enumerate(self.stages[: number + 1]):
            if stage.epochs and (first is None or not share_a_step(self.stages[first], stage)):
                first = place
        return number if first is None else first

    def _build(self, number: int, teacher: Any) -> None:
        """Build a Distiller for this stage and the stages after it that can share it."""
        stage = self.stages[number]
        together = [stage]
        for later in self.stages[number + 1 :]:
            if not share_a_step(stage, later):
                break
            together.append(later)
        # What none of them trains needs no gradient at all; the optimizer freezes the rest.
        self._always_frozen = tuple(part for part in stage.freeze if all(part in s.freeze for s in together))
        self.distiller = Distiller(
            stage.student or self.student,
            teacher,
            stage.terms,
            train_teacher=stage.train_teacher,
            micro_batches=max(stage.micro_batches, self.execution.micro_batches),
        )
        for key, layer in self.distiller.projections.items():
            before = self._projections.get(key, [])
            if [w.shape for w in before] == [tuple(w.shape) for w in layer.weights]:
                layer.set_weights(before)
        self._schedule = WarmupLinear(stage.learning_rate, 0, 1)
        optimizer = make_optimizer(
            stage.optimizer,
            self._schedule,
            weight_decay=stage.weight_decay,
            epsilon=stage.epsilon,
            clip_norm=stage.clip_norm,
            **self.execution.for_optimizer,
        )
        optimizer.gated = any(s.rates or set(s.freeze) != set(self._always_frozen) for s in together)
        self.distiller.compile(optimizer=optimizer, jit_compile=self.execution.jit, auto_scale_loss=False)
        self._built_for = stage

    def _freeze(self, stage: Stage) -> None:
        assert self.distiller is not None
        student = stage.student or self.student
        factors = {
            id(variable): rate
            for part, rate in {**stage.rates, **dict.fromkeys(stage.freeze, 0.0)}.items()
            for layer in layers_of(student, part)
            for variable in layer.trainable_variables
        }
        variables = self.distiller.trainable_variables
        self.distiller.optimizer.factors.assign([factors.get(id(v), 1.0) for v in variables])
