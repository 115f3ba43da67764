"""Describe one part of a training as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tfdistill.distill.step import Term
from tfdistill.system.lazy import tf

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

ENDLESS = 10**7  # steps; more than any run takes


class Source(Protocol):
    """Data of a stage on plain text: batches in the form that `Distiller.fit` takes."""

    def __len__(self) -> int:
        """Return the number of examples of one pass."""
        ...

    def dataset(self, batch_size: int, *, seed: int = 0, epochs: int = 1) -> tf.data.Dataset:
        """Return the batches.

        It may also take `first_step`, the number of batches to leave out from the start, which is quicker than to make and
        skip them; `worker`, (i, n), which makes only part i of n of each batch; and `buckets`, as in
        `tfdistill.data.batching.dataset`. An attribute `fingerprint` identifies the data of a run.
        """
        ...


class HeldOut(Protocol):
    """Evaluates models on held-out text."""

    def __call__(self, model: TextModel) -> dict[str, float]:
        """Return the scores of a model."""
        ...

    def sample(self, rows: int) -> Any:
        """Return the model's inputs for at most `rows` examples."""
        ...


@dataclass(frozen=True)
class Pause:
    """What `Stage.before` may use.

    Args:
        batches: (rows, batch size) -> batches of labelled training examples, drawn by the seed; None takes all.
        score: returns the main dev score of a model; higher is better.
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
        terms: summands of the loss.
        epochs: passes over the training examples; a fraction is allowed.
        learning_rate: peak; it rises over `warmup` of the steps and falls to zero linearly.
        batch_size: examples in a step, over all devices.
        optimizer: one of `tfdistill.optim.optimizers.OPTIMIZERS`.
        warmup: share of the steps in which the learning rate rises.
        weight_decay: decoupled weight decay; None takes that of the optimizer's paper.
        epsilon: Adam's ε; None takes Keras' 1e-7.
        clip_norm: global gradient norm; None clips nothing.
        micro_batches: parts of a batch that are computed one after the other, to save memory.
        freeze: frozen parts of the student: "encoder", "embeddings", "word_embeddings", "layer_1" and so on, "pooler", "head".
        rates: factor of the learning rate for parts that are neither frozen nor learn at the full rate.
        evaluations: number of evaluations.
        patience: evaluations without a better one that end the stage; None never ends it early.
        keep_best: whether the stage ends with the weights of its best evaluation rather than its last ones.
        start_counts: with keep_best, the weights that the stage starts with may be the best ones: a stage that only makes a
            student worse then changes nothing. Takes one more evaluation; for monitor="score".
        monitor: what decides the best: the dev "score" of the task, or the stage's own "loss" on the dev split.
        rows: "labelled" (the training split and its augmented copies), "unlabelled" (examples without a label), or "all".
        counted: the examples whose number `epochs` counts, if not `rows`, so that a baseline takes the same steps.
        source: plain text in place of the recipe's data.
        teacher: teacher of this stage, if not the recipe's.
        student: a model with another head on an encoder of the recipe's student. It starts with the weights of that encoder,
            which gets them back at the end.
        train_teacher: whether the teacher is trained too.
        before: changes the student's weights in place before the first step, as pruning does. With `epochs` 0 that is all.
        exact_steps: number of optimizer steps, in place of `epochs`.
        minutes: minutes of training, in place of `epochs`; evaluations do not count. One device or one machine only.
        held_out: evaluates the student on held-out text, in place of the dev split.
        seed: seed of the order of examples and of masks; by default it follows from the run's seed and the stage's number.
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
    exact_steps: int | None = None
    minutes: float | None = None
    held_out: HeldOut | None = None
    seed: int | None = None

    def steps(self, rows: int) -> int:
        """Return the number of optimizer steps on `rows` training examples; `ENDLESS` if the clock ends the stage."""
        if self.minutes is not None:
            return ENDLESS
        if self.exact_steps is not None:
            return self.exact_steps
        return max(1, round(self.epochs * rows / self.batch_size)) if self.epochs else 0

    def evaluation_steps(self, steps: int) -> tuple[int, ...]:
        """Return the steps after which the student is evaluated. The last one ends the stage.

        Evaluations are equally far apart, which may make a stage some steps longer, unless `exact_steps` is set.
        """
        count = max(1, min(self.evaluations, steps))
        if self.exact_steps is not None:
            return tuple(-(-steps * number // count) for number in range(1, count + 1))
        return tuple(-(-steps // count) * number for number in range(1, count + 1))

    @property
    def reads_teacher(self) -> frozenset[str]:
        """Return the features of the teacher that the terms read."""
        return frozenset().union(*(term.teacher_features for term in self.terms))

    @property
    def by_token(self) -> bool:
        """Return whether a term compares features token by token."""
        return any(term.by_token for term in self.terms)
