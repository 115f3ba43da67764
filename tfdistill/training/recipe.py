"""`Recipe`: teacher, student, data and stages; and the settings that `--set` can change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tfdistill.distill import losses
from tfdistill.augment.tang import augment_split
from tfdistill.data.dataset import Data
from tfdistill.data.splits import PER_TOKEN, Split, nearest
from tfdistill.errors import UserError
from tfdistill.training.execution import Execution
from tfdistill.distill.match import HardLabels, Match, Term
from tfdistill.models.text_model import TextModel
from tfdistill.training.trainer import Stage


class Settings(BaseModel):
    """What every recipe can be told. Recipes add their own fields and change the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(3, gt=0, description="passes over the training rows")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(32, ge=1, description="examples in a step")
    max_length: int = Field(64, ge=5, le=512, description="word pieces of an example, [CLS] and [SEP] included")
    evaluations: int = Field(4, ge=1, description="how often the dev split is scored; the best student is kept")
    copies: int = Field(0, ge=0, description="augmented copies of each training text")
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="decoupled weight decay; 0.01, as in BERT, with AdamW and LAMB, else 0. Biases, norms and tables have none",
    )

    @model_validator(mode="after")
    def _layers_of_the_teacher(self) -> Self:
        """`num_layers` is not passed over in silence."""
        student = getattr(self, "student", "layers")
        if "num_layers" in self.model_fields_set and student != "layers":
            raise ValueError(
                f"num_layers is for student=layers, and student={student} has its own; leave one of them out"
            )
        return self

    def only_with(self, condition: bool, needed: str, *names: str) -> None:
        """For validators. Raises ValueError where `condition` is not met and some of the settings `names`, which are read only
        with `needed`, were given; none, false and 0 count as left out."""
        given = [name for name in names if name in self.model_fields_set]
        given = [name for name in given if getattr(self, name)]
        if given and not condition:
            does, it = ("does", "it") if len(given) == 1 else ("do", "them")
            raise ValueError(f"{', '.join(given)} {does} nothing here; expected {needed} with {it}, or leave {it} out")

    def for_debug(self) -> Self:
        """These settings with so little of what they read that all stages run in seconds."""
        return self

    def stage(self, name: str, terms: tuple[Term, ...], **other: Any) -> Stage:
        """A stage with the epochs, learning rate, batch size, evaluations and weight decay of these settings, and `other` values.

        It trains on the rows without a label too where a term asks the teacher, which needs none; labels skip these rows.
        """
        names = ("epochs", "learning_rate", "batch_size", "evaluations", "weight_decay")
        own = {key: getattr(self, key) for key in names}
        own["rows"] = "all" if any(term.teacher_features for term in terms) else "labelled"
        return Stage(name, terms, **{**own, **other})

    def recipe(self, name: str, **parts: Any) -> Recipe:
        """A `Recipe` of these `parts`; length and augmentation (masks and n-grams) are those of the settings."""
        own = {
            "augment": augment_split(self.copies) if self.copies else None,
            "max_length": self.max_length,
            "settings": self.model_dump(),
        }
        return Recipe(name, **{**own, **parts})


def soft_term(task: str, temperature: float, weight: float = 1.0) -> Match:
    """The teacher's predictions as targets: T²·KL of classes (for tags at each token, for answers over the positions), T²·BCE of
    multi-label heads, squared error of regression."""
    if task == "regression":
        return Match(losses.logits_mse, weight=weight)
    special = {"multilabel": losses.soft_binary_cross_entropy, "question_answering": losses.span_kl}
    loss = special.get(task, losses.soft_kl)
    return Match(loss, weight=weight, options={"temperature": temperature})


