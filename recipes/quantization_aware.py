"""Quantization-aware training (Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference"; learned ranges after Esser et al. 2020, "Learned Step Size Quantization", and Jain et al. 2020).

    (1 - λ)·CE(y, σ(z_q)) + λ·T²·KL(σ(z/T) ‖ σ(z_q/T))

z are the logits of the teacher, the float student of another recipe; z_q are the logits of the same network with dense layers and
attention rounded as in a static int8 file. It starts from the teacher's weights and from the ranges of the activations on
`calibration_rows` examples; both are trained. `tfdistill export RUN --quantize int8` then takes the learned ranges.
The run's scores are the rounded network's. For transformers only: a BiLSTM's fused operator has its own ranges.

Idea:      a last stage in which the student learns to live with int8
Command:   tfdistill train quantization_aware --teacher RUN --data DIR --out RUN8
Published: ImageNet and COCO only; our own results are in docs/export_support.md
Cost:      a forward of the float student once, and rounding around every product of a step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tfdistill.data.batching import Examples, dataset, some_rows
from tfdistill.data.dataset import Data
from tfdistill.training.recipe import Recipe
from tfdistill.training.rows import take
from tfdistill.training.settings import Settings as CommonSettings
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Settings(CommonSettings):
    epochs: float = Field(1, gt=0, description="passes over the training rows")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate; ranges move a hundred times as fast")
    temperature: float = Field(1.0, gt=0, description="T")
    soft_weight: float = Field(1.0, ge=0, le=1, description="λ, the share of the soft targets")
    calibration_rows: int = Field(200, ge=1, description="training examples for the initial ranges")


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    from tfdistill.models.quantization_aware import QuantizationAware

    settings = (settings or Settings()).like(teacher)
    student = QuantizationAware.of(teacher)
    encoded = data.encode(data.splits["train"], student.tokenizer, settings.max_length).encoded
    some = take(Examples(encoded), some_rows(len(encoded), settings.calibration_rows))
    student.calibrate(batch["student"] for batch in dataset(some, settings.batch_size, shuffle=False))
    terms = soft_and_hard_terms(data.task, settings.soft_weight, settings.temperature)
    return settings.recipe(
        "quantization_aware",
        teacher=teacher,
        student=student,
        data=data,
        stages=(settings.stage("quantization", terms),),
    )
