"""MiniLM and MiniLMv2 (Wang, Wei, Dong, Bao, Yang and Zhou 2020; Wang, Bao, Huang, Dong and Wei 2021).

    minilmv2: Σ_X KL(σ(X_t·X_tᵀ/√d_t) ‖ σ(X_s·X_sᵀ/√d_s)),  X = queries, keys, values split into R relation heads, d = H/R
    minilm:   KL(σ(A_t) ‖ σ(A_s)) + the relation of the values,  A = attention scores, R = number of attention heads

The student's last layer learns from one teacher layer: the last of a base-size teacher, layer 21 of 24 of BERT-large. Each
term is a mean over heads and real queries. Relations need neither equal hidden sizes nor, in minilmv2, equal numbers of
attention heads. The papers distil on plain text (`general`) and then fine-tune on labels: `relations.epochs=0`. Without
plain text, the task stage `relations` trains the same loss against the fine-tuned teacher first; the papers do not.

Idea:      the relations between tokens in one self-attention layer, with no mapping of layers and no projections
Command:   tfdistill train minilm --teacher TEACHER --task glue/mrpc --out RUN --set general.text=WIKIPEDIA
               --set general.teacher=hf:BERT --set relations.epochs=0
Published: dev, MNLI-m and SQuAD 2.0 (F1) of MiniLMv2: 6×384 from BERT-base 82.8 and 72.9, 6×768 84.2 and 76.3;
           from BERT-large 83.0 and 74.3, 85.0 and 77.7 (BERT-base 84.5 and 76.8)
Cost:      400,000 steps of 256 sequences on plain text in the papers; a teacher and a student forward in each step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tfdistill.data.dataset import Data
from tfdistill.distill import losses
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.recipes._general_stage import (
    General,
    GeneralSettings,
    general_stages_only,
    plain_text,
    pretrained_teacher,
)
from tfdistill.recipes._students import STUDENT, StudentSettings, make_student
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import Group
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class GeneralStage(General):
    """Declare the general stage, with MiniLMv2's settings."""

    learning_rate: float = Field(6e-4, gt=0, description="peak learning rate")


class Relations(Group):
    """Declare the relation losses, and the task stage that trains them."""

    epochs: float = Field(5, ge=0, description="epochs of the task stage; 0 leaves it out, as in the papers")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the task stage")
    version: Literal["minilmv2", "minilm"] = Field("minilmv2", description="which paper's losses")
    teacher_layer: int | None = Field(
        None,
        ge=1,
        description="the teacher's layer; the last by default, but 7/8 of the way up (21 of 24) above 12 layers",
    )
    heads: int | None = Field(
        None,
        ge=1,
        description="R of minilmv2; by default 48 for base-size and 64 for large teachers, or the largest number below that "
        "divides both sizes",
    )
    query_weight: float = Field(1.0, ge=0, description="weight of the queries' relation; minilm: of the attention")
    key_weight: float = Field(1.0, ge=0, description="weight of the keys' relation; minilmv2 only")
    value_weight: float = Field(1.0, ge=0, description="weight of the values' relation")


class Settings(GeneralSettings, StudentSettings):
    student: str = Field("minilm_l6_384", description=STUDENT)
    general: GeneralStage | None = Field(None, description="the general stage on plain text")
    relations: Relations = Field(Relations(), description="the relation losses")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the fine-tuning")
    soft_weight: float = Field(0.0, ge=0, le=1, description="share of the teacher's soft targets in the fine-tuning")
    temperature: float = Field(1.0, gt=0, description="T of the soft targets")
    max_length: int = Field(128, ge=5, le=512, description="tokens of an example")


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    """Return the recipe: general stage, relations on the task's examples, fine-tuning."""
    settings = (settings or Settings()).like(teacher)
    student = make_student(teacher, settings.student, settings.num_layers)
    general, relations, stages = settings.general, settings.relations, []
    if general is not None:
        pretrained = pretrained_teacher(general)
        stages.append(
            general.stage(
                "general",
                relation_terms(student, pretrained, relations),
                epsilon=1e-6,
                weight_decay=settings.weight_decay,
                source=plain_text(general, pretrained, student),
                teacher=pretrained,
            )
        )
    if relations.epochs:
        stages.append(
            settings.stage(
                "relations",
                relation_terms(student, teacher, relations),
                epochs=relations.epochs,
                learning_rate=relations.learning_rate,
                keep_best=False,
            )
        )
    terms = soft_and_hard_terms(data.task, settings.soft_weight, settings.temperature)
    stages.append(settings.stage("fine-tuning", terms))
    return settings.recipe(
        "minilm",
        teacher=teacher,
        student=student,
        data=data,
        stages=general_stages_only(stages) if settings.general_only else tuple(stages),
    )


def relation_terms(student: TextModel, teacher: TextModel, relations: Relations) -> tuple[Match, ...]:
    """Return the terms of one paper; a term with weight 0 is left out.

    Raises:
        UserError: a model without self-attention, or numbers of layers or heads that do not fit.
    """
    for model in (student, teacher):
        if "queries" not in model.offers:
            raise UserError(f"a {model.family} model has no self-attention. Use a transformer")
    layer = relations.teacher_layer or (teacher.num_layers if teacher.num_layers <= 12 else teacher.num_layers * 7 // 8)
    if layer > teacher.num_layers:
        raise UserError(f"relations.teacher_layer is {layer}, but the teacher has {teacher.num_layers} layers")
    layers = ((student.num_layers, layer),)
    if relations.version == "minilm":
        heads, student_heads = (model.config.num_attention_heads for model in (teacher, student))
        if heads != student_heads:
            raise UserError(
                f"the student has {student_heads} attention heads, the teacher {heads}. "
                "Use relations.version=minilmv2, or a student with the teacher's number of heads"
            )
        attention = Match(losses.attention_kl, on="attention_scores", layers=layers, weight=relations.query_weight)
        terms = [attention, relation("values", layers, heads, relations.value_weight)]
    else:
        heads = relation_heads(student, teacher, layers[0], relations.heads)
        weights = {
            "queries": relations.query_weight,
            "keys": relations.key_weight,
            "values": relations.value_weight,
        }
        terms = [relation(feature, layers, heads, weight) for feature, weight in weights.items()]
    return tuple(term for term in terms if term.weight)


def relation(feature: str, layers: tuple[tuple[int, int], ...], heads: int, weight: float) -> Match:
    """Return the term of one relation."""
    return Match(losses.relation_kl, on=feature, layers=layers, weight=weight, options={"heads": heads})


def relation_heads(student: TextModel, teacher: TextModel, layers: tuple[int, int], heads: int | None) -> int:
    """Return the number of relation heads.

    Raises:
        UserError: `heads` does not divide the sizes of queries, keys and values in both layers.
    """
    blocks = [model.encoder.blocks[layer - 1] for model, layer in zip((student, teacher), layers, strict=True)]
    sizes = {part.units for block in blocks for part in (block.query, block.key, block.value)}
    # By default heads of size 16: 48 heads for BERT-base, 64 for BERT-large.
    numbers = range(max(1, blocks[1].query.units // 16), 0, -1) if heads is None else [heads]
    for number in numbers:
        if not any(size % number for size in sizes):
            return number
    raise UserError(f"relations.heads is {heads}; expected a divisor of {' and '.join(map(str, sorted(sizes)))}")
