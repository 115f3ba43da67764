"""Settings of recipes: typed fields with descriptions, which `--set key=value` changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from tfdistill.augment.tang import augment_split
from tfdistill.distill.step import Term
from tfdistill.errors import UserError, nearest
from tfdistill.models.training_record import DEFAULT_LENGTH, trained_length
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage

_SHORTEST, LONGEST = 5, 512  # tokens of an example


class Group(BaseModel):
    """Hold settings that belong together: `--set group.key=value` sets one of them.

    An optional group is `None` until one of its settings is set; `--set group=true` takes its defaults and
    `--set group=none` removes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _true_means_defaults(cls, value: Any) -> Any:
        return {} if value is True or value == "true" else value


class Settings(Group):
    """Declare the settings that every recipe has. Recipes add fields and change the defaults."""

    epochs: float = Field(3, gt=0, description="passes over the training examples")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(32, ge=1, description="examples in a step")
    max_length: int = Field(
        DEFAULT_LENGTH,
        ge=_SHORTEST,
        le=LONGEST,
        description="tokens of an example, [CLS] and [SEP] included; by default the number that the teacher was trained with",
    )
    evaluations: int = Field(4, ge=1, description="evaluations on the dev split; the best student is kept")
    copies: int = Field(0, ge=0, description="augmented copies of each training text")
    weight_decay: float | None = Field(
        None,
        ge=0,
        description="decoupled weight decay: 0.01 with AdamW and LAMB, as in BERT, else 0; never of biases, norms and tables",
    )

    def for_debug(self) -> Self:
        """Return these settings with so little input that every stage runs in seconds."""
        return self

    def like(self, *teachers: Any) -> Self:
        """Return these settings with the length that the teachers were trained with, the longest of several.

        A length that was set stays, and so does the default if no teacher's is known.
        """
        known = [length for length in map(trained_length, teachers) if length is not None]
        length = min(max(known, default=0), LONGEST)
        if length < _SHORTEST or "max_length" in self.model_fields_set:
            return self
        return self.model_copy(update={"max_length": length})

    def stage(self, name: str, terms: tuple[Term, ...], **other: Any) -> Stage:
        """Return a stage with the epochs, learning rate, batch size, evaluations and weight decay of these settings.

        If a term reads the teacher, which needs no labels, the stage trains on unlabelled examples too; terms on labels
        skip these. `other` values replace those of the settings.
        """
        names = ("epochs", "learning_rate", "batch_size", "evaluations", "weight_decay")
        own = {key: getattr(self, key) for key in names}
        own["rows"] = "all" if any(term.teacher_features for term in terms) else "labelled"
        return Stage(name, terms, **{**own, **other})

    def recipe(self, name: str, **parts: Any) -> Recipe:
        """Return a `Recipe` of `parts`, with the length and the augmentation (masks and n-grams) of these settings."""
        own = {
            "augment": augment_split(self.copies) if self.copies else None,
            "max_length": self.max_length,
            "settings": self.model_dump(),
        }
        return Recipe(name, **{**own, **parts})


S = TypeVar("S", bound=BaseModel)


def group_of(info: FieldInfo) -> type[Group] | None:
    """Return the class of a field that is a group of settings, else `None`."""
    types = (info.annotation, *get_args(info.annotation))
    return next((each for each in types if isinstance(each, type) and issubclass(each, Group)), None)


def described(cls: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, default, description) of each setting; the settings of a group follow it as "group.key"."""
    for key, info in cls.model_fields.items():
        group = group_of(info)
        default = "" if info.is_required() else str(info.default) if group is None else "none"
        if group is not None and info.default is not None:
            default = "defaults"
        yield f"{prefix}{key}", default, info.description or ""
        if group is not None:
            yield from described(group, f"{prefix}{key}.")


def parse_settings(cls: type[S], assignments: Sequence[str]) -> S:
    """Return settings of `cls` from `key=value` and `group.key=value` texts; the value "none" means `None`.

    Raises:
        UserError: an unknown key (the message names the nearest one), or a value that does not fit.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign:
            raise UserError(f"--set {assignment}: `=` is missing. Give key=value, for instance --set epochs=3.")
        place, fields, names = values, cls.model_fields, key.split(".")
        for depth, name in enumerate(names):
            group = group_of(fields[name]) if name in fields else None
            if name not in fields or (group is None and depth < len(names) - 1):
                known = [each for each, _, _ in described(cls)]
                raise UserError(
                    f"--set {assignment}: there is no setting '{key}'. Choose from {', '.join(known)}{nearest(key, known)}."
                )
            if depth == len(names) - 1:
                if not (value == "true" and isinstance(place.get(name), dict)):
                    place[name] = None if value.lower() == "none" else value
            else:
                assert group is not None
                if not isinstance(place.get(name), dict):
                    place[name] = {}
                place, fields = place[name], group.model_fields
    try:
        return cls(**values)
    except ValidationError as error:
        raise UserError(_explained(error.errors()[0])) from error


def _explained(first: Any) -> str:
    key, message = ".".join(str(part) for part in first["loc"]), first["msg"].removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"--set {key}=... is missing, and the other settings of '{key.rpartition('.')[0]}' need it. Set it too."
    return f"--set {key}={first['input']}: {message}" if key else message
