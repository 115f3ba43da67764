"""`Recipe`: student, teacher, data and stages of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.data.dataset import Data
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.models.limits import check_ids
from tfdistill.models.predict import require_fit
from tfdistill.training.answers import AnswersTeacher, check_answers
from tfdistill.training.execution import Execution
from tfdistill.training.stage import Stage
from tfdistill.training.teachers import teacher_for

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

FINETUNE_FIRST = "Use a teacher that was fine-tuned on this data (tfdistill finetune)."
_DEBUG_EXAMPLES = 64  # of each split


@dataclass(frozen=True)
class Recipe:
    """Everything a run needs. The `recipe` function of a module in `recipes/` makes it.

    Args:
        name: name of the recipe.
        student: model with its tokenizer.
        data: splits "train" and "dev", perhaps "test" and "unlabelled"; None if all stages bring data of their own.
        stages: in the order they run.
        teacher: model with its tokenizer, or a file of answers; None trains on labels alone.
        augment: makes new training texts of the train split: (split, seed) -> new examples, with the labels of their sources.
        max_length: tokens of an example that the student reads.
        settings: what the recipe was made with, for run.json.
        privileged: the teacher reads the extra columns of the data, which the student never reads.
        other_teachers: their logits are averaged with the teacher's; other features are the first teacher's.
        teacher_weights: one for each teacher, the first included; None weighs them equally.
        cut: makes smaller students of the trained one, by name, as pruning does. The first is the run's student.
        execution: how steps are computed.
        breaks: why the same command may give another student, for run.json; see `tfdistill.system.reproducibility`.
        projections: initial weights of projections, by their keys in `Distiller.projections`; others start at random.
        teacher_max_length: tokens that the teacher of a privileged run reads; None reads as many as the student.
        about: further entries of run.json, which identify the run.
    """

    name: str
    student: TextModel
    data: Data | None
    stages: tuple[Stage, ...]
    teacher: TextModel | AnswersTeacher | None = None
    augment: Callable[[Split, int], Split] | None = None
    max_length: int = 64
    settings: dict[str, Any] = field(default_factory=dict)
    privileged: bool = False
    other_teachers: tuple[TextModel | AnswersTeacher, ...] = ()
    teacher_weights: tuple[float, ...] | None = None
    cut: Callable[[TextModel], Mapping[str, TextModel]] | None = None
    execution: Execution = field(default_factory=Execution)
    breaks: tuple[str, ...] = ()
    projections: Mapping[str, list[np.ndarray]] = field(default_factory=dict)
    teacher_max_length: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def teacher_length(self) -> int:
        """Return the number of tokens that teachers read."""
        return self.teacher_max_length or self.max_length

    @property
    def teachers(self) -> tuple[TextModel | AnswersTeacher, ...]:
        """Return all teachers, the first one first."""
        return (() if self.teacher is None else (self.teacher,)) + self.other_teachers

    @property
    def teacher_model(self) -> TextModel | None:
        """Return the teacher if it is a model, which can compute more than logits."""
        return None if isinstance(self.teacher, AnswersTeacher) else self.teacher

    def __post_init__(self) -> None:
        others = tuple(teacher_for(teacher, self.data) for teacher in self.other_teachers)
        object.__setattr__(self, "other_teachers", others)
        weights, name = self.teacher_weights, self.name
        if weights is not None and (len(weights) != len(self.teachers) or sum(weights) <= 0):
            raise UserError(
                f"`--teacher-weight` is {', '.join(f'{weight:g}' for weight in weights)} for {len(self.teachers)} teachers. "
                "Give one weight for each teacher, and at least one above 0."
            )
        if self.other_teachers and not any(s.teacher is None and "logits" in s.reads_teacher for s in self.stages):
            raise UserError(
                f"{name} reads no logits with these settings, and only logits of several teachers are averaged. "
                f"Use one `--teacher`, or a setting with soft targets (tfdistill recipes {name})."
            )
        for stage in self.stages:
            self._check_length(stage)
            if self.execution.micro_batches > stage.batch_size:
                raise UserError(
                    f"`--micro-batches {self.execution.micro_batches}`: stage '{stage.name}' has {stage.batch_size} examples "
                    "per step. Use at most that many."
                )
        if self.data is not None:
            self._check_data(self.data)
        check_answers(self)

    def _check_length(self, stage: Stage) -> None:
        """Check the length of the sequences of plain text that a stage reads."""
        length = getattr(stage.source, "length", None)
        if not isinstance(length, int):
            return
        pair = int(bool(getattr(stage.source, "next_sentence", False)))
        teacher = (stage.teacher or self.teacher_model) if stage.reads_teacher else None
        for role, model in (("student", stage.student or self.student), ("teacher", teacher)):
            if model is not None:
                check_ids(model.config, (), [pair], length, role)

    def _check_data(self, data: Data) -> None:
        missing = [split for split in ("train", "dev") if split not in data.splits]
        if missing:
            raise UserError(f"{data.name} has the splits {', '.join(data.splits)}. Add the split '{missing[0]}'.")
        if data.per_token and (self.augment is not None or self.privileged or self.other_teachers):
            raise UserError(
                f"{data.name} has labels of tokens, which augmentation, extra columns and averaged teachers do not support. "
                "Use `--set copies=0`, one `--teacher`, and another recipe than privileged."
            )
        for split in ("train", "unlabelled"):
            if self.privileged and split in data.splits and not data.has_extra(split):
                raise UserError(
                    f"The split '{split}' of {data.name} has no column text_extra for the teacher. Add it, or use soft_targets."
                )
        self._order_outputs(data)
        for role, model in (*(("teacher", model) for model in self.teachers), ("student", self.student)):
            require_fit(model, data, f"The {role}", FINETUNE_FIRST)

    def _order_outputs(self, data: Data) -> None:
        """Put the outputs of all models whose logits are for the classes of the data in the order of these classes."""
        from tfdistill.models.text_model import TextModel

        named = [teacher.label_names for teacher in self.teachers]
        models: list[Any] = list(self.teachers)
        models += [each.teacher for each in self.stages if each.teacher is not None and "logits" in each.reads_teacher]
        students = [self.student, *(each.student for each in self.stages if each.student is not None)]
        for model in (*models, *students):
            known = isinstance(model, TextModel | AnswersTeacher)  # a stage's teacher may be any keras.Model
            if (
                known
                and model.task == data.task
                and (model.num_outputs == data.num_outputs or model.label_names is not None)
            ):
                # The line about the teacher is enough for a student that was made of it.
                made_of_teacher = model in students and model.loaded_from is None and model.label_names in named
                options = {"quiet": True} if made_of_teacher else {}
                model.order_outputs(data.label_names, data.name, **options)


def small(recipe: Recipe) -> Recipe:
    """Return the recipe with a few examples of each split, for `--debug`."""
    return recipe if recipe.data is None else replace(recipe, data=recipe.data.first(_DEBUG_EXAMPLES))
