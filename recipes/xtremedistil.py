"""XtremeDistil (Mukherjee and Awadallah 2020, "XtremeDistil: Multi-stage Distillation for Massive Multilingual Models"; first version
2019, "Distilling BERT into Simple Neural Networks with Unlabeled Transfer Data").

    joint:  CE(y, σ(z_s)) + KL(σ(z_t) ‖ σ(z_s)) + representation,  on labelled and unlabelled text together
    staged: 1 representation, on all text     KL(σ(h_t) ‖ σ(GELU(W·r_s + b))) with the teacher's [CLS] state of one layer
            2 logits, on all text             ½·‖z_s - logit(p_t)‖²,  logit(p) = log(p/(1 - p)), p_t = σ(z_t)
            3 labels, on labelled text        CE(y, σ(z_s))

Student: token embedding (300, SVD of the teacher's table), BiLSTM of 600 in each direction, maximum over the positions, head.
Stages 2 and 3 first train the head alone, then unfreeze one more part at a time from the top down; each step ends when the
dev score no longer rises, with its best weights, its initial ones included. Unlabelled text is the data's split
"unlabelled"; stages 1 and 2 read the labelled text too. The paper's multilingual work takes layer 7 of 12;
`representation=mse` and `logit_target=logits` are the authors' code. For multi-label heads logit(p_t) is z_t; for regression
it is the teacher's output. The scores in docs/results.md were made with `logit_target=logits`.

Idea:      much unlabelled text carries a large teacher over to a BiLSTM, stage by stage
Command:   tfdistill train xtremedistil --teacher TEACHER --data DATA --out RUN
Published: 500 labels a class: AG News 90.45, IMDb 89.08, Elec 91.0, DBpedia 98.94.
Cost:      a teacher forward in each step of stage 1, one over all texts for stage 2; one training for each part of the student.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tfdistill.data.splits import PER_TOKEN
from tfdistill.data.text_data import TextData
from tfdistill.distill import losses
from tfdistill.distill.label_terms import HardLabels, PseudoLabels
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.errors import UserError
from tfdistill.models.presets import bilstm
from tfdistill.models.tasks import NOT_TRANSFORMERS
from tfdistill.training.recipe import Recipe
from tfdistill.training.schedules import gradual_unfreezing
from tfdistill.training.settings import Group
from tfdistill.training.settings import Settings as CommonSettings
from tfdistill.training.soft_terms import soft_term
from tfdistill.training.stage import Stage
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Joint(Group):
    """Declare the weights of the joint version (2019)."""

    hard_weight: float = Field(1.0, ge=0, description="weight of the labels")
    soft_weight: float = Field(1.0, ge=0, description="weight of the soft targets")
    representation_weight: float = Field(1.0, ge=0, description="weight of the representation")
    pseudo_labels: float = Field(0.0, ge=0, description="weight of the teacher's classes as labels of unlabelled texts")


class Settings(CommonSettings):
    joint: Joint | None = Field(None, description="the joint version, with these weights, instead of the staged one")
    epochs: float = Field(10, gt=0, description="passes over the examples of a stage at most")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    patience: int = Field(2, ge=1, description="evaluations without a better score before a stage ends")
    evaluations: int = Field(10, ge=1, description="evaluations on the dev split in each stage")
    layer: int | None = Field(None, ge=1, description="the teacher's layer to learn from; the last by default")
    representation: Literal["kl", "mse"] = Field("kl", description="distance of representations")
    logit_target: Literal["log_odds", "logits"] = Field(
        "log_odds", description="target of stage 2 (staged): logit(p_t) as in the paper, or z_t as in the authors' code"
    )
    embedding_size: int = Field(300, ge=1, description="size of the embedding, at most the teacher's")
    lstm_size: int = Field(600, ge=1, description="size of the LSTM in each direction")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the head")


@with_teacher
def recipe(teacher: TextModel, data: TextData, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    if data.task in PER_TOKEN:
        raise UserError(
            f"{data.name} is for {data.task}, but xtremedistil distils one vector per text. Use soft_targets, or for tags bilstm "
            "with --set copies=0."
        )
    if teacher.width("hidden_states") is None or teacher.family in NOT_TRANSFORMERS:
        raise UserError(
            f"the teacher is a {teacher.family} model, but xtremedistil distils the [CLS] state of a transformer. Use a transformer."
        )
    if (
        settings.joint
        and settings.joint.pseudo_labels
        and (data.task != "classification" or "unlabelled" not in data.splits)
    ):
        raise UserError(
            f"joint.pseudo_labels needs classes and a split 'unlabelled'; {data.name} is for {data.task} and has the splits "
            f"{', '.join(data.splits)}. Add the split, or remove joint.pseudo_labels."
        )
    student = bilstm(
        teacher,
        pair=data.is_pair,
        embedding_from=teacher,
        embedding_size=min(settings.embedding_size, teacher.encoder.embedding.output_dim),
        lstm_size=settings.lstm_size,
        dense_size=0,
        dropout=settings.dropout,
        pooling="max",
    )
    labels = HardLabels(task=data.task)
    common: dict[str, Any] = {"optimizer": "adam", "patience": settings.patience}
    if settings.joint is not None:
        terms = joint_terms(teacher, data.task, settings, settings.joint)
        stages: tuple[Stage, ...] = (settings.stage("joint", terms, **common),)
    else:
        # Of a sigmoid the log-odds are the logits, and regression has no probabilities.
        log_odds = settings.logit_target == "log_odds" and data.task == "classification"
        loss = losses.half_squared_log_odds if log_odds else losses.half_squared_distance
        logits = settings.stage("logits", (Match(loss),), **common)
        stages = (
            settings.stage("representation", (representation_term(teacher, settings),), monitor="loss", **common),
            *gradual_unfreezing(logits, student),
            *gradual_unfreezing(settings.stage("labels", (labels,), **common), student),
        )
    return settings.recipe(
        "xtremedistil",
        teacher=teacher,
        student=student,
        data=data,
        stages=stages,
    )


def representation_term(teacher: TextModel, settings: Settings, weight: float = 1.0) -> Match:
    """Return the term between GELU(W·r + b), r the student's pooled vector, and one layer's [CLS] state of the teacher."""
    return Match(
        losses.representation_kl if settings.representation == "kl" else losses.representation_mse,
        on="pooled",
        teacher_on="hidden_states",
        layers=((1, settings.layer or teacher.num_layers),),
        project="gelu",
        weight=weight,
        name="representation",
    )


def joint_terms(teacher: TextModel, task: str, settings: Settings, weights: Joint) -> tuple[Term, ...]:
    """Return the terms of the joint version; a term with weight 0 is left out."""
    terms: tuple[Term, ...] = (
        HardLabels(task=task, weight=weights.hard_weight),
        soft_term(task, 1.0, weights.soft_weight),
        representation_term(teacher, settings, weights.representation_weight),
    )
    if weights.pseudo_labels:
        terms += (PseudoLabels(weight=weights.pseudo_labels),)
    return tuple(term for term in terms if term.weight)
