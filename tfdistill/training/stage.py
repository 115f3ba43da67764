"""Describe one part of a training as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import tensorflow as tf

from tfdistill.distill.step import Term
from tfdistill.models.text_model import TextModel

ENDLESS = 10**7  # steps; more than any run takes


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
