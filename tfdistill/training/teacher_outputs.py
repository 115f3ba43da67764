"""What the stages read of the teacher, and what of that is asked once rather than in each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tfdistill.corpora.labelled_texts import LabelledTexts
from tfdistill.corpora.two_vocabularies import MixedSequences
from tfdistill.data.splits import PER_TOKEN
from tfdistill.distill.features import feature
from tfdistill.distill.step import Term
from tfdistill.errors import UserError
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import say
from tfdistill.text.encoded import Encoded
from tfdistill.training.recipe import Recipe
from tfdistill.training.row_store import RowStore
from tfdistill.training.rows import Prepared
from tfdistill.training.stage import Stage
from tfdistill.training.teacher_cache import OPTION, TeacherCache

TITLE = "teacher reads the training texts"


def wanted(terms: Sequence[Term], teacher: TextModel) -> dict[str, bool]:
    """Features and layers of the teacher that `terms` read, but logits: {"hidden_states/2": whether of all tokens}."""
    found: dict[str, bool] = {}
    for term in terms:
        for name in sorted(term.teacher_features - {"logits"}):
            kind = feature(name)
            layers = [f"{name}/{layer}" for layer in term.teacher_layers(teacher.num_layers) if layer]
            names = layers if kind.layered else [name]
            tokens = kind.per_pair or (kind.per_token and not term.first_only)
            found |= {name: found.get(name, False) or tokens for name in names}
    return dict(sorted(found.items()))


def why_not(recipe: Recipe, stage: Stage, cache: TeacherCache) -> str:
    """Why a stage asks the teacher in each step, or "" where all that it reads is kept, or nothing."""
    if not stage.reads_teacher:
        return ""
    if isinstance(stage.source, MixedSequences):
        return "the segmentation of its words is drawn anew in each epoch"
    if getattr(stage.source, "masker", None) is not None:
        return "its words are masked anew in each epoch"
    if isinstance(stage.source, LabelledTexts):
        return "its texts bring what the teacher says of them"
    if stage.source is not None:
        return "it reads plain text of its own, which is not kept"
    if any(
        each.train_teacher and (each.teacher or recipe.teacher) is (stage.teacher or recipe.teacher)
        for each in recipe.stages
    ):
        return "the teacher learns too, and what it says changes at every step"
    if stage.teacher is not None:
        return "it has a teacher of its own"
    assert recipe.teacher is not None
    found = wanted(stage.terms, recipe.teacher)
    level = "all" if any(found.values()) else "cls" if found else "logits"
    if cache.keeps(level):
        return ""
    return f"its terms read {', '.join(found) or 'logits'}; expected {OPTION} {level}"


def reasons(recipe: Recipe, cache: TeacherCache) -> dict[str, str]:
    """Why stages ask the teacher in each step though more than logits is kept. Raises UserError where all of them do."""
    if not cache.keeps("cls"):
        return {}
    found = {stage.name: why_not(recipe, stage, cache) for stage in recipe.stages if stage.reads_teacher}
    told = {name: why for name, why in found.items() if why}
    if not found or len(told) == len(found):
        shown = "; ".join(f"'{name}': {why}" for name, why in told.items()) or "none reads the teacher"
        raise UserError(f"{OPTION} {cache.level}: no stage can use it; {shown}; leave it out")
    return told


def known(
    recipe: Recipe, prepared: Prepared, stage: Stage, cache: TeacherCache
) -> tuple[dict[str, np.ndarray], tuple[RowStore, ...]]:
    """What a stage need not ask in each step: (features in memory, features on disk). Both may be empty."""
    teacher, reads = recipe.teacher, stage.reads_teacher
    if teacher is None or not reads or stage.source is not None or stage.teacher is not None or stage.train_teacher:
        return {}, ()
    others = reads - {"logits"}
    kept = not why_not(recipe, stage, cache)
    logits: dict[str, np.ndarray] = {}
    stores: tuple[RowStore, ...] = ()
    if "logits" in reads and (kept or not others or recipe.other_teachers):
        if recipe.data.task not in PER_TOKEN:
            ask_teacher(recipe, prepared, cache)
            assert prepared.teacher_logits is not None
            logits = {"logits": prepared.teacher_logits}
        elif kept:  # those of every token would take too much memory
            try:
                stores += (cache.stored_logits(teacher, _read_by(recipe, prepared, teacher), TITLE),)
            except UserError as error:
                if cache.level != "logits":
                    raise
                say(f"the teacher is asked in each step: {error}")
    if others and kept:
        stores += (cache.features(teacher, _read_by(recipe, prepared, teacher), wanted(stage.terms, teacher), TITLE),)
    return logits, stores


# --- logits ---------------------------------------------------------------------------------------------------------


def _read_by(recipe: Recipe, prepared: Prepared, teacher: TextModel) -> Encoded:
    return prepared.read_by(teacher, recipe.student, recipe.privileged) or prepared.train


def teacher_logits(
    recipe: Recipe, read: Callable[[TextModel], Encoded], title: str, cache: TeacherCache | None = None
) -> np.ndarray:
    """The weighted mean of all teachers' logits; `read` gives what each of them reads."""
    weights = np.array(recipe.teacher_weights or [1.0] * len(recipe.teachers), "float32")
    cache = cache or TeacherCache("off")
    logits: Any = 0.0
    for teacher, weight in zip(recipe.teachers, weights / weights.sum(), strict=True):
        logits = logits + weight * cache.logits(teacher, read(teacher), title)
    return logits


def ask_teacher(recipe: Recipe, prepared: Prepared, cache: TeacherCache | None = None) -> None:
    """The teacher's logits of all training rows, once: they do not change while the student learns."""
    if recipe.teacher is None or prepared.teacher_logits is not None:
        return
    if any(stage.train_teacher for stage in recipe.stages):
        cache = None  # those of a teacher that learns are of no use to another run
    prepared.teacher_logits = teacher_logits(recipe, lambda teacher: _read_by(recipe, prepared, teacher), TITLE, cache)
