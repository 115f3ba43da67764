"""What stands between the steps of a stage: scores on dev, the best weights, the end that comes early, log and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import keras
import numpy as np

from tfdistill.data.batching import dataset
from tfdistill.models.text_model import TextModel
from tfdistill.system.devices import of_the_chief
from tfdistill.system.signals import raise_if_asked
from tfdistill.training.stage import Stage


@dataclass(frozen=True)
class Progress:
    """What the scorings of a stage have given so far. Replaced as a whole, so that none is ever half counted.

    Args:
        rounds: scorings that are done.
        top: the best value so far, that of the weights at the start included where these count.
        own: the best value of the stage's own scorings, which patience looks at: a high learning rate lowers the first of them.
        scores: on dev, of the weights that the stage ends with.
        without_gain: scorings since the last better one.
        stopped: whether patience is at its end.
        entries: lines of the log.
        losses: of the round whose scoring has begun; scoring may use up the metrics.
        best: weights of the best scoring, if the stage keeps these.
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
        """All but the weights."""
        return {key: value for key, value in asdict(replace(self, best=None)).items() if key != "best"}


class Watch(keras.callbacks.Callback):
    """Scores dev after each round, remembers the best weights, stops early, feeds the progress bar, the log, the checkpoints.

    Args:
        run: scores, logs and saves (`tfdistill.training.runner`).
        number: of the stage.
        rounds: scorings of the whole stage.
    """

    def __init__(self, run: Any, number: int, stage: Stage, student: TextModel, rounds: int):
        super().__init__()
        self.run, self.number, self.stage, self.student, self.rounds = run, number, stage, student, rounds
        self.advance: Callable[..., Any] = lambda *_, **__: None
        self.progress = Progress(entries=len(run.lines))
        self.step = 0
        self.question: tuple[int, float] | None = None  # step and time at which workers agreed last
        self.next_question = 0  # the step at which they do again
        self.live = False  # whether steps, metrics and scorings agree, so that a checkpoint may be taken

    @property
    def finished(self) -> bool:
        return self.progress.stopped or self.progress.rounds >= self.rounds

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.live = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.live = False

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        raise_if_asked()
        self.step += 1
        self.advance(1)
        self.run.save_if_due(self)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        losses = self.progress.losses or {key: float(number) for key, number in (logs or {}).items()}
        self.progress = replace(self.progress, losses=losses)
        scores, value = self._score()
        said = {f"dev_{name}": number for name, number in list(scores.items())[:1]}
        if self.stage.monitor == "loss" and value is not None:
            said["dev_loss"] = -value
        monitored = self.model.optimizer.told | self.run.range_of(self.student, "student")
        self.run.log(stage=self.stage.name, step=self.step, **losses, **said, **monitored)
        shown = "".join(f", {name.replace('_', ' ')} {number:.4f}" for name, number in said.items())
        self.advance(0, note=f"loss {losses.get('loss', float('nan')):.4f}{shown}")
        self.progress = self._counted(scores, value)
        if self.progress.stopped:
            self.model.stop_training = True
        self.run.scored(self)

    def _counted(self, scores: dict[str, float], value: float | None) -> Progress:
        """The progress with one scoring more."""
        now, stage = self.progress, self.stage
        top, own, best, kept = now.top, now.own, now.best, now.scores
        gained = value is not None and (own is None or value > own)
        own = value if gained else own
        without_gain = 0 if gained else now.without_gain + 1
        if value is not None and (top is None or value >= top):
            top = value
            if stage.keep_best:
                best, kept = self.student.get_weights(), scores
        if not stage.keep_best:
            kept = scores
        stopped = stage.patience is not None and without_gain >= stage.patience
        return Progress(now.rounds + 1, top, own, kept, without_gain, stopped, len(self.run.lines), best=best)

    def score_start(self) -> None:
        """Let the weights that the stage starts with be the best so far."""
        scores = self.run.dev_scores(self.student)
        top, best = next(iter(scores.values())), self.student.get_weights()
        self.progress = replace(self.progress, top=top, scores=scores, best=best)

    def _score(self) -> tuple[dict[str, float], float | None]:
        """(dev scores, what is to be as large as possible). Plain text has no dev split."""
        if self.stage.source is not None:
            return {}, None
        scores = self.run.dev_scores(self.student)
        if self.stage.monitor == "score":
            return scores, next(iter(scores.values()))
        batches = dataset(self.run.dev_examples(self.stage), self.stage.batch_size, shuffle=False)
        loss = float(self.model.evaluate(batches, verbose=0, return_dict=True)["loss"])
        return scores, -of_the_chief(loss)[0]

    def restore(self) -> None:
        """The best weights of the stage, if it keeps these."""
        if self.stage.keep_best and self.progress.best is not None:
            self.student.set_weights(self.progress.best)
