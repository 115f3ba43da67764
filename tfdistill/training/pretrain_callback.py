"""What stands between the steps of a pre-training: the clock, scores on held-out text, log and checkpoints."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfdistill.corpora.sequences import TextExamples
from tfdistill.distill.distiller import Distiller
from tfdistill.errors import UserError
from tfdistill.models.fp16_range import check_range
from tfdistill.models.hf import save_directory
from tfdistill.models.text_model import TextModel
from tfdistill.optim.schedule import WarmupLinear
from tfdistill.system.console import say
from tfdistill.system.files import atomic_write
from tfdistill.system.signals import raise_if_signalled
from tfdistill.training.checkpoint import Checkpoints, arrays_of, groups_of
from tfdistill.training.masked_lm import evaluate, told
from tfdistill.training.trainer import assign


class Pretraining(keras.callbacks.Callback):
    """Counts steps and time, turns the schedule with the clock, scores held-out text, writes run.json, log and checkpoints."""

    def __init__(
        self,
        student: TextModel,
        out: Path,
        head: dict[str, Any],
        measured: TextExamples,
        settings: Any,
        steps: int | None,
        minutes: float | None,
        checkpoints: Checkpoints,
    ):
        super().__init__()
        self.student, self.out, self.head, self.measured, self.settings = student, out, head, measured, settings
        self.steps, self.limit, self.checkpoints = steps, None if minutes is None else 60 * minutes, checkpoints
        self.step, self.seconds, self.scored_at = 0, 0.0, -1
        self.before: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.lines: list[dict[str, Any]] = []  # of the log
        self.live = False  # whether steps, metrics and scorings agree, so that a checkpoint may be taken
        self.distiller: Any = None
        self._marks = 0  # scorings that are done

    # --- files

    def note(self, **more: Any) -> None:
        """Write run.json. Raises UserError where that cannot be done."""
        places = {"went_on_from": self.checkpoints.taken_up} if self.checkpoints.taken_up else {}
        atomic_write(self.out / "run.json", json.dumps({**self.head, **places, **more}, indent=2))

    def _write_log(self) -> None:
        # As a whole each time: no line is ever torn or there twice.
        content = "".join(json.dumps(line) + "\n" for line in self.lines)
        with suppress(UserError):  # a full disk, of which the checkpoints tell, ends no training
            atomic_write(self.out / "log.jsonl", content)

    def save(self) -> None:
        """A checkpoint of all that the run changes."""
        # A signal may come between the step and its counting.
        step = int(self.distiller.optimizer.iterations.numpy())
        state = {"step": step, "seconds": self.seconds, "before": self.before, "marks": self._marks, "log": self.lines}
        groups = {
            "model": self.student.variables,
            "optimizer": self.distiller.optimizer.variables,
            "metrics": self.distiller.metrics_variables,
        }
        self.checkpoints.write(state, arrays_of(groups), f"step {step}")

    def save_all(self) -> None:
        """A checkpoint, and the model as it stands."""
        self.save()
        with suppress(UserError):
            save_directory(self.student, self.out / "checkpoint", recipe=self.head)

    def interrupted(self) -> None:
        try:
            if self.live:
                self.save_all()
            elif not (self.out / "checkpoint").is_dir():
                save_directory(self.student, self.out / "checkpoint", recipe=self.head)
            self.note(state="interrupted", steps=self.step)
        except UserError as error:
            say(str(error))  # and end as asked: what was written before holds
        where = f"goes on from {self.checkpoints.last}" if self.checkpoints.last else "starts from the beginning"
        say(f"stopped; the same command {where}; the model as it stands is in {self.out / 'checkpoint'}")

    def take_up(self, distiller: Distiller) -> None:
        """Model, optimizer, metrics, log and counts as the newest checkpoint has them; nothing where there is none."""
        self.distiller = distiller
        found = self.checkpoints.read()
        if found is None:
            return
        state, groups = found[0], groups_of(found[1])
        assign(self.student.variables, groups.get("model", []), "models")
        assign(distiller.optimizer.variables, groups.get("optimizer", []), "optimizer")
        assign(distiller.metrics_variables, groups.get("metrics", []), "metrics")
        self.step, self.seconds, self.before = state["step"], state["seconds"], state["before"]
        self._marks, self.lines = state["marks"], state["log"]
        self._write_log()
        self.note(state="running")
        say(f"going on from {self.checkpoints.last}")

    # --- steps

    def begin(self, schedule: WarmupLinear, advance: Any) -> None:
        self._schedule, self._advance = schedule, advance
        self._clock: float | None = None
        self._rate_from: tuple[int, float] | None = (
            None  # step and seconds when the first step, with its tracing, was over
        )
        self._turn(self.steps or 10**6)
        advance(self.step if self.limit is None else self.seconds)
        if self._done_marks() > self._marks:  # stopped while it scored
            self._score(self.distiller.get_metrics_result())
        self._metrics = [np.array(variable.numpy()) for variable in self.distiller.metrics_variables]

    def _turn(self, total: int) -> None:
        """The schedule for `total` steps in all."""
        self._schedule.set(self.head["settings"]["learning_rate"], round(self.settings.warmup * total), total)

    def _share(self) -> float:
        return self.step / self.steps if self.steps else self.seconds / (self.limit or 1.0)

    def _done_marks(self) -> int:
        return min(int(self._share() * self.settings.evaluations + 1e-9), self.settings.evaluations)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        assign(self.distiller.metrics_variables, self._metrics, "metrics")  # Keras has just reset them
        self.live = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.live = False

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._clock is None:
            self._clock = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        raise_if_signalled()
        assert self._clock is not None
        now = time.monotonic()
        passed, self._clock = now - self._clock, now
        self.step, self.seconds = self.step + 1, self.seconds + passed
        if self.limit is None:
            self._advance(1)
        else:
            self._advance(min(passed, max(self.limit - self.seconds + passed, 0.0)))
            if self._rate_from is None:
                self._rate_from = (self.step, self.seconds)
            elif self.seconds > self._rate_from[1]:
                pace = (self.seconds - self._rate_from[1]) / (self.step - self._rate_from[0])
                self._turn(self.step + max(1, round((self.limit - self.seconds) / pace)))
            if self.seconds >= self.limit:
                self.model.stop_training = True
        if self._done_marks() > self._marks:
            self._score(logs or {})
        elif self.checkpoints.due:
            self.save()

    def _score(self, logs: dict[str, Any]) -> None:
        losses = {name: float(value) for name, value in logs.items()}
        scores = evaluate(self.student, self.measured, batch_size=self.settings.batch_size)
        entry = {
            "step": self.step,
            **losses,
            **{f"held_out_{name}": value for name, value in scores.items()},
            **self._range(),
        }
        live, self.live = self.live, False
        self.last, self.scored_at, self._marks = scores, self.step, self._done_marks()
        self.lines.append({"time": time.time(), **entry})
        self.distiller.reset_metrics()  # the next line of the log is about the steps since this one
        self.live = live
        self._write_log()
        self._advance(0, note=f"loss {losses.get('loss', float('nan')):.3f}, held-out {told(scores)}")
        if self._share() < 1 and self.checkpoints.cheap:
            self.save_all()
        self._clock = time.monotonic()  # scoring is no training time

    def _range(self) -> dict[str, Any]:
        """Of fp16 how near the model comes to the end of its range on some held-out rows, and the loss scale; else nothing."""
        if not self.distiller.optimizer.scaled:
            return {}
        inputs = self.measured.batch(np.arange(min(32, len(self.measured))))["student"]
        return {**check_range(self.student, "model", inputs), **self.distiller.optimizer.log_values}
