"""Runs a recipe: prepare its texts, ask the teacher once, train the stages, keep the best student."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tfdistill.data.batching import Examples, dataset, some_rows
from tfdistill.data.dataset import read_split, scores_of
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.models.fp16_range import check_range
from tfdistill.models.hf import save_directory
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import say, task
from tfdistill.system.devices import WorkerLost, chief_says, is_chief, meet, of_the_chief, over_workers, several_workers
from tfdistill.system.files import atomic_write
from tfdistill.system.signals import asked, heard, noted, raise_if_asked
from tfdistill.text.encoded import Encoded
from tfdistill.training.callbacks import Progress, Watch
from tfdistill.training.checkpoint import Checkpoints, arrays_of, groups_of
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import Prepared, aligned, encode_for, prepare, take
from tfdistill.training.stage import Pause, Stage
from tfdistill.training.teacher_cache import TeacherCache
from tfdistill.training.teacher_outputs import known, reasons, teacher_logits
from tfdistill.training.trainer import TakenUp, Trainer, assign

_ASKED_EACH, _MOST_STEPS = 2.0, 50  # seconds, and steps at most, between questions of workers to each other


@dataclass
class Result:
    """What a run gave. `curve` has one point for each scoring: step, loss, dev score; `scores` a dict for each split;
    `test_logits` (n, C) are in the order of the test split, None where it was not scored; `gradient_norms`, where asked for,
    the norm of each term's gradient at the first step of each stage; `projections` the maps between widths that were learned."""

    student: TextModel
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    searched: dict[float, float] = field(default_factory=dict)
    learning_rate: float | None = None
    test_logits: np.ndarray | None = None
    rows: int = 0
    seconds: float = 0.0
    gradient_norms: dict[str, dict[str, float]] = field(default_factory=dict)
    cut: dict[str, Cut] = field(default_factory=dict)
    projections: dict[str, list[np.ndarray]] = field(default_factory=dict)


@dataclass
class Cut:
    """A smaller student that was cut from the trained one."""

    student: TextModel
    scores: dict[str, dict[str, float]]