def cross_entropy_term(
    task: str, temperature: float, weight: float = 1.0, *, student_temperature: float | None = None
) -> Match:
    """As `soft_term` without T²: CE(σ(z_t/T), σ(z_s/T)), or CE(σ(z_t/T), σ(z_s)) with `student_temperature=1`.

    For the positions of an answer it is KL, whose gradient is that of the cross-entropy.
    """
    if task == "regression":
        return Match(losses.logits_mse, weight=weight)
    if task == "question_answering":
        if student_temperature not in (None, temperature):
            raise UserError("generalized distillation knows no question answering; use soft_targets")
        return Match(losses.span_kl, weight=weight / temperature**2, options={"temperature": temperature})
    loss = losses.soft_binary_cross_entropy if task == "multilabel" else losses.soft_cross_entropy
    own = temperature if student_temperature is None else student_temperature
    return Match(loss, weight=weight, options={"temperature": temperature, "student_temperature": own})


def soft_and_hard_terms(task: str, share: float, temperature: float) -> tuple[Term, ...]:
    """share·soft targets + (1 - share)·labels; a term of weight 0 is left out."""
    terms = (soft_term(task, temperature, share), HardLabels(task=task, weight=1 - share))
    return tuple(term for term in terms if term.weight)


S = TypeVar("S", bound=BaseModel)


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


def on_labels_alone(recipe: Recipe) -> Recipe:
    """The undistilled baseline of `recipe`: same student and start, number of steps, texts and batches, hard labels only.

    Stages on plain text keep their terms that read no teacher (masked LM) and are left out if there are none. Stages on the
    recipe's rows become one, which trains whatever any of them trains, at the learning rate of the longest; a stage with
    another batch size stays by itself.
    """
    term = (HardLabels(task=recipe.data.task),)
    on_rows = [stage for stage in recipe.stages if stage.source is None]
    frozen = tuple(part for part in on_rows[0].freeze if all(part in s.freeze for s in on_rows))
    stages: list[Stage] = []
    longest = 0.0
    for stage in recipe.stages:
        if stage.source is not None:
            own = tuple(t for t in stage.terms if not t.teacher_features and not hasattr(t, "on_parameters"))
            stages += [replace(stage, terms=own, teacher=None, train_teacher=False)] if own else []
            continue
        plain = replace(
            stage,
            name="labels",
            terms=term,
            rows="labelled",
            counted=stage.counted or stage.rows,
            freeze=frozen,
            rates={},
            teacher=None,
            train_teacher=False,
            patience=None,
            monitor="score",
            keep_best=True,
        )
        last = stages[-1] if stages else None
        alike = last is not None and (last.batch_size, last.counted) == (plain.batch_size, plain.counted)
        if last is None or last.source is not None or not alike or plain.before is not None:
            stages.append(plain)
            longest = stage.epochs
            continue
        rate = plain.learning_rate if stage.epochs > longest else last.learning_rate
        longest = max(longest, stage.epochs)
        epochs, evaluations = last.epochs + stage.epochs, last.evaluations + stage.evaluations
        stages[-1] = replace(last, epochs=epochs, evaluations=evaluations, learning_rate=rate)
    return replace(
        recipe,
        name=f"{recipe.name} on labels",
        teacher=None,
        other_teachers=(),
        teacher_weights=None,
        privileged=False,
        stages=tuple(stages),
    )


def with_learning_rate(recipe: Recipe, learning_rate: float) -> Recipe:
    """`recipe` with another peak learning rate in every stage."""
    return replace(recipe, stages=tuple(replace(stage, learning_rate=learning_rate) for stage in recipe.stages))


def parse_settings(cls: type[S], assignments: Sequence[str]) -> S:
    """`key=value` texts as settings. Raises UserError for an unknown key (with the nearest) or a value that does not fit."""
    values: dict[str, Any] = {}
    fields = list(cls.model_fields)
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign:
            raise UserError(f"--set {assignment}: expected key=value, for instance --set epochs=3")
        if key not in fields:
            raise UserError(
                f"--set {assignment}: unknown setting '{key}'; expected one of {', '.join(fields)}{nearest(key, fields)}"
            )
        values[key] = None if value.lower() == "none" else value
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key, message = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
        raise UserError(f"--set {key}={values.get(key)}: {message}" if key else message) from error
