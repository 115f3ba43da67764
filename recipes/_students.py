"""Make the student that a setting names, with its projections and its layer pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tfdistill.distill.mapping import Pairs, bottom, explicit, top, uniform
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.load import load
from tfdistill.models.names import kept_directory
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.checkpoint import PROJECTIONS, groups_of
from tfdistill.training.settings import Settings

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

STUDENT = "'layers' (cut from the teacher), a preset, hf:DIR (such as a generally distilled student) or hf:ORG/NAME"


class StudentSettings(Settings):
    """Declare the settings of recipes whose student may be cut from the teacher."""

    student: str = Field("layers", description=STUDENT)
    num_layers: int | None = Field(
        None, ge=1, description="layers of the student, for student=layers; half the teacher's by default"
    )

    @model_validator(mode="after")
    def _num_layers_of_the_teacher(self) -> Self:
        if "num_layers" in self.model_fields_set and self.student != "layers":
            raise ValueError(f"num_layers is only for student=layers. Remove it, or remove student={self.student}")
        return self

    @property
    def matches_layers(self) -> bool:
        """Return whether each layer of the student learns from one of the teacher's."""
        return False

    def like(self, *teachers: Any) -> Self:
        """Return these settings with the teachers' length. Raises UserError if the first teacher has too few layers."""
        most = _layers_of(teachers[0]) if teachers else None
        if most is not None:
            self._require_layers(most)
        return super().like(*teachers)

    def _require_layers(self, most: int) -> None:
        has = f"the teacher has {most} layer{'s' if most > 1 else ''}"
        if self.student == "layers" and (self.num_layers or 1) > most:
            raise UserError(f"num_layers={self.num_layers}: {has}. Set num_layers to at most {most}.")
        sizes = presets.PRESETS.get(self.student)
        layers = getattr(sizes, "num_hidden_layers", 0)
        if self.matches_layers and layers > most:
            raise UserError(
                f"student={self.student} has {layers} layers, {has}, and each layer of the student learns from one of the "
                f"teacher's. Use --set student=layers --set num_layers={max(1, most // 2)}, or a deeper teacher."
            )


def _layers_of(teacher: Any) -> int | None:
    try:
        return int(teacher.num_layers)
    except UserError:
        return None  # a teacher that is not one of our networks


def make_student(
    teacher: TextModel | AnswersTeacher,
    choice: str,
    num_layers: int | None = None,
    layers: Sequence[int] | None = None,
    dropout: float | None = None,
    **sizes: Any,
) -> TextModel:
    """Return the student that a setting names, with the teacher's task and classes.

    Args:
        choice: "layers", "hf:DIR" or a preset.
        num_layers: number of the teacher's layers, for "layers"; half of them by default.
        layers: numbers of the teacher's layers, instead of `num_layers`.
        dropout: replaces all rates of the teacher's or the preset's config.
        sizes: changes to a preset's config.

    Raises:
        UserError: an unknown preset, no such directory, a directory with another vocabulary, or `dropout` for a directory.
    """
    model: Any = teacher  # a file of answers raises an error where a network is needed
    if choice == "layers":
        if layers is None and num_layers is None:
            num_layers = max(1, teacher.num_layers // 2)
        return presets.student_from_layers(model, None if layers is not None else num_layers, layers, dropout=dropout)
    if choice.startswith("hf:"):
        if dropout is not None:
            raise UserError(
                f"dropout={dropout:g} cannot be set for student={choice}: its config.json has it. Remove dropout."
            )
        return load(
            choice,
            num_outputs=teacher.num_outputs,
            task=teacher.task,
            label_names=teacher.label_names,
            new_head=True,
        )
    return presets.student(choice, like=model, tokenizer=teacher.student_tokenizer, dropout=dropout, **sizes)


def read_projections(student: str) -> dict[str, list[np.ndarray]]:
    """Return the projections of the run that made the student hf:DIR, by their keys; empty if it has none.

    Raises:
        UserError: the file is damaged.
    """
    directory = kept_directory(student)
    if directory is None or not (directory / PROJECTIONS).is_file():
        return {}
    path = directory / PROJECTIONS
    try:
        return groups_of(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}). Delete it to start with new projections.") from error


def layer_pairs(mapping: str, student: int, teacher: int) -> Pairs:
    """Return the layer pairs of a mapping: "uniform", "top", "bottom", or student:teacher pairs such as "1:2,2:4".

    Raises:
        UserError: another mapping, or layers that the models do not have.
    """
    named = {"uniform": uniform, "top": top, "bottom": bottom}
    if mapping in named:
        return named[mapping](student, teacher)
    try:
        pairs = [tuple(int(n) for n in pair.split(":")) for pair in mapping.split(",")]
        return explicit([(s, t) for s, t in pairs], student, teacher)
    except ValueError as error:
        raise UserError(f"mapping is '{mapping}'. Choose {', '.join(named)}, or pairs such as 1:2,2:4.") from error
