"""Decide what each stage reads of its teacher, and from where: each step, memory, or the teacher cache on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tfdistill.corpora.labelled_texts import LabelledTexts
from tfdistill.corpora.two_vocabularies import MixedSequences
from tfdistill.data.batching import Examples
from tfdistill.distill.features import feature
from tfdistill.distill.step import Term
from tfdistill.errors import UserError
from tfdistill.models.limits import check_encoded
from tfdistill.system.console import say
from tfdistill.text.encoded import Encoded
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.recipe import Recipe
from tfdistill.training.row_store import RowStore
from tfdistill.training.rows import Prepared, aligned, take
from tfdistill.training.stage import Stage
from tfdistill.training.teacher_cache import OPTION, TeacherCache

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

TITLE = "teacher reads the training texts"


@dataclass(frozen=True)
class Reads:
    """Where a stage gets the outputs of its teacher from. What is neither in memory nor on disk is computed in each step.

    Args:
        memory: whether the logits of all examples are computed once and kept in memory.
        disk: features and layers in the teacher cache, {"hidden_states/2": whether of all tokens}; "logits" are those of
            each token.
        reason: why the teacher cache does not hold all that the stage reads; "" if it does.
    """

    memory: bool = False
    disk: Mapping[str, bool] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class TeacherPlan:
    """What each stage of a recipe reads of its teacher, decided once before training.

    Args:
        cache: the teacher cache on disk.
        stages: one entry per stage.
    """

    cache: TeacherCache
    stages: tuple[Reads, ...]


def teacher_plan(recipe: Recipe, cache: TeacherCache | None = None) -> TeacherPlan:
    """Decide for each stage where it gets its teacher's outputs from. By default nothing is kept on disk.

    Raises UserError if more than logits are to be cached and no stage can use that.
    """
    cache = cache or TeacherCache("off")
    plan = tuple(_reads(recipe, stage, cache) for stage in recipe.stages)
    if cache.keeps("cls"):
        pairs = zip(recipe.stages, plan, strict=True)
        readers = {stage.name: reads.reason for stage, reads in pairs if stage.reads_teacher}
        if not readers or all(readers.values()):
            shown = "; ".join(f"'{name}': {why}" for name, why in readers.items()) or "none reads the teacher"
            raise UserError(f"No stage can use `{OPTION} {cache.level}`: {shown}. Remove the option.")
    return TeacherPlan(cache, plan)


def _reads(recipe: Recipe, stage: Stage, cache: TeacherCache) -> Reads:
    if not stage.reads_teacher:
        return Reads()
    reason = _never_stored(recipe, stage)
    names: dict[str, bool] = {}
    if not reason:
        assert recipe.teacher_model is not None
        names = wanted(stage.terms, recipe.teacher_model)
        level = "all" if any(names.values()) else "cls" if names else "logits"
        if not cache.keeps(level):
            reason = f"its terms read {', '.join(names) or 'logits'}; expected {OPTION} {level}"
    if recipe.teacher is None or stage.source is not None or stage.teacher is not None or stage.train_teacher:
        return Reads(reason=reason)
    memory, disk = False, {} if reason else names
    others = stage.reads_teacher - {"logits"}
    if "logits" in stage.reads_teacher and (not reason or not others or recipe.other_teachers):
        # Logits of every token would take too much memory.
        memory = recipe.data is not None and not recipe.data.per_token
        disk = {"logits": True, **disk} if not memory and not reason else disk
    return Reads(memory, disk, reason)


def _never_stored(recipe: Recipe, stage: Stage) -> str:
    """Return why no cache can hold what a stage reads, or ""."""
    if isinstance(stage.source, MixedSequences):
        return "its words are segmented differently in each epoch"
    if getattr(stage.source, "masker", None) is not None:
        return "its words are masked differently in each epoch"
    if isinstance(stage.source, LabelledTexts):
        return "its texts come with the teacher's outputs"
    if stage.source is not None:
        return "it reads plain text, which is not cached"
    if stage.teacher is None and isinstance(recipe.teacher, AnswersTeacher):
        return "its teacher is a file of answers"
    teacher = stage.teacher or recipe.teacher
    if any(each.train_teacher and (each.teacher or recipe.teacher) is teacher for each in recipe.stages):
        return "its teacher is trained too, so that its outputs change"
    return "" if stage.teacher is None else "it has a teacher of its own"


def wanted(terms: Sequence[Term], teacher: TextModel) -> dict[str, bool]:
    """Return features and layers of the teacher that `terms` read, except logits: {"hidden_states/2": of all tokens?}."""
    names: dict[str, bool] = {}
    for term in terms:
        for name in sorted(term.teacher_features - {"logits"}):
            kind = feature(name)
            layers = [f"{name}/{layer}" for layer in term.teacher_layers(teacher.num_layers) if layer]
            tokens = kind.per_pair or (kind.per_token and not term.first_only)
            names |= {part: names.get(part, False) or tokens for part in (layers if kind.layered else [name])}
    return dict(sorted(names.items()))


# --- outputs --------------------------------------------------------------------------------------------------------


def stage_examples(
    recipe: Recipe,
    prepared: Prepared,
    number: int,
    plan: TeacherPlan | None = None,
    logits: np.ndarray | None = None,
) -> Examples:
    """Return the training examples of stage `number` (from 0), with the teacher's outputs that are kept.

    Args:
        plan: that of `recipe`.
        logits: those of `training_logits`, if they are known.
    """
    plan, stage = plan or teacher_plan(recipe), recipe.stages[number]
    reads, teacher = plan.stages[number], stage.teacher or recipe.teacher_model
    features: dict[str, np.ndarray] = {}
    if reads.memory:
        features["logits"] = training_logits(recipe, prepared, plan.cache) if logits is None else logits
    stored = () if teacher is None else _stores(recipe, prepared, teacher, reads.disk, plan.cache)
    known = {*features, *(column.name.partition("/")[0] for store in stored for column in store.columns)}
    teacher_ids = None
    # Features of tokens that the student does not read have to be aligned with its own, wherever they come from.
    if teacher is not None and (stage.reads_teacher - known or stage.by_token):
        teacher_ids = prepared.read_by(recipe, teacher)
    assert prepared.train is not None
    if teacher is not None and stage.reads_teacher - known:
        check_encoded(teacher.config, teacher_ids or prepared.train.encoded, "teacher")
    examples = replace(prepared.train.examples, teacher=teacher_ids, teacher_features=features, stored=stored)
    if teacher is not None:
        examples = aligned(examples, stage, recipe.student, teacher)
    rows = prepared.rows(stage.rows)
    return examples if len(rows) == len(examples) else take(examples, rows)


def _stores(
    recipe: Recipe, prepared: Prepared, teacher: TextModel, names: Mapping[str, bool], cache: TeacherCache
) -> tuple[RowStore, ...]:
    stores: tuple[RowStore, ...] = ()
    if not names:
        return stores
    rows, others = _teacher_ids(recipe, prepared, teacher), dict(names)
    check_encoded(teacher.config, rows, "teacher")
    if others.pop("logits", False):
        try:
            stores += (cache.stored_logits(teacher, rows, TITLE),)
        except UserError as error:
            if cache.level != "logits":
                raise
            say(f"The teacher runs in each step: {error}")
    if others:
        stores += (cache.features(teacher, rows, others, TITLE),)
    return stores


def training_logits(recipe: Recipe, prepared: Prepared, cache: TeacherCache | None = None) -> np.ndarray:
    """Return the mean of the teachers' logits for all training examples, (n, C). They do not change while the student learns."""
    if prepared.teacher_logits is not None:
        return prepared.teacher_logits
    if any(stage.train_teacher for stage in recipe.stages):
        cache = None  # no other run can use the logits of a teacher that is trained
    return teacher_logits(recipe, prepared.texts, lambda teacher: _teacher_ids(recipe, prepared, teacher), TITLE, cache)


def with_teacher_logits(recipe: Recipe, prepared: Prepared) -> Prepared:
    """Return `prepared` with the teachers' logits, so that several runs share them."""
    return replace(prepared, teacher_logits=training_logits(recipe, prepared))


def _teacher_ids(recipe: Recipe, prepared: Prepared, teacher: TextModel) -> Encoded:
    assert prepared.train is not None
    return prepared.read_by(recipe, teacher) or prepared.train.encoded


def teacher_logits(
    recipe: Recipe, texts: Any, read: Callable[[TextModel], Encoded], title: str, cache: TeacherCache | None = None
) -> np.ndarray:
    """Return the weighted mean of all teachers' logits for the split `texts`; `read` returns the token ids of each model."""
    weights = np.array(recipe.teacher_weights or [1.0] * len(recipe.teachers), "float32")
    cache = cache or TeacherCache("off")
    logits: Any = 0.0
    for teacher, weight in zip(recipe.teachers, weights / weights.sum(), strict=True):
        if not weight:  # such a teacher gives its vocabulary and layers only
            continue
        if isinstance(teacher, AnswersTeacher):
            logits = logits + weight * teacher.logits(texts)
        else:
            logits = logits + weight * cache.logits(teacher, read(teacher), title)
    return logits
