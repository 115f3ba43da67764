"""Make sequences of stages from one stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from typing import TYPE_CHECKING, Any

from tfdistill.distill.step import Term
from tfdistill.training.freezing import parts_of
from tfdistill.training.stage import Stage

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


def gradual_unfreezing(stage: Stage, student: TextModel) -> tuple[Stage, ...]:
    """Repeat a stage for each part of the student: the head alone first, then one more part from the top down each time.

    XtremeDistil (Mukherjee and Awadallah 2020, section 4.3). The weights at the start of each stage may be its best ones.
    """
    parts = parts_of(student)
    return tuple(
        replace(stage, name=f"{stage.name}, {parts[lowest]} and above", freeze=parts[:lowest], start_counts=True)
        for lowest in range(len(parts) - 1, -1, -1)
    )


def progressive(
    stage: Stage,
    student: TextModel,
    layer_terms: Sequence[Sequence[Term]],
    *,
    lower_rate: float = 0.0,
    embeddings: bool = False,
) -> tuple[Stage, ...]:
    """Make one stage per layer from the bottom up, which trains that layer by the terms `layer_terms[layer - 1]`.

    MobileBERT (Sun et al. 2020, section 3.4, progressive knowledge transfer). All stages have all terms, with
    weight 0 for other layers, so that they share one compiled step.

    Args:
        stage: gives everything except terms and frozen parts.
        lower_rate: share of the learning rate at which the layers below continue to learn; 0 freezes them. The layers
            above and the head are always frozen.
        embeddings: whether the embeddings are trained, with the first layer; MobileBERT copies them from its teacher.
    """
    stages = []
    for number in range(1, len(layer_terms) + 1):
        terms = tuple(
            term if layer == number else _without_weight(term)
            for layer, group in enumerate(layer_terms, 1)
            for term in group
        )
        open_ = {f"layer_{number}", *(("embeddings",) if embeddings and number == 1 else ())}
        below = ("embeddings", *(f"layer_{n}" for n in range(1, number))) if lower_rate else ()
        frozen = tuple(part for part in parts_of(student) if part not in open_)
        name = f"{stage.name}, layer {number}"
        rates = {part: lower_rate for part in frozen if part in below}
        stages.append(
            replace(stage, name=name, terms=terms, freeze=tuple(p for p in frozen if p not in rates), rates=rates)
        )
    return tuple(stages)


def _without_weight(term: Any) -> Any:
    return replace(term, weight=0.0) if is_dataclass(term) and not isinstance(term, type) else term


def share_a_step(one: Stage, other: Stage) -> bool:
    """Return whether two stages differ only in what can change without another compilation."""
    same = ("optimizer", "weight_decay", "epsilon", "clip_norm", "micro_batches", "train_teacher")
    return (
        all(getattr(one, name) == getattr(other, name) for name in same)
        and one.teacher is other.teacher
        and one.student is other.student
        and [_without_weight(term) for term in one.terms] == [_without_weight(term) for term in other.terms]
    )
