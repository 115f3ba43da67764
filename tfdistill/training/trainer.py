"""`Stage`: matches, how long, learning rate and what is trainable; and the training of stages, one after the other."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import keras
import tensorflow as tf

from tfdistill.data.batching import Buckets, Examples, dataset
from tfdistill.distill.distiller import Distiller
from tfdistill.errors import DivergedError, UserError
from tfdistill.training.execution import Execution
from tfdistill.distill.match import Term
from tfdistill.models.text_model import TextModel
from tfdistill.optim.optimizers import WarmupLinear, make_optimizer
from tfdistill.system.devices import by_worker, splits_by_worker


class Source(Protocol):
    """Batches of a stage that brings data of its own, in the form `Distiller.fit` takes."""

    def __len__(self) -> int:
        """Rows of one pass."""
        ...

    def dataset(self, batch_size: int, *, seed: int = 0, epochs: int = 1) -> tf.data.Dataset:
        """May also take `first_step`: so many batches are left out from the start, which is quicker than to make and skip them;
        and with it `worker`, (i, n): only part i of n of each batch is made. `buckets`, where the rows have several lengths, is as in
        `tfdistill.data.batching.dataset`. An attribute `fingerprint` tells data apart where a run goes on."""
        ...


@dataclass(frozen=True)
class Pause:
    """What is at hand between two stages.

    Args:
        batches: (rows, batch size) -> batches of so many labelled training rows, drawn by the seed; None takes all rows.
        score: the main dev score of a model; higher is better.
        log: writes named values into the run's log.
    """

    batches: Callable[[int | None, int], Iterable[Mapping[str, Any]]]
    score: Callable[[TextModel], float]
    log: Callable[..., None]


@dataclass(frozen=True)
class Stage:
    """One part of a training.

    Args:
        name: shown in logs.
        terms: what is summed into the loss.
        epochs: passes over the training rows; a fraction is allowed.
        learning_rate: peak; it rises over `warmup` of the steps and falls to zero linearly.
        epsilon: Adam's ε; None takes Keras' 1e-7.
        clip_norm: global gradient norm; None clips nothing.
        micro_batches: parts of a batch that are computed one after the other, to save memory.
        freeze: parts of the student that stay as they are: "encoder", "embeddings", "word_embeddings", "layer_1" and so on,
            "pooler", "head".
        rates: factor on the learning rate for parts that neither stay as they are nor learn at the full rate.
        evaluations: how often the dev split is scored.
        patience: stop after so many scorings without a better one; None never stops early.
        keep_best: whether the stage ends with the weights of its best scoring rather than its last ones.
        start_counts: with keep_best, the weights that the stage starts with may be the best ones: a stage that only makes a student
            worse then changes nothing. Takes one scoring more; for monitor="score".
        monitor: what is the best: the dev "score" of the task, or the stage's own "loss" on the dev split.
        rows: "labelled" (the training split and its augmented copies), "unlabelled" (the rows without a label), or "all".
        counted: the rows whose number `epochs` counts, if not `rows`: so a baseline takes as many steps.
        source: data of its own (plain text) in place of the recipe's.
        teacher: this stage's own teacher, if not the recipe's.
        student: a model of its own, with another head on an encoder of the recipe's student: it starts with the weights of
            that encoder, which gets them back at the end.
        train_teacher: the teacher learns too.
        before: changes the student's weights in place before the first step, as pruning does. With `epochs` 0 that is all.
    """

    name: str
    terms: tuple[Term, ...]
    epochs: float = 3
    learning_rate: float = 1e-4
    batch_size: int = 32
    optimizer: str = "adamw"
    warmup: float = 0.1
    weight_decay: float | None = None
    epsilon: float | None = None
    clip_norm: float | None = 1.0
    micro_batches: int = 1
    freeze: tuple[str, ...] = ()
    rates: Mapping[str, float] = field(default_factory=dict)
    evaluations: int = 4
    patience: int | None = None
    keep_best: bool = True
    start_counts: bool = False
    monitor: Literal["score", "loss"] = "score"
    rows: Literal["labelled", "unlabelled", "all"] = "labelled"
    counted: Literal["labelled", "unlabelled", "all"] | None = None
    source: Source | None = None
    teacher: Any = None
    student: TextModel | None = None
    train_teacher: bool = False
    before: Callable[[TextModel, Pause], None] | None = None

    def steps(self, rows: int) -> int:
        """Optimizer steps on `rows` training rows."""
        return max(1, round(self.epochs * rows / self.batch_size)) if self.epochs else 0

    def rounds(self, steps: int) -> int:
        """Scorings in so many steps."""
        return max(1, min(self.evaluations, steps))

    @property
    def reads_teacher(self) -> frozenset[str]:
        """Features of the teacher that the terms ask for."""
        return frozenset().union(*(term.teacher_features for term in self.terms))


# --- parts of a student ---------------------------------------------------------------------------------------------


def parts_of(student: TextModel) -> tuple[str, ...]:
    """Names of the student's parts from the bottom up: embeddings, layers, pooler, head."""
    encoder = student.encoder
    layers = len(encoder.blocks) if hasattr(encoder, "blocks") else len(encoder.forward)
    pooler = ("pooler",) if _pooler(encoder) is not None else ()
    return ("embeddings", *(f"layer_{n}" for n in range(1, layers + 1)), *pooler, "head")