class _Run:
    """State of one run that callbacks share: where it writes, how dev is scored, and where it was left."""

    def __init__(
        self,
        recipe: Recipe,
        prepared: Prepared,
        out: Path | None,
        trainer: Trainer | None = None,
        checkpoints: Checkpoints | None = None,
        started: float | None = None,
        teacher_cache: TeacherCache | None = None,
    ):
        self.recipe, self.prepared, self.out = recipe, prepared, out
        self.trainer, self.checkpoints = trainer, checkpoints
        self.teacher_cache = teacher_cache or TeacherCache("off")
        self.dev = recipe.data.splits["dev"]
        self.curve: list[dict[str, Any]] = []
        self.lines: list[dict[str, Any]] = []  # the curve with times, for log.jsonl
        self.norms: dict[str, dict[str, float]] = {}
        self._started, self._before = time.monotonic() if started is None else started, 0.0

    @property
    def seconds(self) -> float:
        """Of work; where a run was stopped, without what was lost or waited since."""
        return self._before + time.monotonic() - self._started

    def count(self, stage: Stage) -> int:
        """Rows that a stage trains on."""
        return len(self.prepared.rows(stage.rows)) if stage.source is None else len(stage.source)

    def dev_scores(self, student: TextModel) -> dict[str, float]:
        """The first worker's, for all: other processors may round otherwise, and all have to decide alike."""
        rows = self.prepared.dev
        scores = scores_of(self.recipe.data, self.dev, rows, predict_logits(student, rows.encoded))
        return dict(zip(scores, of_the_chief(*scores.values()), strict=True))

    def test_scores(self, student: TextModel) -> tuple[dict[str, dict[str, float]], np.ndarray | None]:
        """({"test": scores}, logits), or nothing where there is no labelled test split."""
        data = self.recipe.data
        test = data.splits.get("test")
        if test is None or (isinstance(test, Split) and test.labels is None):
            return {}, None
        rows = read_split(data, test, student.tokenizer, self.recipe.max_length)
        logits = predict_logits(student, rows.encoded)
        return {"test": scores_of(data, test, rows, logits)}, logits

    def range_of(self, model: TextModel, who: str) -> dict[str, Any]:
        """How near the model comes to the end of fp16's range on some dev rows; nothing in another precision."""
        if self.recipe.execution.precision != "fp16":
            return {}
        same = model.tokenizer.fingerprint == self.recipe.student.tokenizer.fingerprint
        rows = (
            self.prepared.dev
            if same
            else read_split(self.recipe.data, self.dev, model.tokenizer, self.recipe.max_length)
        )
        some = take(Examples(rows.encoded), np.arange(min(32, len(rows.encoded))))
        for batch in dataset(some, 32, shuffle=False):
            return check_range(model, who, batch["student"])
        return {}

    def pause(self, stage: Stage, seed: int) -> Pause:
        """What `stage.before` is handed."""

        def batches(rows: int | None, batch_size: int) -> Any:
            examples = replace(self.examples(replace(stage, rows="labelled", terms=())), teacher_features={})
            return dataset(take(examples, some_rows(len(examples), rows, seed)), batch_size, shuffle=False)

        def score_of(student: TextModel) -> float:
            return next(iter(self.dev_scores(student).values()))

        return Pause(batches, score_of, lambda **entry: self.log(stage=stage.name, **entry))

    def dev_examples(self, stage: Stage) -> Examples:
        """The dev split for a stage's own loss."""
        recipe = self.recipe

        def read(teacher: TextModel) -> Encoded:
            assert isinstance(self.dev, Split)
            return encode_for(teacher, self.dev, recipe.teacher_length, recipe.privileged)

        teacher, rows = stage.teacher or recipe.teacher, self.prepared.dev
        examples = rows.examples
        if teacher is None or not stage.reads_teacher:
            return examples
        if stage.teacher is None and recipe.other_teachers and "logits" in stage.reads_teacher:
            examples = replace(examples, teacher_features={"logits": teacher_logits(recipe, read, "teachers read dev")})
        same = teacher.tokenizer.fingerprint == recipe.student.tokenizer.fingerprint and not recipe.privileged
        return examples if same else aligned(replace(examples, teacher=read(teacher)), stage, recipe.student, teacher)

    def examples(self, stage: Stage) -> Examples:
        """The training rows for a stage, with all that the teacher cache knows of them."""
        recipe, prepared = self.recipe, self.prepared
        teacher = stage.teacher or recipe.teacher
        features, stored = known(recipe, prepared, stage, self.teacher_cache)
        live = (
            stage.reads_teacher - set(features) - {c.name.partition("/")[0] for store in stored for c in store.columns}
        )
        read = None
        # Features of other pieces than the student's have to be aligned with its own, wherever they come from.
        if teacher is not None and (live or any(term.by_token for term in stage.terms)):
            read = prepared.read_by(teacher, recipe.student, recipe.privileged)
        examples = Examples(
            prepared.train,
            prepared.labels,
            teacher=read,
            teacher_features=features,
            stored=stored,
            token_labels=prepared.token_labels,
        )
        if teacher is not None:
            examples = aligned(examples, stage, recipe.student, teacher)
        rows = prepared.rows(stage.rows)
        return examples if len(rows) == len(examples) else take(examples, rows)

    def log(self, **entry: Any) -> None:
        self.curve.append(entry)
        self.lines.append({"time": time.time(), **entry})
        self._write_log()

    def _write_log(self) -> None:
        """Written as a whole each time: no line is ever torn, and a disk that was full is made up for."""
        if self.out is not None:
            self._attempt(
                lambda out: atomic_write(out / "log.jsonl", "".join(json.dumps(x) + "\n" for x in self.lines))
            )

    def _attempt(self, write: Callable[[Path], Any]) -> None:
        """Write what the run can do without for now. With checkpoints a full disk ends no run; these say that it is full."""
        assert self.out is not None
        try:
            write(self.out)
        except UserError:
            if self.checkpoints is None:
                raise

    # --- checkpoints

    @property
    def _models(self) -> dict[str, TextModel]:
        """The models that the stages change."""
        stages = self.recipe.stages
        models = [self.recipe.student, *(stage.student for stage in stages)]
        models += [stage.teacher or self.recipe.teacher for stage in stages if stage.train_teacher]
        different = {id(model): model for model in models if model is not None}
        return {f"model_{number}": model for number, model in enumerate(different.values())}

    @cached_property
    def _texts(self) -> str:
        """SHA-256 over the training rows as the student reads them."""
        prepared, digest = self.prepared, hashlib.sha256()
        for part in (prepared.train.token_ids, prepared.train.offsets, prepared.labels, prepared.token_labels):
            digest.update(b"" if part is None else part.tobytes())
        return digest.hexdigest()

    def save(self, watch: Watch, training: bool = True) -> None:
        """A checkpoint of where the stage is; not `training`: of its beginning."""
        if self.checkpoints is None:
            return
        trainer, progress = self.trainer, watch.progress
        assert trainer is not None
        step = trainer.step if training else 0
        state = {
            "stage": watch.number,
            "step": step,
            "progress": progress.as_data(),
            "log": self.lines[: progress.entries],
            "gradient_norms": self.norms | ({watch.stage.name: trainer.norms} if training and trainer.norms else {}),
            "seconds": self.seconds,
            "texts": self._texts,
        }
        groups: dict[str, Sequence[Any]] = {name: model.variables for name, model in self._models.items()}
        groups |= {f"projections/{key}": weights for key, weights in trainer.projections.items()}
        groups |= trainer.variables if training else {}
        groups |= {"best": progress.best} if progress.best is not None else {}
        if self.prepared.teacher_logits is not None and self._asks_a_learner:
            groups["teacher_logits"] = [self.prepared.teacher_logits]
        self.checkpoints.write(state, arrays_of(groups), f"step {step} of '{watch.stage.name}'")

    @property
    def _asks_a_learner(self) -> bool:
        """Whether the teacher whose logits are asked once changes, so that they cannot be asked again."""
        return any(stage.train_teacher and stage.teacher is None for stage in self.recipe.stages)

    def save_if_due(self, watch: Watch) -> None:
        if self.checkpoints is None:
            return
        if several_workers():
            self._agree(watch)
        elif self.checkpoints.due:
            self.save(watch)

    def _agree(self, watch: Watch) -> None:
        """Between workers: whether a checkpoint is due, and whether one of them was told to stop, for then all stop at this step.

        Raises SystemExit in a worker that was told, WorkerLost in the others.
        """
        if watch.step < watch.next_question:  # asking takes as long as a step
            return
        assert self.checkpoints is not None
        now, pause = time.monotonic(), 1
        if watch.question is not None:
            step, then = watch.question
            pause = min(_MOST_STEPS, max(1, round(_ASKED_EACH * (watch.step - step) / (now - then))))
        chief = is_chief()
        due, ending, pause_ = over_workers(float(chief and self.checkpoints.due), float(asked()), float(chief * pause))
        watch.question, watch.next_question = (watch.step, now), watch.step + int(pause_)
        if due or ending:
            self.save(watch)
        if ending:
            meet()  # until the chief has written
            raise_if_asked(now=True)
            raise WorkerLost(
                "another worker was told to stop, and all have saved; start the same command again on all of them to go on from here"
            )

    def scored(self, watch: Watch) -> None:
        """After a scoring: a checkpoint, and the student as it stands; without them where the last ones are seconds old."""
        if self.checkpoints is None or chief_says(self.checkpoints.cheap):
            self._save_all(watch)

    def _save_all(self, watch: Watch) -> None:
        self.save(watch)
        if self.out is not None:
            self._attempt(lambda out: save_directory(watch.student, out / "checkpoint"))

    def interrupted(self, watch: Watch) -> None:
        """A checkpoint, if all that it holds agrees; else, and where other workers would have to help, the last one stays."""
        if watch.live and self.checkpoints is not None and not several_workers():
            self._save_all(watch)

    def take_up(self) -> _Left | None:
        """Where the newest checkpoint left the run, with models and log as they were then; None to start at the beginning.

        Raises UserError where the training rows are others now.
        """
        if self.checkpoints is None or self.trainer is None:
            return None
        found = self.checkpoints.read()
        if found is None:
            return None
        state, groups = found[0], groups_of(found[1])
        if state["texts"] != self._texts:
            raise UserError(
                "the training rows are not those of the checkpoint: what augments or splits them has changed; expected the same, "
                "or --force to start anew"
            )
        for name, model in self._models.items():
            assign(model.variables, groups.get(name, []), "models")
        kept = "projections/"
        self.trainer.projections = {
            name.removeprefix(kept): values for name, values in groups.items() if name.startswith(kept)
        }
        if "teacher_logits" in groups:
            self.prepared.teacher_logits = np.array(groups["teacher_logits"][0])
        self.lines, self.norms, self._before = list(state["log"]), state["gradient_norms"], state["seconds"]
        self.curve[:] = [{key: value for key, value in line.items() if key != "time"} for line in self.lines]
        self._write_log()
        best = [np.array(value) for value in groups["best"]] if "best" in groups else None
        progress = Progress(**state["progress"], best=best)
        say(f"going on from {self.checkpoints.last}")
        begun = "optimizer" in groups
        taken_up = TakenUp(state["step"], progress.rounds, groups["optimizer"], groups["metrics"]) if begun else None
        return _Left(state["stage"], state["step"], progress, taken_up)


