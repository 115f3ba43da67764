"""DistilBERT (Sanh, Debut, Chaumond and Wolf 2019, "DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter").

    general stage: 5·T²·KL(σ(z_t/T) ‖ σ(z_s/T)) + 2·MLM + 1·(1 - cos(H_s, H_t)),  T = 2
    fine-tuning:   labels, or with `distil_finetuning` (1 - λ)·labels + λ·T²·KL of the fine-tuned teacher

The student starts as every second layer of the pre-trained teacher (1, 3, 5, 8, 10, 12 of 12), without token types and pooler.
The general stage runs on plain text (`text`) against `general_teacher`, a model with a masked-LM head. Masking is dynamic: 15 %
of the tokens, of these 80 % masked and 10 % random, rare pieces more often (exponent 0.7). KL and cosine are means over all
real tokens; `kl_on=masked` takes the masked ones only, which saves most of the output layer. Without `text` the fine-tuned
teacher's own layers are fine-tuned, or `student=hf:DIR`, the student of an earlier run with `general_only`.
`initialization=random` is what the paper's table 4 holds against the teacher's layers. A step of the general stage is one batch of
250, where the paper accumulates 50 batches of 5.

Idea:      every second layer, three losses on plain text, then ordinary fine-tuning
Command:   tfdistill train distilbert --teacher TEACHER --data tfds:glue/mrpc --out RUN --set text=DIR --set general_teacher=hf:BERT
Published: dev: CoLA 51.3, MNLI 82.1, MRPC 87.5 (F1), QNLI 89.2, QQP 88.5, RTE 59.9, SST-2 91.3, STS-B 86.9, WNLI 56.3, mean 77.0
           (BERT 79.5); SQuAD 1.1 77.7/85.8, 79.1/86.9 with distil_finetuning; IMDb 92.82 (BERT 93.46)
Cost:      the general stage: a teacher and a student forward with the output layer over the vocabulary in each step.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tfdistill.corpora.masking import Masking
from tfdistill.data.dataset import Data
from tfdistill.distill import losses
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.mapping import alternate
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.models.presets import resembling, student_from_layers
from tfdistill.models.text_model import TextModel
from tfdistill.recipes._shared import (
    PLAIN_TEXT,
    STUDENT,
    SegmentedTextSettings,
    general_stages_only,
    make_student,
    plain_text,
    pretrained_teacher,
)
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.stage import Stage


class Settings(SegmentedTextSettings):
    student: str = Field("layers", description=STUDENT)
    num_layers: int | None = Field(None, ge=1, description="layers of the student; half the teacher's by default")
    initialization: Literal["layers", "random"] = Field(
        "layers", description="of student=layers: the teacher's layers, or random weights in their place"
    )
    kl_weight: float = Field(5.0, ge=0, description="weight of the soft targets")
    mlm_weight: float = Field(2.0, ge=0, description="weight of the masked LM")
    cosine_weight: float = Field(1.0, ge=0, description="weight of the hidden states")
    temperature: float = Field(2.0, gt=0, description="T")
    kl_on: Literal["all", "masked"] = Field("all", description="tokens whose predictions are compared")
    smoothing: float = Field(0.7, ge=0, description="exponent by which rare pieces are masked more often")
    general_learning_rate: float = Field(5e-4, gt=0, description="peak learning rate of the general stage")
    general_batch_size: int = Field(250, ge=1, description="sequences in a step of the general stage")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the fine-tuning")
    distil_finetuning: bool = Field(False, description="distil the fine-tuned teacher in the fine-tuning too")
    soft_weight: float = Field(0.5, ge=0, le=1, description="λ of the second distillation")
    max_length: int = Field(128, ge=5, le=512, description="word pieces of an example")

    @model_validator(mode="after")
    def _what_is_set_is_read(self) -> Self:
        general, task = self.text is not None, self.distil_finetuning
        self.only_with(general, PLAIN_TEXT, "kl_weight", "mlm_weight", "cosine_weight", "kl_on", "smoothing")
        self.only_with(task, "distil_finetuning=true", "soft_weight")
        soft = (general and self.kl_weight > 0) or (task and self.soft_weight > 0)
        self.only_with(soft, f"{PLAIN_TEXT} and kl_weight above 0, or distil_finetuning=true", "temperature")
        self.only_with(self.student == "layers", "student=layers", "initialization")
        return self


def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    settings = settings or Settings()
    family = "distilbert" if teacher.family == "bert" else None
    layers = alternate(settings.num_layers or max(1, teacher.num_layers // 2), teacher.num_layers)
    if settings.student == "layers":
        student = student_from_layers(teacher, layers=layers, family=family)
        student = resembling(student) if settings.initialization == "random" else student
    else:
        student = make_student(teacher, settings.student)
    stages = []
    if settings.text is not None:
        general = pretrained_teacher(settings, "masked_lm")
        # The general stage begins with the pre-trained teacher's layers, and the fine-tuning with what becomes of them.
        if settings.student == "layers" and settings.initialization == "layers":
            layers = alternate(student.num_layers, general.num_layers)
            language_model = student_from_layers(general, layers=layers, family=family)
            copy_encoder(language_model, student)
        else:
            language_model = resembling(student, "masked_lm")
            copy_encoder(student, language_model)
        masking = Masking(whole_words=settings.whole_words, smoothing=settings.smoothing)
        stages.append(
            Stage(
                "general",
                triple_loss(student.num_layers, general.num_layers, settings),
                epochs=settings.general_epochs,
                learning_rate=settings.general_learning_rate,
                batch_size=settings.general_batch_size,
                warmup=0.05,
                clip_norm=5.0,
                epsilon=1e-6,
                weight_decay=settings.weight_decay or 0.0,
                source=plain_text(settings, general, student, masking, every_position=settings.kl_on == "all"),
                teacher=general,
                student=language_model,
                keep_best=False,
            )
        )
    share = settings.soft_weight if settings.distil_finetuning else 0.0
    stages.append(settings.stage("fine-tuning", soft_and_hard_terms(data.task, share, settings.temperature)))
    return settings.recipe(
        "distilbert",
        teacher=teacher,
        student=student,
        data=data,
        stages=general_stages_only(stages) if settings.general_only else tuple(stages),
    )


def triple_loss(student_layers: int, teacher_layers: int, settings: Settings) -> tuple[Term, ...]:
    where = "labelled" if settings.kl_on == "masked" else "real"
    terms: tuple[Term, ...] = (
        Match(losses.soft_kl, weight=settings.kl_weight, where=where, options={"temperature": settings.temperature}),
        HardLabels(task="masked_lm", weight=settings.mlm_weight, name="masked_lm"),
        Match(
            losses.cosine, on="hidden_states", layers=((student_layers, teacher_layers),), weight=settings.cosine_weight
        ),
    )
    return tuple(term for term in terms if term.weight)