def layers_of(student: TextModel, part: str) -> list[keras.layers.Layer]:
    """The Keras layers that a part's name stands for. Raises UserError for a part the student does not have."""
    encoder = student.encoder
    if part == "encoder":
        return [encoder]
    if part == "head":
        return [student.head]
    if part in ("embeddings", "word_embeddings"):
        if not hasattr(encoder, "embeddings"):
            return [encoder.embedding]
        return [encoder.embeddings if part == "embeddings" else encoder.embeddings.word]
    if part == "pooler" and _pooler(encoder) is not None:
        return [_pooler(encoder)]
    if part in parts_of(student) and part.startswith("layer_"):
        number = int(part.removeprefix("layer_")) - 1
        return (
            [encoder.blocks[number]]
            if hasattr(encoder, "blocks")
            else [encoder.forward[number], encoder.backward[number]]
        )
    raise UserError(
        f"freeze=('{part}',): expected 'encoder', 'word_embeddings' or some of {', '.join(parts_of(student))}"
    )


def _pooler(encoder: Any) -> Any:
    return getattr(encoder, "pooler", None) or getattr(encoder, "dense", None)


@contextmanager
def frozen(student: TextModel, parts: Sequence[str]) -> Iterator[None]:
    """Keep `parts` of the student as they are inside the block. Raises UserError for a part it does not have."""
    layers = [layer for part in parts for layer in layers_of(student, part)]
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True


def copy_encoder(source: TextModel, target: TextModel) -> None:
    """Give `target` the encoder weights of `source`, part by part. A pooler that only one of them has stays as it is.

    Raises UserError where the two are not of one architecture.
    """
    for part in parts_of(source):
        if part == "head" or (part == "pooler" and "pooler" not in parts_of(target)):
            continue
        for theirs, ours in zip(layers_of(source, part), layers_of(target, part), strict=True):
            if [w.shape for w in theirs.weights] != [w.shape for w in ours.weights]:
                raise UserError(f"{part} cannot be copied: the two models are not of one architecture")
            ours.set_weights(theirs.get_weights())


# --- sequences of stages --------------------------------------------------------------------------------------------


def gradual_unfreezing(stage: Stage, student: TextModel) -> tuple[Stage, ...]:
    """`stage` once for each part of the student: the head alone first, then one part more from the top down each time.

    XtremeDistil (Mukherjee and Awadallah 2020, section 4.3); each step ends with its best weights if the stage says so, among them
    those that the step before ended with.
    """
    parts = parts_of(student)
    return tuple(
        replace(stage, name=f"{stage.name}, {parts[lowest]} and above", freeze=parts[:lowest], start_counts=True)
        for lowest in range(len(parts) - 1, -1, -1)
    )


def progressive(
    stage: Stage,
    student: TextModel,
    layer_terms: Sequence[Sequence[Term]],
    *,
    lower_rate: float = 0.0,
    embeddings: bool = False,
) -> tuple[Stage, ...]:
    """One stage for each layer from the bottom up, which trains that layer by the terms `layer_terms[layer - 1]`.

    MobileBERT (Sun et al. 2020, section 3.4, progressive knowledge transfer). All stages have all terms, those of other
    layers with weight 0, so that they share one compiled step.

    Args:
        stage: gives everything but terms and frozen parts.
        lower_rate: share of the learning rate at which the layers below go on to learn; 0 holds them still. The layers
            above and the head are always still.
        embeddings: whether the embeddings are trained, with the first layer; MobileBERT copies them from its teacher.
    """
    stages = []
    for number in range(1, len(layer_terms) + 1):
        terms = tuple(
            term if layer == number else _without_weight(term)
            for layer, group in enumerate(layer_terms, 1)
            for term in group
        )
        open_ = {f"layer_{number}", *(("embeddings",) if embeddings and number == 1 else ())}
        below = ("embeddings", *(f"layer_{n}" for n in range(1, number))) if lower_rate else ()
        held = tuple(part for part in parts_of(student) if part not in open_)
        name = f"{stage.name}, layer {number}"
        rates = {part: lower_rate for part in held if part in below}
        stages.append(
            replace(stage, name=name, terms=terms, freeze=tuple(p for p in held if p not in rates), rates=rates)
        )
    return tuple(stages)


def _without_weight(term: Any) -> Any:
    return replace(term, weight=0.0) if is_dataclass(term) and not isinstance(term, type) else term


def share_a_step(one: Stage, other: Stage) -> bool:
    """Whether two stages differ only in what can change without another compilation."""
    same = ("optimizer", "weight_decay", "epsilon", "clip_norm", "micro_batches", "train_teacher")
    return (
        all(getattr(one, name) == getattr(other, name) for name in same)
        and one.teacher is other.teacher
        and one.student is other.student
        and [_without_weight(term) for term in one.terms] == [_without_weight(term) for term in other.terms]
    )


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
            distiller._build_optimizer()
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
