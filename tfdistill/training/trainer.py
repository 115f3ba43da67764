"""`Stage`: matches, how long, learning rate and what is trainable; and the training of stages, one after the other."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from tfdistill.data.batching import Buckets, Examples, dataset
from tfdistill.distill.distiller import Distiller
from tfdistill.errors import DivergedError, UserError
from tfdistill.models.text_model import TextModel
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear
from tfdistill.system.devices import by_worker, splits_by_worker
from tfdistill.training.execution import Execution
from tfdistill.training.freezing import frozen, layers_of
from tfdistill.training.schedules import share_a_step
from tfdistill.training.stage import Source, Stage

# --- parts of a student ---------------------------------------------------------------------------------------------


# --- sequences of stages --------------------------------------------------------------------------------------------


# --- training -------------------------------------------------------------------------------------------------------


def _batches(
    data: Examples | Source, batch_size: int, seed: int, epochs: int, first_step: int, buckets: Buckets = ()
) -> tf.data.Dataset:
    """The batches from step `first_step` on. Where several workers train, each reads its own rows alone if the data knows how."""
    if isinstance(data, Examples):
        return dataset(data, batch_size, seed=seed, epochs=epochs, first_step=first_step, buckets=buckets)
    known = inspect.signature(data.dataset).parameters
    if "first_step" not in known:
        return data.dataset(batch_size, seed=seed, epochs=epochs).skip(first_step)
    make: Callable[..., tf.data.Dataset] = partial(data.dataset, batch_size, seed=seed, epochs=epochs)
    make = partial(make, first_step=first_step, **({"buckets": buckets} if "buckets" in known else {}))
    return by_worker(make) if "worker" in known and splits_by_worker() else make()


@dataclass(frozen=True)
class TakenUp:
    """Where a stage goes on.

    Args:
        step: optimizer steps that are done.
        rounds: scorings that are done.
        optimizer, metrics: values of what `Trainer.variables` names so.
    """

    step: int
    rounds: int
    optimizer: Sequence[Any]
    metrics: Sequence[Any]


class _Metrics(keras.callbacks.Callback):
    """Gives the metrics of a round that was begun before the values that they had; Keras has just reset them."""

    def __init__(self, values: Sequence[Any]):
        super().__init__()
        self.values = values

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assign(self.model.metrics_variables, self.values, "metrics")


def assign(variables: Sequence[Any], values: Sequence[Any], what: str) -> None:
    """Give `variables` the `values`. Raises UserError where number or shapes are not the same: nothing is changed then."""
    ours, theirs = ([tuple(each.shape) for each in some] for some in (variables, values))
    if ours != theirs:
        raise UserError(
            f"the checkpoint's {what} are not those of this recipe; expected the same models: choose another --out, or --force"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class Trainer:
    """Trains a student in place through stages, in their order.

    Neighbouring stages that differ only in the weights of their terms, in frozen parts, learning rate and length share one
    Distiller: one compilation, projections and optimizer slots from the start. Each stage begins with a fresh optimizer
    state (moments and step number zero): moments of another loss and another learning rate would only mislead, and
    parts that were held until now have none. Projections go on from stage to stage wherever name and shape are the same.
    """

    def __init__(self, student: TextModel, stages: Sequence[Stage], execution: Execution | None = None):
        self.student, self.stages, self.execution = student, tuple(stages), execution or Execution()
        self.distiller: Distiller | None = None
        self._schedule: WarmupLinear | None = None
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
        callbacks: Sequence[keras.callbacks.Callback] = (),
        steps: int | None = None,
        gradient_norms: bool = False,
        taken_up: TakenUp | None = None,
    ) -> dict[str, Any]:
        """Train stage `number` (from 0) for `steps` steps, by default as many as its epochs on `data` are.

        The batches and their order depend on (stage, rows, seed) alone. Each Keras epoch
        ends where the dev split is scored, `stage.evaluations` times in all.

        Args:
            taken_up: where the stage was left. With the models' variables and `projections` as they were then, the result is, on
                CPUs bit for bit, that of a training that never stopped.

        Returns:
            The Keras history, one value for each term and evaluation (of a stage that was taken up, those since then); with
            `gradient_norms` also "gradient_norms" of each term at the first step.

        Raises:
            DivergedError: a loss term became NaN or infinite.
        """
        stage = self.stages[number]
        steps = steps or stage.steps(len(data))
        rounds = stage.rounds(steps)
        each = math.ceil(steps / rounds)
        # A source's batches run on over the end of a pass, so that its passes may have a part of a step.
        passes = math.ceil(rounds * each * stage.batch_size / len(data))

        def batches(first_step: int = 0) -> tf.data.Dataset:
            return _batches(data, stage.batch_size, seed, passes, first_step, self.execution.buckets)

        keras.utils.set_random_seed(seed)
        warmup = round(stage.warmup * rounds * each)
        if self._built_for is None or not share_a_step(self._built_for, stage):
            self._build(self._first_alike(number), stage.teacher or teacher)
        distiller, schedule = self.distiller, self._schedule
        assert distiller is not None and schedule is not None
        with frozen(stage.student or self.student, self._always_frozen):
            distiller.build_optimizer()
            self._hold(stage)
            distiller.optimizer.restart()
            distiller.weigh([term.weight for term in stage.terms])
            schedule.set(stage.learning_rate, warmup, rounds * each)
            if taken_up is None:
                self.norms = distiller.gradient_norms(next(iter(batches()))) if gradient_norms else {}
                history = self._fit(batches(), 0, rounds, each, callbacks)
            else:
                history = self._go_on(taken_up, batches, rounds, each, callbacks)
        self._projections = self.projections
        return {**history, **({"gradient_norms": self.norms} if self.norms else {})}

    def _fit(
        self, batches: Any, first: int, rounds: int, each: int, callbacks: Sequence[keras.callbacks.Callback]
    ) -> dict[str, Any]:
        """Rounds `first` to `rounds` - 1, of `each` steps."""
        assert self.distiller is not None
        return self.distiller.fit(
            batches, initial_epoch=first, epochs=rounds, steps_per_epoch=each, verbose=0, callbacks=list(callbacks)
        ).history

    def _go_on(
        self,
        taken_up: TakenUp,
        batches: Callable[[int], tf.data.Dataset],
        rounds: int,
        each: int,
        callbacks: Sequence[keras.callbacks.Callback],
    ) -> dict[str, Any]:
        """The rest of the round that was begun, and the rounds after it."""
        distiller, step, done = self.distiller, taken_up.step, taken_up.rounds
        assert distiller is not None
        assign(distiller.optimizer.variables, taken_up.optimizer, "optimizer")
        distiller.stop_training = False
        history: dict[str, Any] = {}
        left = (done + 1) * each - step
        try:
            if left < each:
                done += 1
                if left:
                    history = self._fit(batches(step), done - 1, done, left, [_Metrics(taken_up.metrics), *callbacks])
                else:  # only the scoring was missing
                    assign(distiller.metrics_variables, taken_up.metrics, "metrics")
                    told = keras.callbacks.CallbackList(list(callbacks), model=distiller)
                    told.on_epoch_end(done - 1, distiller.get_metrics_result())
                step = done * each
            if done < rounds and not distiller.stop_training:
                later = self._fit(batches(step), done, rounds, each, callbacks)
                history = {key: [*history.get(key, []), *values] for key, values in later.items()}
        except DivergedError as error:
            raise DivergedError(step + error.step, error.term) from error
        return history

    @property
    def projections(self) -> dict[str, list[Any]]:
        """Weights of the projections, of all stages so far, by their keys."""
        present = {} if self.distiller is None or self._built_for is None else self.distiller.projections
        return {**self._projections, **{key: layer.get_weights() for key, layer in present.items()}}

    @projections.setter
    def projections(self, weights: Mapping[str, list[Any]]) -> None:
        self._projections, self._built_for = dict(weights), None

    @property
    def variables(self) -> dict[str, list[Any]]:
        """What a stage changes beside models and projections: "optimizer" (the first of them counts its steps) and "metrics"."""
        assert self.distiller is not None
        return {"optimizer": self.distiller.optimizer.variables, "metrics": self.distiller.metrics_variables}

    @property
    def step(self) -> int:
        """Optimizer steps of the present stage that are done."""
        return 0 if self.distiller is None else int(self.distiller.optimizer.iterations.numpy())

    def begin(self, stages: Sequence[Stage]) -> None:
        """Take other stages for the same student and teacher, from the first: what a Trainer made for them would do.

        The compiled step is kept where they differ in learning rate and length only. One with projections is not, since these
        start anew.
        """
        alike = len(stages) == len(self.stages) and all(
            share_a_step(one, other) and (one.freeze, one.rates) == (other.freeze, other.rates)
            for one, other in zip(self.stages, stages, strict=True)
        )
        if not alike or self.distiller is None or self.distiller.projections:
            self._built_for = None
        self.stages, self._projections, self.norms = tuple(stages), {}, {}

    def _first_alike(self, number: int) -> int:
        """The stage whose Distiller stage `number` trains with: where a training of all stages would have built it."""
        first: int | None = None
        for place, stage in enumerate(self.stages[: number + 1]):
            if stage.epochs and (first is None or not share_a_step(self.stages[first], stage)):
                first = place
        return number if first is None else first

    def _build(self, number: int, teacher: Any) -> None:
        """A Distiller for this stage and those after it that can share it."""
        stage = self.stages[number]
        together = [stage]
        for later in self.stages[number + 1 :]:
            if not share_a_step(stage, later):
                break
            together.append(later)
        # What no stage of them trains needs no gradient at all; the rest is held by the optimizer.
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

    def _hold(self, stage: Stage) -> None:
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
