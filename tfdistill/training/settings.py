"""Settings of recipes, which --set changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tfdistill.augment.tang import augment_split
from tfdistill.distill.step import Term
from tfdistill.errors import UserError, nearest
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage


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


S = TypeVar("S", bound=BaseModel)


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
