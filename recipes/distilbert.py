"""DistilBERT (Sanh, Debut, Chaumond and Wolf 2019, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter").

    general stage: 5·T²·KL(σ(z_t/T) ‖ σ(z_s/T)) + 2·MLM + 1·(1 - cos(H_s, H_t)),  T = 2
    fine-tuning:   (1 - λ)·labels + λ·T²·KL of the fine-tuned teacher, λ = 0 by default

The student starts as every second layer of the pre-trained teacher (1, 3, 5, 8, 10, 12 of 12), without token types and
pooler. The general stage (`general`) reads plain text and a teacher with a masked-LM head. Masking is dynamic: 15 % of the
tokens, rare tokens more often (exponent 0.7). KL and cosine are means over all real tokens. Without a general stage, the
fine-tuned teacher's own layers are fine-tuned, or `student=hf:DIR`. A step of the general stage is one batch of 250
sequences; the paper accumulates 50 batches of 5.

Idea:      every second layer, three losses on plain text, then ordinary fine-tuning
Command:   tfdistill train distilbert --teacher TEACHER --data tfds:glue/mrpc --out RUN --set general.text=DIR
               --set general.teacher=hf:BERT
Published: dev: CoLA 51.3, MNLI 82.1, MRPC 87.5 (F1), QNLI 89.2, QQP 88.5, RTE 59.9, SST-2 91.3, STS-B 86.9, WNLI 56.3, mean 77.0
           (BERT 79.5); SQuAD 1.1 77.7/85.8, 79.1/86.9 with a second distillation (λ > 0); IMDb 92.82 (BERT 93.46)
Cost:      the general stage: a teacher and a student forward with the output layer over the vocabulary in each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tfdistill.corpora.masking import Masking
from tfdistill.data.dataset import Data
from tfdistill.distill import losses
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.mapping import alternate
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.models.presets import resembling, student_from_layers
from tfdistill.recipes._general_stage import (
    GeneralSettings,
    SegmentedGeneral,
    general_stages_only,
    plain_text,
    pretrained_teacher,
)
from tfdistill.recipes._students import StudentSettings, make_student
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.stage import Stage
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class GeneralStage(SegmentedGeneral):
    """Declare the general stage with the triple loss (section 3)."""

    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(250, ge=1, description="sequences in a step")
    kl_weight: float = Field(5.0, ge=0, description="weight of the soft targets")
    mlm_weight: float = Field(2.0, ge=0, description="weight of the masked LM")
    cosine_weight: float = Field(1.0, ge=0, description="weight of the hidden states")
    kl_on: Literal["all", "masked"] = Field(
        "all", description="tokens whose predictions are compared; masked saves most of the output layer"
    )
    smoothing: float = Field(0.7, ge=0, description="exponent by which rare tokens are masked more often")


class Settings(GeneralSettings, StudentSettings):
    general: GeneralStage | None = Field(None, description="the general stage on plain text")
    initialization: Literal["layers", "random"] = Field(
        "layers", description="student=layers: the teacher's layers, or random weights as in table 4"
    )
    temperature: float = Field(2.0, gt=0, description="T")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the fine-tuning")
    soft_weight: float = Field(
        0.0, ge=0, le=1, description="λ, the share of the fine-tuned teacher's soft targets in the fine-tuning"
    )
    max_length: int = Field(128, ge=5, le=512, description="tokens of an example")


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    """Return the recipe: general stage with the triple loss, then fine-tuning."""
    settings = (settings or Settings()).like(teacher)
    family = None
    if settings.student == "layers":
        family = "distilbert" if teacher.family == "bert" else None
        layers = alternate(settings.num_layers or max(1, teacher.num_layers // 2), teacher.num_layers)
        student = student_from_layers(teacher, layers=layers, family=family)
        student = resembling(student) if settings.initialization == "random" else student
    else:
        student = make_student(teacher, settings.student)
    stages = [] if settings.general is None else [general_stage(student, settings.general, settings, family)]
    terms = soft_and_hard_terms(data.task, settings.soft_weight, settings.temperature)
    stages.append(settings.stage("fine-tuning", terms))
    return settings.recipe(
        "distilbert",
        teacher=teacher,
        student=student,
        data=data,
        stages=general_stages_only(stages) if settings.general_only else tuple(stages),
    )


def general_stage(student: TextModel, general: GeneralStage, settings: Settings, family: str | None) -> Stage:
    """Return the stage on plain text, which trains a language model on the student's encoder."""
    teacher = pretrained_teacher(general, "masked_lm")
    # The general stage starts with the pre-trained teacher's layers, and the fine-tuning with the result.
    if settings.student == "layers" and settings.initialization == "layers":
        layers = alternate(student.num_layers, teacher.num_layers)
        language_model = student_from_layers(teacher, layers=layers, family=family)
        copy_encoder(language_model, student)
    else:
        language_model = resembling(student, "masked_lm")
        copy_encoder(student, language_model)
    masking = Masking(whole_words=general.whole_words, smoothing=general.smoothing)
    return general.stage(
        "general",
        triple_loss(student.num_layers, teacher.num_layers, general, settings.temperature),
        warmup=0.05,
        clip_norm=5.0,
        epsilon=1e-6,
        weight_decay=settings.weight_decay or 0.0,
        source=plain_text(general, teacher, student, masking, every_position=general.kl_on == "all"),
        teacher=teacher,
        student=language_model,
    )


def triple_loss(
    student_layers: int, teacher_layers: int, general: GeneralStage, temperature: float
) -> tuple[Term, ...]:
    """Return soft targets, masked LM and cosine of the last hidden states; a term with weight 0 is left out."""
    where = "labelled" if general.kl_on == "masked" else "real"
    last = ((student_layers, teacher_layers),)
    terms: tuple[Term, ...] = (
        Match(losses.soft_kl, weight=general.kl_weight, where=where, options={"temperature": temperature}),
        HardLabels(task="masked_lm", weight=general.mlm_weight, name="masked_lm"),
        Match(losses.cosine, on="hidden_states", layers=last, weight=general.cosine_weight),
    )
    return tuple(term for term in terms if term.weight)
