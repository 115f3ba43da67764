"""MobileBERT (Sun, Yu, Song, Liu, Yang and Zhou 2020, "MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices").

    each layer:   100·MSE(LN₀(H_s), LN₀(H_t)) + 5000·(mean_s - mean_t)² + 5·|var_s - var_t|  +  CE(σ(A_t), σ(A_s))
    plain text:   ½·MLM + ½·CE(σ(z_t), σ(z_s)) at the masked positions, + next sentence (if the teacher has its head)
    task:         (1 - λ)·CE(y, σ(z_s)) + λ·T²·KL(σ(z_t/T) ‖ σ(z_s/T))

The student is deep and thin: it has the teacher's layers, heads and hidden size, and a bottleneck inside each layer, so that
layer is matched to layer without projections. The student of an IB-BERT starts with its embeddings, pooler and heads; of
another transformer it takes only the token table (by SVD), and the embeddings are trained with the first layer. With a
general stage (`general`) the schedule runs on plain text against a teacher with masked LM (and next sentence), and the
student is then fine-tuned on labels, as in the paper; so is `student=hf:DIR`. Without one, the schedule runs on the task
(`transfer`), with λ = ½. LN₀ has no parameters. Weights 100, 5000 and 5 are the authors' code's, as are LAMB, weight decay
0.01 and clipping at 1 in pre-training.

Idea:      thin layers between wide hidden states, so that every layer can copy its teacher's
Command:   tfdistill finetune hf:IB_BERT --task glue/mrpc --out TEACHER
           tfdistill train mobilebert --teacher TEACHER --task glue/mrpc --out GENERAL --set general.only=true
               --set general.text=WIKIPEDIA --set general.teacher=hf:IB_BERT
           tfdistill train mobilebert --teacher TEACHER --task glue/mrpc --out RUN --set student=hf:GENERAL/student
           On the task alone, which is not in the paper: tfdistill train mobilebert --teacher TEACHER --data DATA --out RUN
Published: test, 25.3M: GLUE 77.7 (BERT-base 78.3), MRPC 88.8, SQuAD 1.1 dev 82.9/90.0, Pixel 4 62 ms (342 ms)
           TINY, 15.1M: GLUE 75.8, SQuAD 1.1 dev 81.4/88.6, Pixel 4 40 ms
           These are scores of the general stage with fine-tuning; there is no published score of the task alone.
Cost:      a forward of a teacher twelve times as large in each step; 24·10K and 500K steps of 2048 sequences in the paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tfdistill.corpora.masking import Masking
from tfdistill.data.dataset import Data
from tfdistill.distill import losses
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.mapping import uniform
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.limits import most_tokens
from tfdistill.recipes._general_stage import (
    GeneralSettings,
    SegmentedGeneral,
    general_stages_only,
    plain_text,
    pretrained_teacher,
)
from tfdistill.recipes._students import make_student
from tfdistill.system.console import say
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.schedules import progressive
from tfdistill.training.settings import Group
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.stage import Stage
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class GeneralStage(SegmentedGeneral):
    """Declare the schedule on plain text."""

    learning_rate: float = Field(1.5e-3, gt=0, description="peak learning rate")
    transfer_epochs: float = Field(1, gt=0, description="epochs for each layer; joint: this times the number of layers")


class Transfer(Group):
    """Declare the transfer of the layers on the task."""

    epochs: float = Field(1, gt=0, description="epochs for each layer; joint: this times the number of layers")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")


class Settings(GeneralSettings):
    general: GeneralStage | None = Field(None, description="the schedule on plain text")
    student: str = Field(
        "mobilebert", description="mobilebert or mobilebert_tiny, whose sizes follow the teacher's; or hf:DIR"
    )
    bottleneck: int | None = Field(
        None, ge=1, description="size inside the layers of a preset; a quarter of the hidden size by default"
    )
    schedule: Literal["progressive", "joint", "auxiliary"] = Field(
        "progressive", description="layer after layer, all layers and then the predictions, or all losses together"
    )
    lower_rate: float = Field(
        0.0, ge=0, le=1, description="progressive: share of the learning rate for the layers below"
    )
    feature_weight: float = Field(1.0, ge=0, description="weight of the feature maps")
    attention_weight: float = Field(1.0, ge=0, description="weight of the attention")
    transfer: Transfer | None = Field(
        None, description="the schedule on the task: on by default without a general stage and without student=hf:DIR"
    )
    soft_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        description="λ, the share of soft targets on the task; 0 after a general stage without transfer, else 0.5",
    )
    temperature: float = Field(1.0, gt=0, description="T on the task")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the predictions on the task")
    max_length: int = Field(128, ge=5, le=512, description="tokens of an example")

    @property
    def task_transfer(self) -> Transfer | None:
        """Return the transfer of the layers on the task, or `None`."""
        if "transfer" in self.model_fields_set:
            return self.transfer
        return None if self.after_general else Transfer()

    @property
    def after_general(self) -> bool:
        """Return whether a general stage comes before the task, in this run or in the run of `student`."""
        return self.general is not None or self.student.startswith("hf:")

    @property
    def soft_share(self) -> float:
        """Return λ. After a general stage the paper fine-tunes on labels."""
        if self.soft_weight is None:
            return 0.0 if self.after_general and self.task_transfer is None else 0.5
        return self.soft_weight


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    """Return the recipe: the schedule on plain text, and the schedule or fine-tuning on the task."""
    settings = (settings or Settings()).like(teacher)
    if settings.student.startswith("hf:"):
        student, copied = make_student(teacher, settings.student), True
    else:
        student, copied = thin_student(teacher, settings)
    stages: tuple[Stage, ...] = ()
    if settings.general is not None:
        stages = general_stages(student, settings.general, settings)
        copied = True
    predictions = soft_and_hard_terms(data.task, settings.soft_share, settings.temperature)
    base = settings.stage("task", predictions)
    transfer = settings.task_transfer
    if transfer is not None:
        layers = layer_terms(student, teacher, settings)
        stages += schedule(
            base, student, layers, settings, transfer.epochs, transfer.learning_rate, embeddings=not copied
        )
    else:
        stages += (base,)
    return settings.recipe(
        "mobilebert",
        teacher=teacher,
        student=student,
        data=data,
        stages=general_stages_only(stages) if settings.general_only else stages,
    )


def thin_student(teacher: TextModel, settings: Settings, task: str | None = None) -> tuple[TextModel, bool]:
    """Return the student, and whether it has the teacher's embeddings and head.

    Raises:
        UserError: the teacher is not a transformer.
    """
    sizes = teacher.config
    if teacher.family == "pruned_bert" or "queries" not in teacher.offers:
        raise UserError(
            f"the teacher is a {teacher.family} model. Use an IB-BERT, or another transformer that is not pruned."
        )
    heads = sizes.num_attention_heads
    inside = settings.bottleneck or heads * max(1, sizes.hidden_size // (4 * heads))
    changes: dict[str, Any] = {
        "hidden_size": sizes.hidden_size,
        "num_hidden_layers": sizes.num_hidden_layers,
        "num_attention_heads": heads,
        "intra_bottleneck_size": inside,
        "intermediate_size": 4 * inside,
        "max_position_embeddings": most_tokens(sizes),
        "type_vocab_size": getattr(sizes, "type_vocab_size", 0) or 2,  # a DistilBERT has none
    }
    is_bottleneck_teacher = teacher.family == "mobilebert"
    if is_bottleneck_teacher:
        names = ("embedding_size", "trigram_input", "classifier_activation")
        changes |= {name: getattr(sizes, name) for name in names}
    else:
        changes["embedding_size"] = min(128, teacher.encoder.embedding.output_dim)
    student = presets.student(settings.student, like=teacher, task=task, **changes)
    if is_bottleneck_teacher:
        presets.copy_ends(student, teacher)
    else:
        table = teacher.encoder.embedding.embeddings.numpy()
        student.encoder.embedding.embeddings.assign(presets.reduced_table(table, changes["embedding_size"]))
    return student, is_bottleneck_teacher


def general_stages(student: TextModel, general: GeneralStage, settings: Settings) -> tuple[Stage, ...]:
    """Return the schedule on plain text; `student` gets the encoder that it starts with."""
    if settings.student.startswith("hf:"):
        raise UserError(f"student={settings.student} has had its general stage. Remove general.*, or name a preset.")
    teacher = pretrained_teacher(general)
    if teacher.task not in ("pretraining", "masked_lm"):
        raise UserError(
            f"{general.teacher} is a {teacher.task} model, and the general stage needs pretraining or masked_lm. "
            "Make one with `tfdistill pretrain`."
        )
    pairs = teacher.task == "pretraining"
    if not pairs:
        say(f"no next-sentence prediction: {general.teacher} has a masked-LM head only")
    learner, copied = thin_student(teacher, settings)
    copy_encoder(learner, student)
    predictions: tuple[Term, ...] = (
        Match(losses.soft_cross_entropy, weight=0.5, where="labelled"),
        HardLabels(task="masked_lm", weight=0.5, name="masked_lm"),
    )
    if pairs:
        predictions += (HardLabels(task="next_sentence", name="next_sentence"),)
    base = general.stage(
        "plain text",
        predictions,
        optimizer="lamb",
        weight_decay=settings.weight_decay,
        source=plain_text(general, teacher, student, Masking(whole_words=general.whole_words), next_sentence=pairs),
        teacher=teacher,
        student=learner,
    )
    layers = layer_terms(learner, teacher, settings)
    return schedule(
        base, learner, layers, settings, general.transfer_epochs, general.learning_rate, embeddings=not copied
    )


def schedule(
    base: Stage,
    student: TextModel,
    layers: list[tuple[Match, ...]],
    settings: Settings,
    epochs: float,
    learning_rate: float,
    *,
    embeddings: bool,
) -> tuple[Stage, ...]:
    """Return the transfer of the layers around or before `base`, the distillation of predictions (section 3.4).

    Args:
        layers: the terms of each layer, from the bottom up.
        epochs: epochs of the transfer of each layer.
        learning_rate: its peak learning rate.
        embeddings: whether the embeddings are trained with the first layer.
    """
    together = tuple(term for terms in layers for term in terms)
    if settings.schedule == "auxiliary":
        return (replace(base, terms=base.terms + together, rows="all"),)
    transfer = replace(
        base,
        name=f"{base.name}: transfer",
        terms=together,
        epochs=epochs,
        learning_rate=learning_rate,
        rows="all",
        evaluations=1,
        keep_best=False,
    )
    if settings.schedule == "joint":
        return (replace(transfer, epochs=epochs * len(layers)), base)
    return (*progressive(transfer, student, layers, lower_rate=settings.lower_rate, embeddings=embeddings), base)


def layer_terms(student: TextModel, teacher: TextModel, settings: Settings) -> list[tuple[Match, ...]]:
    """Return the feature-map and attention transfer of each layer (section 3.3)."""
    groups = []
    for pair in uniform(student.num_layers, teacher.num_layers):
        feature = Match(
            losses.feature_map,
            on="hidden_states",
            layers=(pair,),
            weight=settings.feature_weight,
            name=f"feature_map_{pair[0]}",
        )
        attention = Match(
            losses.attention_cross_entropy,
            on="attention_scores",
            layers=(pair,),
            weight=settings.attention_weight,
            name=f"attention_{pair[0]}",
        )
        groups.append(tuple(term for term in (feature, attention) if term.weight))
    return groups
