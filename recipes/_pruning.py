"""Share code between the pruning recipes: settings, the loss behind importance, and pruning between stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tfdistill.compress.heads import head_importance, named, prune_while_good
from tfdistill.compress.neurons import Widths, neuron_importance, zero_neurons
from tfdistill.compress.structured import compact, sizes_of
from tfdistill.distill.features import Features
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.step import Step, Term
from tfdistill.errors import UserError
from tfdistill.recipes._students import make_student
from tfdistill.training.settings import Settings
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.stage import Pause

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

STUDENT = "'layers' (a copy of the teacher) or hf:DIR: the model to prune"


class PruningSettings(Settings):
    """Declare the settings of the three pruning recipes."""

    student: str = Field("layers", description=STUDENT)
    soft_weight: float = Field(0.0, ge=0, le=1, description="share of the teacher's soft targets; the rest is labels")
    temperature: float = Field(2.0, gt=0, description="T of the soft targets")

    def terms(self, task: str) -> tuple[Term, ...]:
        """Return the terms on labels, on soft targets, or both."""
        return soft_and_hard_terms(task, self.soft_weight, self.temperature)


def whole_student(teacher: TextModel, settings: PruningSettings) -> TextModel:
    """Return the model to prune: all layers of the teacher, or the model that the settings name.

    Raises:
        UserError: the model's layers cannot be cut.
    """
    layers = range(1, teacher.num_layers + 1) if settings.student == "layers" else None
    student = make_student(teacher, settings.student, layers=layers)
    sizes_of(student)
    return student


def task_loss(task: str) -> Callable[[Any, Any], Any]:
    """Return the loss on labels, (logits, labels) -> (B,), whose gradient is the importance."""
    term = HardLabels(task=task)

    def loss(logits: Any, labels: Any) -> Any:
        value = term(Step(Features(logits=logits), labels=labels))
        return value[0] if isinstance(value, tuple) else value

    return loss


def compacted(student: TextModel) -> Mapping[str, TextModel]:
    """Return the student without the parts that were set to zero, for `Recipe.cut`."""
    return {"pruned": compact(student)}


def integers(name: str, text: str) -> list[int]:
    """Return the numbers in a setting such as "4,3,2".

    Raises:
        UserError: `text` is something else.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UserError(f"{name} is '{text}'. Give numbers separated by commas, such as 4,3,2.") from error


def scaled(size: int, share: float, multiple: int) -> int:
    """Return `share` of `size`, rounded to a positive multiple of `multiple` if `size` is a multiple.

    >>> scaled(1536, 0.3, 8), scaled(6, 0.5, 8)
    (464, 3)
    """
    unit = multiple if size % multiple == 0 else 1
    return min(size, max(1, round(share * size / unit)) * unit)


@dataclass(frozen=True)
class PruneHeads:
    """Set the least important heads to zero before a stage, while the dev score stays good enough."""

    task: str
    share: float
    step: float
    at_least: int
    recompute: bool
    rows: int | None
    batch_size: int

    def __call__(self, student: TextModel, pause: Pause) -> None:
        batches = pause.batches(self.rows, self.batch_size)
        steps = prune_while_good(
            student,
            lambda model: head_importance(model, batches, task_loss(self.task)),
            pause.score,
            share=self.share,
            step=self.step,
            at_least=self.at_least,
            recompute=self.recompute,
        )
        enough = self.share * steps[0].score
        for each in steps:
            heads = {str(layer): of for layer, of in named(each.removed).items()}
            pause.log(heads_removed=len(each.removed), dev_score=each.score, kept=each.score >= enough, heads=heads)


@dataclass(frozen=True)
class PruneNeurons:
    """Set the least important neurons to zero before a stage, down to `widths`."""

    task: str
    widths: Widths
    measure: Literal["taylor", "magnitude"]
    rows: int | None
    batch_size: int

    def __call__(self, student: TextModel, pause: Pause) -> None:
        batches: Any = pause.batches(self.rows, self.batch_size) if self.measure == "taylor" else ()
        zero_neurons(student, neuron_importance(student, batches, task_loss(self.task), self.measure), self.widths)
        pause.log(dev_score=pause.score(student), widths=vars(self.widths))


def shares(steps: int, target: float) -> Sequence[float]:
    """Return the remaining share after each of `steps` equal steps from 1 to `target`.

    >>> shares(4, 0.5)
    [0.875, 0.75, 0.625, 0.5]
    """
    return [1 - (1 - target) * n / steps for n in range(1, steps + 1)]