@dataclass(frozen=True)
class _Left:
    """Where a run was left: in stage number `stage`, after so many steps; `taken_up` is None at its beginning."""

    stage: int
    step: int
    progress: Progress
    taken_up: TakenUp | None


def _require_the_chiefs(left: _Left | None) -> None:
    """Between workers. Raises WorkerLost in all of them where one took up another checkpoint than the first worker."""
    if not several_workers():
        return
    mine = (-1.0, -1.0) if left is None else (float(left.stage), float(left.step))
    if over_workers(float(tuple(of_the_chief(*mine)) != mine))[0]:
        raise WorkerLost(
            "the workers found different checkpoints, as when a shared disk shows a new file late; start the same command again on "
            "all of them"
        )


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    out: Path | None = None,
    prepared: Prepared | None = None,
    max_steps: int | None = None,
    title: str | None = None,
    score_test: bool = True,
    gradient_norms: bool = False,
    trainer: Trainer | None = None,
    checkpoints: Checkpoints | None = None,
    teacher_cache: TeacherCache | None = None,
) -> Result:
    """Train the recipe's student in place and return it with its best weights and its dev and (`score_test`) test scores.

    Args:
        out: writes log.jsonl and, after each scoring, checkpoint/ there.
        prepared: from `prepare`, to share ids and teacher logits between runs on the same texts.
        max_steps: at most so many steps in each stage.
        gradient_norms: of each term, at the first step of each stage.
        trainer: of the same student, teacher and terms, as `search_learning_rate` leaves it: its compiled step is used again.
        checkpoints: goes on from the newest of these if there is one, and writes more.
        teacher_cache: what is kept of the teacher's outputs; by default the logits alone, in memory.

    Raises:
        DivergedError: a loss became NaN or infinite.
        UserError: a checkpoint does not fit the recipe, or no stage can use the teacher cache.
    """
    started = time.monotonic()
    for name, why in reasons(recipe, teacher_cache or TeacherCache("off")).items():
        say(f"no teacher cache for '{name}': {why}")
    prepared = prepared or prepare(recipe, seed)
    student = recipe.student
    trainer = trainer or Trainer(student, recipe.stages, recipe.execution)
    trainer.begin(recipe.stages)
    if recipe.projections:
        trainer.projections = dict(recipe.projections)
    run = _Run(recipe, prepared, out, trainer, checkpoints, started, teacher_cache)
    result = Result(student, curve=run.curve, rows=len(prepared.train), learning_rate=recipe.stages[-1].learning_rate)
    if recipe.teacher is not None and any(stage.reads_teacher for stage in recipe.stages):
        run.range_of(recipe.teacher, "teacher")
    left = run.take_up()
    _require_the_chiefs(left)
    for number, stage in enumerate(recipe.stages):
        if left is not None and number < left.stage:
            continue
        steps = stage.steps(len(prepared.rows(stage.counted)) if stage.counted else run.count(stage))
        steps = min(steps, max_steps or steps)
        learner = stage.student or student
        watch = Watch(run, number, stage, learner, stage.rounds(steps) if steps else 0)
        taken_up = None
        if left is not None:
            watch.step, watch.progress, taken_up = left.step, left.progress, left.taken_up
        if left is None or not watch.finished:
            data = run.examples(stage) if stage.source is None else stage.source
        if left is None:
            if stage.student is not None:
                copy_encoder(student, stage.student)
            if stage.before is not None:
                stage.before(learner, run.pause(stage, seed))
                watch.progress = Progress(entries=len(run.lines))
                run.save(watch, training=False)
        left = None
        if stage.start_counts and stage.keep_best and steps and watch.progress.top is None:
            watch.score_start()
        if not watch.finished:
            with task(title or f"{recipe.name}: {stage.name}", steps) as advance:
                watch.advance = advance
                advance(watch.step)
                try:
                    agree = several_workers() and checkpoints is not None
                    with heard(), noted() if agree else nullcontext():
                        trainer.train(
                            number,
                            recipe.teacher,
                            data,
                            seed=seed * 1000 + number,
                            callbacks=[watch],
                            steps=steps,
                            gradient_norms=gradient_norms,
                            taken_up=taken_up,
                        )
                except (KeyboardInterrupt, SystemExit):
                    run.interrupted(watch)
                    raise
            run.norms |= {stage.name: trainer.norms} if trainer.norms else {}
        if steps:
            watch.restore()
            if stage.student is not None:
                copy_encoder(stage.student, student)
    result.gradient_norms, result.projections = run.norms, trainer.projections
    result.scores = {"dev": watch.progress.scores or run.dev_scores(student)}
    if score_test:
        scores, result.test_logits = run.test_scores(student)
        result.scores |= scores
    for name, small in (recipe.cut(student) if recipe.cut is not None else {}).items():
        scores = {"dev": run.dev_scores(small)} | (run.test_scores(small)[0] if score_test else {})
        result.cut[name] = Cut(small, scores)
        run.log(cut=name, parameters=small.count_params(), **{f"dev_{k}": v for k, v in scores["dev"].items()})
    if result.cut:
        first = next(iter(result.cut.values()))
        result.student, result.scores = first.student, first.scores
    result.seconds = run.seconds
    return result
