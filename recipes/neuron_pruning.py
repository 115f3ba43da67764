"""Neuron pruning (Molchanov et al. 2017, "Pruning Convolutional Neural Networks for Resource Efficient Inference", on BERT's layers).

    importance of a neuron = Σ over its weights of E|w·∂L/∂w|   (first-order Taylor), or Σ|w| (magnitude)

L is the mean loss of a batch of `batch_size` examples and E the mean over batches, so gradients of opposite sign cancel within a
batch; `batch_size=1` is the formula example by example.

Between parts of the fine-tuning the least important neurons are removed, in equal steps down to the target: queries and keys
in pairs, values with the rows of the attention output that read them, feed-forward layers, the pooler. Pruned neurons are
zeros without a gradient and are cut out of the shapes at the end. `hidden` narrows the residual stream, into which attention
output, feed-forward output and embeddings all write, so their neurons are removed together; because LayerNorm runs over it,
zeros would not be equal to this cut, which is made once before the training. With only `intermediate` below 1 the student is
a BERT that transformers reads; otherwise its model_type is tfdistill_pruned_bert.

Idea:      neurons whose weights matter least are cut out, step by step while training goes on
Command:   tfdistill train neuron_pruning --teacher TEACHER --data demo:movie-snippets --out RUN --set intermediate=0.25
Published: none on these tasks that this library could check.
Cost:      fine-tuning of a model of the teacher's size, and a forward and backward over `importance_rows` for each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tfdistill.compress.neurons import Widths, neuron_importance, prune_neurons
from tfdistill.compress.structured import sizes_of
from tfdistill.data.batching import dataset, some_rows
from tfdistill.data.dataset import Data
from tfdistill.recipes._pruning import (
    PruneNeurons,
    PruningSettings,
    compacted,
    scaled,
    shares,
    task_loss,
    whole_student,
)
from tfdistill.training.recipe import Recipe
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Settings(PruningSettings):
    intermediate: float = Field(0.5, gt=0, le=1, description="share of the feed-forward neurons that stays")
    query_key: float = Field(1.0, gt=0, le=1, description="share of each head's query and key neurons that stays")
    value: float = Field(1.0, gt=0, le=1, description="share of each head's value neurons that stays")
    pooler: float = Field(1.0, gt=0, le=1, description="share of the pooler's neurons that stays")
    hidden: float = Field(
        1.0, gt=0, le=1, description="share of the residual width that stays; cut before the training"
    )
    multiple: int = Field(8, ge=1, description="widths are rounded to multiples of this, which kernels like")
    steps: int = Field(4, ge=1, description="pruning steps; the epochs are divided among them")
    measure: Literal["taylor", "magnitude"] = Field("taylor", description="what importance is")
    importance_rows: int | None = Field(1000, ge=1, description="training rows for each importance; none takes all")
    soft_weight: float = Field(0.5, ge=0, le=1, description="share of the teacher's soft targets; the rest is labels")


def _widths(model: TextModel, settings: Settings) -> list[Widths]:
    """Return the widths after each step, computed from the first layer's; a kind that keeps all is `None`."""
    first, pooler = sizes_of(model).layer_shape(1), model.encoder.pooler
    sizes = {"intermediate": first.intermediate, "query_key": first.query_key, "value": first.value}
    sizes |= {} if pooler is None else {"pooler": pooler.units}
    widths = []
    for step in range(settings.steps):
        targets = {
            name: scaled(size, shares(settings.steps, getattr(settings, name))[step], settings.multiple)
            for name, size in sizes.items()
            if getattr(settings, name) < 1
        }
        widths.append(Widths(**targets))
    return widths


def _narrowed(student: TextModel, data: Data, settings: Settings) -> TextModel:
    """Return the student with a narrower residual stream."""
    split = data.splits["train"]
    split = split.take(some_rows(len(split), settings.importance_rows))
    rows = data.encode(split, student.tokenizer, settings.max_length)
    batches = dataset(rows.examples, settings.batch_size, shuffle=False)
    importance = neuron_importance(student, batches, task_loss(data.task), settings.measure)
    width = scaled(student.config.hidden_size, settings.hidden, settings.multiple)
    return prune_neurons(student, importance, Widths(hidden=width))


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    student = whole_student(teacher, settings)
    if settings.hidden < 1:
        student = _narrowed(student, data, settings)
    stages = [
        settings.stage(
            f"prune neurons, step {number}",
            settings.terms(data.task),
            before=PruneNeurons(data.task, widths, settings.measure, settings.importance_rows, settings.batch_size),
            epochs=settings.epochs / settings.steps,
            evaluations=max(1, settings.evaluations // settings.steps),
        )
        for number, widths in enumerate(_widths(student, settings), 1)
    ]
    return settings.recipe(
        "neuron_pruning",
        teacher=teacher,
        student=student,
        data=data,
        stages=tuple(stages),
        cut=compacted,
    )
