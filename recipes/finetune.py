"""Fine-tuning on labels: how a teacher is made, and how any model is trained without one.

With `--task glue/…` the settings are those of Devlin et al. 2019, section 4.1: batch 32, 3 epochs, 128 pieces, learning rate 3e-5,
weight decay 0.01 (but for the tables, of which a step moves only the rows it reads). The paper takes the best of 5e-5, 4e-5, 3e-5 and
2e-5 on each task's dev split: try the others with `--set learning_rate=2e-5`.
"""

from __future__ import annotations

from pydantic import Field

from tfdistill.data import glue
from tfdistill.data.dataset import Data
from tfdistill.distill.label_terms import HardLabels
from tfdistill.models.text_model import TextModel
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import Settings as CommonSettings
from tfdistill.training.stage import Stage

# Devlin et al. 2019, section 4.1: batch 32, 3 epochs and, of 5e-5, 4e-5, 3e-5 and 2e-5, the learning rate that is best on dev, here
# 3e-5 for all tasks; 128 pieces as in the authors' commands. WNLI, which the paper leaves out, is trained as the others.
GLUE = dict.fromkeys(glue.GLUE, ("batch_size=32", "epochs=3", "learning_rate=3e-5", "max_length=128"))


class Settings(CommonSettings):
    privileged: bool = Field(False, description="read the columns text_extra too: a teacher for the recipe privileged")
    train_word_embeddings: bool = Field(True, description="false keeps the word-piece table as it is, which saves time")


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
