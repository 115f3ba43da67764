"""Fine-tuning on labels (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", section 4.1).

    CE(y, σ(z)),  squared error for regression, BCE for several labels

It makes teachers, and trains any model without a teacher. The verb `tfdistill finetune` runs it. With `--task glue/…` the
settings are the paper's: batch 32, 3 epochs, 128 tokens, learning rate 3e-5, weight decay 0.01 (except for embedding tables,
of which a step reads few rows). The paper takes the best of 5e-5, 4e-5, 3e-5 and 2e-5 on each task's dev split: try the
others with `--set learning_rate=2e-5`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tfdistill.data import glue
from tfdistill.data.dataset import Data
from tfdistill.distill.label_terms import HardLabels
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import Settings as CommonSettings
from tfdistill.training.stage import Stage

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# 128 tokens as in the authors' commands. WNLI, which the paper leaves out, is trained like the others.
GLUE = dict.fromkeys(glue.GLUE, ("batch_size=32", "epochs=3", "learning_rate=3e-5", "max_length=128"))


class Settings(CommonSettings):
    privileged: bool = Field(False, description="read the columns text_extra too: a teacher for the recipe privileged")
    train_word_embeddings: bool = Field(True, description="false freezes the word embeddings, which saves time")


def recipe(model: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    """Fine-tune `model` on the labels of `data` (Devlin et al. 2019, section 4: AdamW, warm-up, linear decay)."""
    settings = settings or Settings()
    if settings.privileged:
        data = data.with_extra()
    stage = Stage(
        "labels",
        (HardLabels(task=data.task),),
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        freeze=() if settings.train_word_embeddings else ("word_embeddings",),
        evaluations=settings.evaluations,
        weight_decay=settings.weight_decay,
    )
    return Recipe(
        name="finetune",
        student=model,
        data=data,
        stages=(stage,),
        max_length=settings.max_length,
        settings=settings.model_dump(),
    )
