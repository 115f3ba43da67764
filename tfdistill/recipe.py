"""`Recipe`: teacher, student, data and stages; and the settings that `--set` can change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tfdistill.data.textdata import Split, TextData, nearest
from tfdistill.errors import UserError
from tfdistill.match import HardLabels
from tfdistill.models.text import TextModel
from tfdistill.stages import Stage


class Settings(BaseModel):
    """What every recipe can be told. Recipes add their own fields and change the defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: float = Field(3, gt=0, description="passes over the training rows")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(32, ge=1, description="examples in a step")
    max_length: int = Field(64, ge=5, le=512, description="word pieces of an example, [CLS] and [SEP] included")
    evaluations: int = Field(4, ge=1, description="how often the dev split is scored; the best student is kept")
    copies: int = Field(0, ge=0, description="augmented copies of each training text")


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Recipe:
    """Everything a run needs. Made by the `recipe` function of a module in `recipes/`.

    Args:
        student, teacher: models with their tokenizers; teacher None trains on labels alone.
        data: splits "train" and "dev", perhaps "test".
        stages: in the order they run.
        augment: makes new training texts of the train split: (split, seed) -> (new rows, source row of each). Their labels are
            their sources'.
        max_length: word pieces.
        settings: what the recipe was made with, for run.json.
    """

    name: str
    student: TextModel
    data: TextData
    stages: tuple[Stage, ...]
    teacher: TextModel | None = None
    augment: Callable[[Split, int], Split] | None = None
    max_length: int = 64
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for split in ("train", "dev"):
            if split not in self.data.splits:
                raise UserError(
                    f"{self.data.name} has the splits {', '.join(self.data.splits)}; expected also '{split}'"
                )
        for role, model in (("student", self.student), ("teacher", self.teacher)):
            if model is None:
                continue
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
    """The undistilled baseline of `recipe`: same student, steps, augmented texts and schedule, hard labels only."""
    term = (HardLabels(task=recipe.data.task),)
    return replace(
        recipe,
        name=f"{recipe.name} on labels",
        teacher=None,
        stages=tuple(replace(s, terms=term) for s in recipe.stages),
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
                f"--set {assignment}: unknown setting '{key}'{nearest(key, fields)} Settings: {', '.join(fields)}"
            )
        values[key] = None if value.lower() == "none" else value
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"--set {key}={values.get(key)}: {first['msg']}") from error
