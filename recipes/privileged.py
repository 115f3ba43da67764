"""Generalized distillation (Lopez-Paz, Bottou, Schölkopf and Vapnik 2016, "Unifying distillation and privileged information").

    (1 - λ)·CE(y, σ(f_s(x))) + λ·CE(σ(f_t(x*)/T), σ(f_s(x)))

The teacher reads x*: the text and the columns text_extra…, which are known at training time only. The student and the
exported file read the text alone. As in the paper, the student's logits are not divided by T and there is no T². The second
term is a mean over all examples, the first over the labelled ones; examples of the split "unlabelled", which need the extra
columns too, train the soft term only. The paper tries T in {1, 2, 5, 10, 20, 50} and λ from 0 to 1.

Idea:      a teacher that sees more than the student ever will
Command:   tfdistill finetune hf:DIR --data DATA --set privileged=true --out TEACHER
           tfdistill train privileged --teacher TEACHER --data DATA --out RUN --set temperature=5
Published: none on text (the paper has synthetic data, MNIST, CIFAR-10 and SARCOS).
Cost:      one teacher forward over the training texts; then as soft_targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tfdistill.data.text_data import TextData
from tfdistill.distill.label_terms import HardLabels
from tfdistill.models.training_record import trained_length
from tfdistill.recipes._students import StudentSettings, make_student
from tfdistill.training.recipe import Recipe
from tfdistill.training.soft_terms import cross_entropy_term
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Settings(StudentSettings):
    temperature: float = Field(2.0, gt=0, description="T, of the teacher alone")
    soft_weight: float = Field(0.5, ge=0, le=1, description="λ, the share of the soft targets")
    teacher_max_length: int | None = Field(
        None,
        ge=5,
        le=512,
        description="tokens that the teacher reads; by default the length it was fine-tuned with",
    )


@with_teacher
def recipe(teacher: TextModel, data: TextData, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    soft = cross_entropy_term(data.task, settings.temperature, settings.soft_weight, student_temperature=1.0)
    terms = (soft, HardLabels(task=data.task, weight=1 - settings.soft_weight))
    stage = settings.stage("generalized distillation", tuple(t for t in terms if t.weight))
    return settings.recipe(
        "privileged",
        teacher=teacher,
        student=make_student(teacher, settings.student, settings.num_layers),
        data=data,
        stages=(stage,),
        privileged=True,
        teacher_max_length=settings.teacher_max_length or trained_length(teacher) or settings.max_length,
    )
