"""The Keras callback that keeps the books of a run: evaluation, best weights, early stop, log and checkpoints."""

from __future__ import annotations

import bisect
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.distill.distiller import Distiller
from tfdistill.errors import UserError
from tfdistill.metrics.notation import shown
from tfdistill.models.hf import save_directory
from tfdistill.system.console import Advance, say
from tfdistill.system.devices import WorkerLost
from tfdistill.system.files import atomic_write
from tfdistill.system.signals import deferred_signals, raise_if_signalled, signal_received, signals_over_errors
from tfdistill.system.workers import barrier, chief_flag, chief_values, is_chief, several_workers, sum_over_workers
from tfdistill.training.checkpoint import Checkpoints, arrays_of, groups_of
from tfdistill.training.evaluation import dev_scores, evaluate, fp16_range
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared
from tfdistill.training.stage import ENDLESS, Stage
from tfdistill.training.state import RunState
from tfdistill.training.trainer import Position, StageCallback, Trainer, assign

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_LOSS_SECONDS = 5.0  # between two looks at the loss of a step
_SECONDS_BETWEEN_QUESTIONS, _STEPS_BETWEEN_QUESTIONS = 2.0, 50  # at most, between agreements of workers


class Clock:
    """Training time of a stage that ends after some minutes. Evaluations do not count.

    Args:
        limit: seconds of training.
        seconds: those that are over.
    """

    def __init__(self, limit: float, seconds: float = 0.0):
        self.limit, self.seconds = limit, seconds
        self._last: float | None = None
        self._first: tuple[int, float] | None = None  # step and seconds after the first step, whose tracing takes long

    @property
    def share(self) -> float:
        """Return the share of the time that is over."""
        return self.seconds / self.limit

    def start(self) -> None:
        """Start before the first step."""
        self._last = self._last or time.monotonic()

    def skip(self) -> None:
        """Leave out the time since the last step."""
        self._last = time.monotonic()

    def tick(self, step: int) -> int | None:
        """Count a step. Returns the number of steps that the stage will probably have, once that is known."""
        assert self._last is not None
        now = time.monotonic()
        self.seconds, self._last = self.seconds + now - self._last, now
        if self._first is None:
            self._first = step, self.seconds
        elif self.seconds > self._first[1]:
            pace = (self.seconds - self._first[1]) / (step - self._first[0])
            return step + max(1, round((self.limit - self.seconds) / pace))
        return None


