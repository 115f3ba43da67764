"""`Recipe`: teacher, student, data and stages; and the settings that `--set` can change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfdistill.data.dataset import Data
from tfdistill.data.splits import PER_TOKEN, Split
from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel
from tfdistill.training.execution import Execution
from tfdistill.training.stage import Stage


@dataclass(frozen=True)
class Recipe:
    """Everything a run needs. Made by the `recipe` function of a module in `recipes/`.

    Args:
        student, teacher: models with their tokenizers; teacher None trains on labels alone.
        data: splits "train" and "dev", perhaps "test".
        stages: in the order they run.
        augment: makes new training texts of the train split: (split, seed) -> new rows. Their labels are their sources'.
        max_length: word pieces.
        teacher_max_length: those that the teacher of a privileged run reads; None reads as many as the student.
        settings: what the recipe was made with, for run.json.
        privileged: the teacher reads the extra columns of the data, which the student never sees.
        other_teachers: their logits are averaged with the teacher's; other features are the first teacher's.
        teacher_weights: one for each teacher, the first included; None weighs them alike.
        execution: how steps are computed.
        breaks: why the same command may give another student, for run.json; see `tfdistill.system.reproducibility`.
        projections: what the maps between widths start from, by their keys in `Distiller.projections`; others start at random.
        cut: makes smaller students of the trained one, by name, as pruning does. The first is the run's student.
    """

    name: str
    student: TextModel
    data: Data
    stages: tuple[Stage, ...]
    teacher: TextModel | None = None
    augment: Callable[[Split, int], Split] | None = None
    max_length: int = 64
    settings: dict[str, Any] = field(default_factory=dict)
    privileged: bool = False
    other_teachers: tuple[TextModel, ...] = ()
    teacher_weights: tuple[float, ...] | None = None
    cut: Callable[[TextModel], Mapping[str, TextModel]] | None = None
    execution: Execution = field(default_factory=Execution)
    breaks: tuple[str, ...] = ()
    projections: Mapping[str, list[np.ndarray]] = field(default_factory=dict)
    teacher_max_length: int | None = None

    @property
    def teacher_length(self) -> int:
        """Word pieces that teachers read."""
        return self.teacher_max_length or self.max_length

    @property
    def teachers(self) -> tuple[TextModel, ...]:
        return (() if self.teacher is None else (self.teacher,)) + self.other_teachers

    def __post_init__(self) -> None:
        for split in ("train", "dev"):
            if split not in self.data.splits:
                raise UserError(
                    f"{self.data.name} has the splits {', '.join(self.data.splits)}; expected also '{split}'"
                )
        if self.teacher_weights is not None and len(self.teacher_weights) != len(self.teachers):
            raise UserError(
                f"{len(self.teacher_weights)} teacher weights for {len(self.teachers)} teachers; give one for each"
            )
        if self.teacher_weights is not None and sum(self.teacher_weights) <= 0:
            raise UserError("the weights of the teachers are all 0; give at least one of them some")
        if self.other_teachers and not any(s.teacher is None and "logits" in s.reads_teacher for s in self.stages):
            raise UserError(
                f"{len(self.teachers)} teachers for {self.name}, which reads no teacher's logits with these settings, and nothing "
                f"else is averaged; expected one teacher, or a setting that brings soft targets (tfdistill recipes {self.name})"
            )
        if self.data.task in PER_TOKEN and (self.augment is not None or self.privileged or self.other_teachers):
            raise UserError(
                f"{self.data.name} has tags or answers of single words, which augmented texts, extra columns and averaged "
                "teachers do not have; expected --set copies=0, another recipe than privileged, one teacher"
            )
        if self.privileged and not getattr(self.data.splits["train"], "texts_extra", ()):
            raise UserError(f"{self.data.name} has no column text_extra for the teacher; add it, or use soft_targets")
        unlabelled = self.data.splits.get("unlabelled")
        if self.privileged and unlabelled is not None and not getattr(unlabelled, "texts_extra", ()):
            raise UserError(
                f"the unlabelled rows of {self.data.name} have no column text_extra, without which the teacher cannot say anything of "
                "them; add it, or leave these rows out"
            )
        for stage in self.stages:
            if self.execution.micro_batches > stage.batch_size:
                raise UserError(
                    f"--micro-batches {self.execution.micro_batches}: the stage '{stage.name}' has {stage.batch_size} rows in a step; "
                    "expected as many parts at most"
                )
        for role, model in (("student", self.student), *(("teacher", model) for model in self.teachers)):
            if model.task != self.data.task:
                raise UserError(
                    f"the {role} is a {model.task} model, {self.data.name} a {self.data.task} task; use data of its kind"
                )
            if model.num_outputs != self.data.num_outputs:
                raise UserError(
                    f"the {role} has {model.num_outputs} classes, {self.data.name} has {self.data.num_outputs}; "
                    "use the data it was fine-tuned on, or fine-tune a teacher on this data (tfdistill finetune)"
                )
