"""Soft targets (Hinton, Vinyals and Dean 2015, "Distilling the Knowledge in a Neural Network", sections 2 and 3).

    (1 - λ)·CE(y, σ(z_s)) + λ·T²·KL(σ(z_t/T) ‖ σ(z_s/T))

The student has some of the teacher's layers and starts from their weights. Multi-label heads take binary cross-entropy,
regression the squared distance of the outputs. Unlabelled examples (a split "unlabelled") train the soft term only.
`pretrain_on_soft_targets` trains on soft targets first and then on hard labels, instead of mixing them. `labelled` adds a
first stage on a corpus of unlabelled texts with stored teacher logits, for more text than a data set holds. `hidden_weight`
adds the squared distance of the hidden states of the matched layers (TinyBERT's equation 8, without projections).

Idea:      the student learns the teacher's softened class probabilities
Command:   tfdistill train soft_targets --teacher TEACHER --data demo:movie-snippets --out RUN
Published: speech recognition and MNIST only; this library's own numbers are in docs/results.md.
Cost:      one teacher forward over the training texts, then half the teacher's cost a step for half its layers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from tfdistill.corpora.labelled_texts import LabelledTexts
from tfdistill.data.dataset import Data
from tfdistill.distill import losses, mapping
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.recipes._students import StudentSettings, make_student
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import Group
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Labelled(Group):
    """Declare a stage on unlabelled texts whose teacher logits are stored."""

    corpus: str = Field(description="directory that `tfdistill corpus --rows --teacher` made")
    epochs: float = Field(1, gt=0, description="passes over the corpus")


class Settings(StudentSettings):
    num_layers: int = Field(3, ge=1, description="layers of the student, taken evenly from the teacher's")
    dropout: float | None = Field(
        None, ge=0, lt=1, description="dropout of the student; the teacher's or preset's by default"
    )
    temperature: float = Field(2.0, gt=0, description="T")
    soft_weight: float = Field(0.5, ge=0, le=1, description="λ, the share of the soft targets")
    pretrain_on_soft_targets: bool = Field(False, description="soft targets first, then as many epochs of hard labels")
    labelled: Labelled | None = Field(None, description="a first stage on a corpus with the teacher's logits")
    hidden_weight: float = Field(0.0, ge=0, description="weight of the hidden-state loss; 0 is the paper's method")

    @property
    def matches_layers(self) -> bool:
        return self.hidden_weight > 0


@with_teacher
def recipe(teacher: TextModel | AnswersTeacher, data: Data, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    student = make_student(teacher, settings.student, settings.num_layers, dropout=settings.dropout)
    first = settings.pretrain_on_soft_targets
    terms = soft_and_hard_terms(data.task, 1.0 if first else settings.soft_weight, settings.temperature)
    if settings.hidden_weight:
        layers = mapping.uniform(student.num_layers, teacher.num_layers)
        terms += (Match(losses.hidden_mse, on="hidden_states", layers=layers, weight=settings.hidden_weight),)
    stages = []
    if settings.labelled is not None:
        texts = LabelledTexts(
            Path(settings.labelled.corpus),
            student.tokenizer,
            student.num_outputs,
            teacher=teacher,
            label_names=data.label_names,
        )
        soft = soft_and_hard_terms(data.task, 1.0, settings.temperature)
        stages.append(settings.stage("labelled texts", soft, source=texts, epochs=settings.labelled.epochs))
    stages.append(settings.stage("soft targets", terms))
    if first:
        stages.append(settings.stage("hard labels", (HardLabels(task=data.task),)))
    return settings.recipe(
        "soft_targets",
        teacher=teacher,
        student=student,
        data=data,
        stages=tuple(stages),
    )
