"""LayerDrop (Fan, Grave and Joulin 2020, "Reducing Transformer Depth on Demand with Structured Dropout").

Each training step skips a whole layer with probability p = .2; afterwards layers are removed without more training. A pruning
rate r removes the layers d with d ≡ 0 mod ⌊1/r⌋ ("every other"); `depth` spreads the removed layers in the same way for any
number of remaining layers, and `keep` names the remaining ones. The paper drops layers in pre-training too; here only the
fine-tuning does. Further depths in `depth` are cut from the same trained model, evaluated and saved as student-depth-N.

Idea:      train once with layers skipped at random, then cut to any depth
Command:   tfdistill train layerdrop --teacher TEACHER --data demo:movie-snippets --out RUN --set depth=4,3,2
Published: pre-trained RoBERTa and translation models only; no figure for fine-tuning alone.
Cost:      fine-tuning of the full depth once; cutting is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import Field

from tfdistill.compress.layerdrop import keep_layers, layers_at_depth, layers_at_rate, with_layerdrop
from tfdistill.data.dataset import Data
from tfdistill.errors import UserError
from tfdistill.recipes._pruning import PruningSettings, integers, whole_student
from tfdistill.training.recipe import Recipe
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Settings(PruningSettings):
    rate: float = Field(0.2, ge=0, lt=1, description="p, probability with which training skips a layer")
    depth: str | None = Field(
        None, description="remaining layers; several numbers, such as 4,3,2, give several students"
    )
    prune_rate: float | None = Field(
        None, gt=0, le=0.5, description="r, share of the layers to remove, instead of depth"
    )
    keep: str | None = Field(None, description="the remaining layers, such as 1,3,5, instead of depth")


def remaining_layers(num_layers: int, settings: Settings) -> dict[str, tuple[int, ...]]:
    """Return the remaining layers of each student, by its name."""
    chosen = [name for name in ("depth", "prune_rate", "keep") if getattr(settings, name) is not None]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} are set. Choose one of them")
    if settings.keep is not None:
        kept = tuple(integers("keep", settings.keep))
        if not kept or list(kept) != sorted(set(kept)) or not 1 <= kept[0] <= kept[-1] <= num_layers:
            raise UserError(f"keep is '{settings.keep}'. Give some of the layers 1..{num_layers} in ascending order.")
        return {"depth-" + str(len(kept)): kept}
    if settings.prune_rate is not None:
        kept = layers_at_rate(num_layers, settings.prune_rate)
        return {f"depth-{len(kept)}": kept}
    depths = [max(1, num_layers // 2)] if settings.depth is None else integers("depth", settings.depth)
    if not depths:
        raise UserError("depth is empty. Give the number of remaining layers, such as 3 or 4,3,2.")
    return {f"depth-{depth}": layers_at_depth(num_layers, depth) for depth in depths}


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    student = with_layerdrop(whole_student(teacher, settings), settings.rate)
    layers = remaining_layers(student.num_layers, settings)

    def cut(trained: TextModel) -> Mapping[str, TextModel]:
        return {name: keep_layers(trained, kept) for name, kept in layers.items()}

    stage = settings.stage("layerdrop", settings.terms(data.task))
    return settings.recipe(
        "layerdrop",
        teacher=teacher,
        student=student,
        data=data,
        stages=(stage,),
        cut=cut,
        settings=settings.model_dump() | {"layers": layers},
    )
