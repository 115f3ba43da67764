"""Progress of a stage and state of a run: all that a checkpoint holds, except variables."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tfdistill.training.evaluation import Evaluation


@dataclass(frozen=True)
class Progress:
    """Results of the evaluations of a stage so far. It is replaced as a whole, so no evaluation is half counted.

    Args:
        rounds: evaluations that are done.
        top: best value so far; includes the weights at the start if these count.
        own: best value of the stage's own evaluations, which patience looks at.
        scores: scores of the weights that the stage ends with.
        without_gain: evaluations since the last better one.
        stopped: whether patience has ended the stage.
        entries: number of log lines.
        losses: training losses of an evaluation that has begun, which may use up the metrics.
        best: weights of the best evaluation, if the stage keeps them.
    """

    rounds: int = 0
    top: float | None = None
    own: float | None = None
    scores: dict[str, float] = field(default_factory=dict)
    without_gain: int = 0
    stopped: bool = False
    entries: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    best: list[np.ndarray] | None = None

    def as_data(self) -> dict[str, Any]:
        """Return everything except the weights."""
        return {key: value for key, value in asdict(replace(self, best=None)).items() if key != "best"}

    def after(
        self,
        evaluation: Evaluation,
        weights: list[np.ndarray] | None,
        *,
        rounds: int,
        entries: int,
        patience: int | None,
    ) -> Progress:
        """Return the progress with one more evaluation.

        Args:
            evaluation: scores, and the value to maximize.
            weights: the student's weights if the stage ends with its best ones; None if it ends with its last.
            rounds: as in `Progress`.
            entries: lines of the log so far.
            patience: evaluations without a better one that end the stage; None never does.
        """
        value, top, own, best, scores = evaluation.value, self.top, self.own, self.best, self.scores
        gained = value is not None and (own is None or value > own)
        without_gain = 0 if gained else self.without_gain + 1
        if value is not None and (top is None or value >= top):
            top = value
            if weights is not None:
                best, scores = weights, evaluation.scores
        if weights is None:
            scores = evaluation.scores
        stopped = patience is not None and without_gain >= patience
        return Progress(rounds, top, value if gained else own, scores, without_gain, stopped, entries, best=best)


@dataclass
class RunState:
    """State of a run. With the variables of models and trainer it is all that a checkpoint holds.

    Args:
        stage: number of the present stage, from 0.
        step: optimizer steps of this stage that are done.
        progress: results of this stage's evaluations.
        training_seconds: training time of this stage, evaluations not counted; for stages that end by the clock.
        log: lines of log.jsonl.
        gradient_norms: norm of each term's gradient at the first step of each stage.
        held_out_before: scores on held-out text before the first step.
        former_seconds: working time of earlier processes.
        teacher_logits: (n, C), mean of the teachers' logits for all training examples, once computed.
    """

    stage: int = 0
    step: int = 0
    progress: Progress = field(default_factory=Progress)
    training_seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    gradient_norms: dict[str, dict[str, float]] = field(default_factory=dict)
    held_out_before: dict[str, float] = field(default_factory=dict)
    former_seconds: float = 0.0
    teacher_logits: np.ndarray | None = None
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Working time of the run, without steps that a stop lost."""
        return self.former_seconds + time.monotonic() - self.started

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The log without times."""
        return [{key: value for key, value in line.items() if key != "time"} for line in self.log]

    def begin(self, stage: int) -> None:
        """Move to the beginning of a stage."""
        self.stage, self.step, self.training_seconds = stage, 0, 0.0
        self.progress = Progress(entries=len(self.log))

    def as_data(self) -> dict[str, Any]:
        """Return everything except arrays. Log lines of an evaluation that is not over are left out."""
        return {
            "stage": self.stage,
            "step": self.step,
            "progress": self.progress.as_data(),
            "training_seconds": self.training_seconds,
            "log": self.log[: self.progress.entries],
            "gradient_norms": self.gradient_norms,
            "held_out_before": self.held_out_before,
            "seconds": self.seconds,
        }

    def load(self, data: dict[str, Any], best: list[np.ndarray] | None) -> None:
        """Take over what `as_data` returned, and the best weights."""
        self.stage, self.step, self.training_seconds = data["stage"], data["step"], data["training_seconds"]
        self.progress = Progress(**data["progress"], best=best)
        self.log, self.gradient_norms = list(data["log"]), data["gradient_norms"]
        self.held_out_before, self.former_seconds = data["held_out_before"], data["seconds"]
        self.started = time.monotonic()
