"""Patient knowledge distillation (Sun, Cheng, Gan and Liu 2019, "Patient Knowledge Distillation for BERT Model Compression").

    (1 - α)·CE(y, σ(z_s)) + α·T²·KL(σ(z_t/T) ‖ σ(z_s/T)) + β·Σ_layers ‖ h_s/‖h_s‖ - h_t/‖h_t‖ ‖²

h is the [CLS] state. The student's layers 1..M-1 learn from every (N/M)-th layer of the teacher ("skip") or from the layers
below its last ("last"). The student starts as the teacher's first M layers. All terms are means over the examples; the
authors' code also takes a mean over layers and features in the third term, so its β is not comparable. A student with
another hidden size has a linear projection. Grids of the paper: T {5, 10, 20}, α {.2, .5, .7}, β {10, 100, 500, 1000},
learning rate {5e-5, 2e-5, 1e-5}.

Idea:      the student's [CLS] state follows the teacher's, layer by layer
Command:   tfdistill train pkd --teacher TEACHER --data tfds:glue/mrpc --out RUN --set num_layers=6
Published: test, 6 of 12 layers: SST-2 92.0, MRPC 85.0, QQP 70.7, MNLI 81.5/81.0, QNLI 89.0, RTE 65.5; 3 layers: MRPC 80.7.
Cost:      a teacher forward in each step, next to the student's forward and backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tfdistill.data.dataset import Data
from tfdistill.distill import losses, mapping
from tfdistill.distill.match import Match
from tfdistill.recipes._students import StudentSettings, make_student
from tfdistill.training.recipe import Recipe
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Settings(StudentSettings):
    epochs: float = Field(4, gt=0, description="passes over the training examples")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate")
    num_layers: int | None = Field(
        None, ge=2, description="M; half the teacher's layers by default (paper: 6 and 3 of 12)"
    )
    mapping: Literal["skip", "last"] = Field("skip", description="which layers of the teacher")
    temperature: float = Field(10.0, gt=0, description="T")
    alpha: float = Field(0.5, ge=0, le=1, description="α, the share of the soft targets")
    beta: float = Field(100.0, ge=0, description="β, weight of the [CLS] states")
    max_length: int = Field(128, ge=5, le=512, description="tokens of an example")


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    first = range(1, (settings.num_layers or max(2, teacher.num_layers // 2)) + 1)
    student = make_student(teacher, settings.student, layers=first)
    pairs = {"skip": mapping.patient_skip, "last": mapping.patient_last}[settings.mapping]
    same_width = student.width("hidden_states") == teacher.width("hidden_states")
    patient = Match(
        losses.patient,
        on="hidden_states",
        layers=pairs(student.num_layers, teacher.num_layers),
        project=None if same_width else "fit",
        weight=settings.beta,
    )
    terms = (*soft_and_hard_terms(data.task, settings.alpha, settings.temperature), patient)
    stage = settings.stage("patient", terms)
    return settings.recipe(
        "pkd",
        teacher=teacher,
        student=student,
        data=data,
        stages=(stage,),
    )
