"""Head pruning (Michel, Levy and Neubig 2019, "Are Sixteen Heads Really Better than One?", section 4).

    I_h = E_x |∂L(x)/∂ξ_h|,  ξ_h a factor on the output of head h, L2-normalised in each layer

The heads with the lowest importance over all layers are removed, 10 % of all heads at a time, while the dev score is at least
`share` of the score with all heads. Importance is computed once on the full model, as in the paper, or again after each step
(`recompute`). The paper does not train afterwards; `epochs` does. The fine-tuned teacher is pruned. The student's layers have
different numbers of heads: its model_type is tfdistill_pruned_bert, which transformers does not read.

Idea:      attention heads whose output matters least are cut out
Command:   tfdistill train head_pruning --teacher TEACHER --data demo:movie-snippets --out RUN
Published: BERT-base on MNLI: 40 % of the heads go without a notable loss of accuracy.
Cost:      a forward and backward over `importance_rows`, and the dev split once for each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from tfdistill.data.dataset import Data
from tfdistill.recipes._pruning import PruneHeads, PruningSettings, compacted, whole_student
from tfdistill.training.recipe import Recipe
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Settings(PruningSettings):
    epochs: float = Field(0, ge=0, description="passes over the training rows after pruning (paper: none)")
    share: float = Field(0.9, ge=0, le=1, description="share of the full model's dev score that has to be kept")
    step: float = Field(0.1, gt=0, le=1, description="share of all heads removed at a time")
    heads_at_least: int = Field(1, ge=1, description="heads that each layer keeps")
    recompute: bool = Field(False, description="compute the importance again after each step")
    importance_rows: int | None = Field(1000, ge=1, description="training rows for the importance; none takes all")


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    prune = PruneHeads(
        data.task,
        share=settings.share,
        step=settings.step,
        at_least=settings.heads_at_least,
        recompute=settings.recompute,
        rows=settings.importance_rows,
        batch_size=settings.batch_size,
    )
    stage = settings.stage("prune heads", settings.terms(data.task), before=prune)
    return settings.recipe(
        "head_pruning",
        teacher=teacher,
        student=whole_student(teacher, settings),
        data=data,
        stages=(stage,),
        cut=compacted,
    )