class Bookkeeper(StageCallback):
    """Keeps the books of a run between its steps, stage after stage. It is the only one that changes the `RunState`.

    Args:
        state: changed in place.
        out: run directory for log.jsonl and checkpoint/; None writes neither.
        checkpoints: where the run's checkpoints are; None writes none.
    """

    def __init__(
        self,
        recipe: Recipe,
        prepared: Prepared,
        trainer: Trainer,
        state: RunState,
        out: Path | None = None,
        checkpoints: Checkpoints | None = None,
    ):
        super().__init__()
        self.recipe, self.prepared, self.trainer, self.state = recipe, prepared, trainer, state
        self.out, self.checkpoints = out, checkpoints
        self.live = False  # whether steps, metrics and evaluations agree, so that a checkpoint may be written
        self._resumed = False
        self._position: Position | None = None

    # --- stages

    def begin(self, number: int, steps: int) -> bool:
        """Prepare for a stage with `steps` steps. Return whether it resumes a stopped one."""
        resumed, self._resumed = self._resumed, False
        if not resumed:
            self.state.begin(number)
            self._position = None  # of a stage that was over already
        self.stage: Stage = self.recipe.stages[number]
        self.student: TextModel = self.stage.student or self.recipe.student
        self.marks: Sequence[int] = self.stage.evaluation_steps(steps) if steps else ()
        self.clock: Clock | None = None
        if self.stage.minutes is not None and steps == ENDLESS:
            self.clock = Clock(60 * self.stage.minutes, self.state.training_seconds)
        self.advance: Advance = lambda *_, **__: None
        self._scores, self._loss_due = "", 0.0  # of the last evaluation, as shown; the time to show the loss again
        self._agreed: tuple[int, float] | None = None  # step and time of the last agreement between workers
        self._next_agreement = 0
        return resumed

    @property
    def finished(self) -> bool:
        """Return whether the present stage is over."""
        rounds = len(self.marks) if self.clock is None else self.stage.evaluations
        return self.state.progress.stopped or self.state.progress.rounds >= rounds

    @property
    def rounds_due(self) -> int:
        """Return how many evaluations are due by now, from the stage's beginning."""
        if self.clock is not None:
            return min(int(self.clock.share * self.stage.evaluations + 1e-9), self.stage.evaluations)
        return bisect.bisect_right(self.marks, self.state.step)

    @contextmanager
    def training(self, advance: Advance) -> Iterator[Position | None]:
        """Show progress and save on signals inside the block. Yields where the stage was left, None at its beginning."""
        self.advance = advance
        advance(self.state.step if self.clock is None else self.clock.seconds)
        agree = several_workers() and self.checkpoints is not None
        try:
            with signals_over_errors(), deferred_signals() if agree else nullcontext():
                yield self._position
        except (KeyboardInterrupt, SystemExit):
            # The last checkpoint stays if not everything agrees, or if other workers would have to help.
            if self.live and self.checkpoints is not None and not several_workers():
                self._save_all()
            raise

    def count_start(self) -> None:
        """Let the weights that the stage starts with be the best so far."""
        scores = dev_scores(self.prepared, self.student)
        top, best = next(iter(scores.values())), self.student.get_weights()
        self.state.progress = replace(self.state.progress, top=top, scores=scores, best=best)

    def restore_best(self) -> None:
        """Give the student the best weights of the stage, if it keeps them."""
        if self.stage.keep_best and self.state.progress.best is not None:
            self.student.set_weights(self.state.progress.best)

    # --- between steps

    def catch_up(self, distiller: Distiller) -> bool:
        self.set_model(distiller)
        if self.rounds_due > self.state.progress.rounds:
            self._evaluate()
        return self.finished

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.live = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        self.live = False

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.clock is not None:
            self.clock.start()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        raise_if_signalled()
        self.state.step += 1
        self._show_loss(logs)
        if self.clock is None:
            self.advance(1)
        else:
            expected = self.clock.tick(self.state.step)
            if expected is not None:
                self.trainer.expect(expected)
            passed = self.clock.seconds - self.state.training_seconds
            self.advance(min(passed, max(self.clock.limit - self.state.training_seconds, 0.0)))
            self.state.training_seconds = self.clock.seconds
        self._save_if_due()
        if self.rounds_due > self.state.progress.rounds:
            self._evaluate()
            if self.finished:
                self.model.stop_training = True

    def _show_loss(self, logs: dict[str, Any] | None) -> None:
        """Show the loss every few seconds; reading it waits for the step."""
        if logs and "loss" in logs and time.monotonic() >= self._loss_due:
            self._loss_due = time.monotonic() + _LOSS_SECONDS
            self.advance(0, note=f"loss {float(np.mean(logs['loss'])):.4f}{self._scores}")

    def _evaluate(self) -> None:
        state, stage = self.state, self.stage
        # Evaluating the loss uses up the metrics.
        losses = state.progress.losses or {name: float(each) for name, each in self.model.get_metrics_result().items()}
        state.progress = replace(state.progress, losses=losses)
        evaluation = evaluate(self.recipe, self.prepared, stage, self.model)
        scaled = self.model.optimizer.log_values | fp16_range(
            self.recipe, self.prepared, stage, self.student, "student"
        )
        self.log(stage=stage.name, step=state.step, **losses, **evaluation.logged, **scaled)
        self._scores = "".join(
            f", {name.replace('_', ' ')} {shown(name, number)}" for name, number in evaluation.logged.items()
        )
        self.advance(0, note=f"loss {losses.get('loss', float('nan')):.4f}{self._scores}")
        weights = self.student.get_weights() if stage.keep_best and evaluation.value is not None else None
        progress = state.progress.after(
            evaluation, weights, rounds=self.rounds_due, entries=len(state.log), patience=stage.patience
        )
        live, self.live = self.live, False
        state.progress = progress
        self.model.reset_metrics()  # the next line of the log is about the steps since this one
        self.live = live
        if self.checkpoints is None or chief_flag(self.checkpoints.cheap):
            self._save_all()
        if self.clock is not None:
            self.clock.skip()

    # --- log

    def log(self, **entry: Any) -> None:
        """Add a line to the log."""
        self.state.log.append({"time": time.time(), **entry})
        self._write_log()

    def _write_log(self) -> None:
        # The whole file each time: no line is ever torn, and what a full disk has prevented is written later.
        lines = "".join(json.dumps(line) + "\n" for line in self.state.log)
        self._attempt(lambda out: atomic_write(out / "log.jsonl", lines))

    def _attempt(self, write: Callable[[Path], Any]) -> None:
        """Write something that the run can do without. With checkpoints, which report a full disk, errors end no run."""
        if self.out is None:
            return
        try:
            write(self.out)
        except UserError:
            if self.checkpoints is None:
                raise

    # --- checkpoints

    @property
    def _models(self) -> dict[str, TextModel]:
        """Return the models that the stages change."""
        stages = self.recipe.stages
        models = [self.recipe.student, *(stage.student for stage in stages)]
        models += [stage.teacher or self.recipe.teacher_model for stage in stages if stage.train_teacher]
        different = {id(model): model for model in models if model is not None}
        return {f"model_{number}": model for number, model in enumerate(different.values())}

    @cached_property
    def _examples(self) -> str:
        """Return the SHA-256 of the training examples as the student reads them."""
        train, digest = self.prepared.train, hashlib.sha256()
        if train is not None:
            for part in (train.encoded.token_ids, train.encoded.offsets, train.labels, train.token_labels):
                digest.update(b"" if part is None else part.tobytes())
        return digest.hexdigest()

    def save(self, training: bool = True) -> None:
        """Write a checkpoint of the present step or, if not `training`, of the stage's beginning."""
        if self.checkpoints is None:
            return
        trainer, state = self.trainer, self.state
        if training and trainer.norms:
            state.gradient_norms[self.stage.name] = trainer.norms
        step = trainer.step if training else 0  # a signal may come between a step and its counting
        groups: dict[str, Sequence[Any]] = {name: model.variables for name, model in self._models.items()}
        groups |= {f"projections/{key}": weights for key, weights in trainer.projections.items()}
        groups |= trainer.variables if training else {}
        groups |= {"best": state.progress.best} if state.progress.best is not None else {}
        learns = any(stage.train_teacher and stage.teacher is None for stage in self.recipe.stages)
        if state.teacher_logits is not None and learns:  # they cannot be computed again
            groups["teacher_logits"] = [state.teacher_logits]
        data = {**state.as_data(), "step": step, "examples": self._examples}
        self.checkpoints.write(data, arrays_of(groups), f"step {step} of '{self.stage.name}'")

    def _save_all(self) -> None:
        """Write a checkpoint, and the student as it is."""
        self.save()
        self._attempt(lambda out: save_directory(self.student, out / "checkpoint"))

    def _save_if_due(self) -> None:
        if self.checkpoints is None:
            return
        if several_workers():
            self._agree(self.checkpoints)
        elif self.checkpoints.due:
            self.save()

    def _agree(self, checkpoints: Checkpoints) -> None:
        """Let workers agree whether a checkpoint is due, and whether one of them has to stop: then all stop at this step.

        Raises SystemExit in a worker that has to stop, WorkerLost in the others.
        """
        step = self.state.step
        if step < self._next_agreement:  # an agreement takes as long as a step
            return
        now, pause = time.monotonic(), 1
        if self._agreed is not None:
            steps, seconds = step - self._agreed[0], now - self._agreed[1]
            pause = min(_STEPS_BETWEEN_QUESTIONS, max(1, round(_SECONDS_BETWEEN_QUESTIONS * steps / seconds)))
        chief = is_chief()
        due, ending, pause_ = sum_over_workers(
            float(chief and checkpoints.due), float(signal_received()), float(chief * pause)
        )
        self._agreed, self._next_agreement = (step, now), step + int(pause_)
        if due or ending:
            self.save()
        if ending:
            barrier()  # until the chief has written
            raise_if_signalled(now=True)
            raise WorkerLost(
                "Another worker was told to stop, and all have saved. Run the same command again on all of them to resume."
            )

    def resume(self) -> None:
        """Restore state, models and log from the newest checkpoint, if there is one.

        Raises:
            UserError: the training examples have changed.
            WorkerLost: not all workers have the same checkpoint.
        """
        found = None if self.checkpoints is None else self.checkpoints.read()
        if found is not None:
            assert self.checkpoints is not None
            self._restore(found[0], groups_of(found[1]))
            self._resumed = True
            say(f"resuming from {self.checkpoints.last}")
        if several_workers():
            require_same_checkpoint((self.state.stage, self.state.step) if found else (-1, -1))

    def _restore(self, data: dict[str, Any], groups: dict[str, list[np.ndarray]]) -> None:
        if data["examples"] != self._examples:
            raise UserError(
                "The training examples are not those of the checkpoint: what augments or splits them has changed. "
                "Restore it, or use --force to start over."
            )
        for name, model in self._models.items():
            assign(model.variables, groups.get(name, []), "models")
        prefix = "projections/"
        projections = {key.removeprefix(prefix): each for key, each in groups.items() if key.startswith(prefix)}
        self.trainer.projections = projections
        if "teacher_logits" in groups:
            self.state.teacher_logits = np.array(groups["teacher_logits"][0])
        self.state.load(data, [np.array(each) for each in groups["best"]] if "best" in groups else None)
        if "optimizer" in groups:
            self._position = Position(self.state.step, groups["optimizer"], groups["metrics"])
        self._write_log()


def require_same_checkpoint(place: tuple[int, int]) -> None:
    """Compare the stage and step of this worker's checkpoint with the first worker's. (-1, -1) means that there is none.

    Raises WorkerLost in all workers if one has another checkpoint.
    """
    own = tuple(map(float, place))
    if sum_over_workers(float(tuple(chief_values(*own)) != own))[0]:
        raise WorkerLost(
            "The workers found different checkpoints, as when a shared disk shows a new file late. Run the same command "
            "again on all of them."
        )
