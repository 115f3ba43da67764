"""MobileBERT (Sun, Yu, Song, Liu, Yang and Zhou 2020, "MobileBERT: a Compact Task-Agnostic BERT for Resource-Limited Devices").

    each layer:   100·MSE(LN₀(H_s), LN₀(H_t)) + 5000·(mean_s - mean_t)² + 5·|var_s - var_t|  +  CE(σ(A_t), σ(A_s))
    plain text:   ½·MLM + ½·CE(σ(z_t), σ(z_s)) at the masked positions, + next sentence (where the teacher has its head)
    task:         (1 - λ)·CE(y, σ(z_s)) + λ·T²·KL(σ(z_t/T) ‖ σ(z_s/T))

The student is deep and thin: as many layers and heads as the teacher, the same width between layers, a bottleneck inside. So layer is
matched to layer without projections. Schedules: "auxiliary" (all losses together), "joint" (all layers first, then the predictions),
"progressive" (layer after layer from the bottom up, what is below held still or at `lower_rate`, then the predictions).
Teacher: an IB-BERT, whose embeddings, pooler and heads the student starts from; of another transformer only the word-piece table is
taken (by SVD) and the embeddings are trained with the first layer. With `text` the schedule runs on plain text, against
`general_teacher`, a model for pre-training (MLM and next sentence) or masked LM, and the student is fine-tuned on the task, as in the
paper; so is `student=hf:DIR`, the student of such a run. λ is 0 in this fine-tuning, labels alone as in the paper, unless
`soft_weight` is set. Without either the schedule runs on the task, with λ 1/2; `transfer_epochs` above 0 runs it there in any case.
LN₀ has no parameters. Weights 100, 5000, 5 are the authors' code's, as are LAMB, weight decay 0.01 and clipping at 1 in pre-training.

Idea:      thin layers with a wide body, so that every layer can copy its teacher's
Command:   tfdistill finetune hf:IB_BERT --task glue/mrpc --out TEACHER
           tfdistill train mobilebert --teacher TEACHER --task glue/mrpc --out GENERAL --set general_only=true --set text=WIKIPEDIA
               --set general_teacher=hf:IB_BERT
           tfdistill train mobilebert --teacher TEACHER --task glue/mrpc --out RUN --set student=hf:GENERAL/student
           or on the task alone, which is not in the paper: tfdistill train mobilebert --teacher TEACHER --data DATA --out RUN
Published: test, 25.3M: GLUE 77.7 (BERT-base 78.3), MRPC 88.8, SQuAD 1.1 dev 82.9/90.0, Pixel 4 62 ms (342 ms)
           TINY, 15.1M: GLUE 75.8, SQuAD 1.1 dev 81.4/88.6, Pixel 4 40 ms
           These belong to the general stage with fine-tuning after it; none is known of the task alone.
Cost:      a forward of a teacher twelve times as large in each step; 24·10K and 500K steps of 2048 sequences in the paper.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tfdistill.corpora.masking import Masking
from tfdistill.data.dataset import Data
from tfdistill.distill import losses
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.mapping import uniform
from tfdistill.distill.match import Match
from tfdistill.distill.step import Term
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.text_model import TextModel
from tfdistill.recipes._shared import (
    SegmentedTextSettings,
    general_stages_only,
    make_student,
    plain_text,
    pretrained_teacher,
)
from tfdistill.system.console import say
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.schedules import progressive
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.stage import Stage


class Settings(SegmentedTextSettings):
    student: str = Field(
        "mobilebert", description="mobilebert or mobilebert_tiny, whose sizes follow the teacher's; or hf:DIR"
    )
    bottleneck: int | None = Field(None, ge=1, description="width inside the layers; a quarter of the body by default")
    schedule: Literal["progressive", "joint", "auxiliary"] = Field("progressive", description="order of the losses")
    lower_rate: float = Field(
        0.0, ge=0, le=1, description="progressive: share of the learning rate for the layers below"
    )
    feature_weight: float = Field(1.0, ge=0, description="weight of the feature maps")
    attention_weight: float = Field(1.0, ge=0, description="weight of the attention")
    transfer_epochs: float | None = Field(
        None,
        ge=0,
        description="on the task: epochs for each layer, as many times the layers where they go together; 0 fine-tunes alone. "
        "1 by default, 0 with text or student=hf:DIR",
    )
    general_transfer_epochs: float = Field(1, gt=0, description="the same on plain text")
    transfer_learning_rate: float = Field(
        1e-3, gt=0, description="peak learning rate of the transfer of layers on the task"
    )
    soft_weight: float | None = Field(
        None,
        ge=0,
        le=1,
        description="λ, the share of the soft targets on the task; 0.5 where the schedule runs on it, 0 after a general stage",
    )
    temperature: float = Field(1.0, gt=0, description="T on the task")
    general_learning_rate: float = Field(1.5e-3, gt=0, description="peak learning rate on plain text")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the predictions on the task")
    max_length: int = Field(128, ge=5, le=512, description="word pieces of an example")

    @property
    def task_transfer(self) -> float:
        """Epochs of the transfer for each layer on the task; 0 for none."""
        if self.transfer_epochs is None:
            return float(not self.after_general)
        return self.transfer_epochs

    @property
    def after_general(self) -> bool:
        """Whether a general stage comes before the task, in this run or in that of `student`."""
        return self.text is not None or self.student.startswith("hf:")

    @property
    def soft_share(self) -> float:
        """λ. After the general stage the paper fine-tunes on labels."""
        if self.soft_weight is None:
            return 0.0 if self.after_general and not self.task_transfer else 0.5
        return self.soft_weight

    @model_validator(mode="after")
    def _what_is_set_is_read(self) -> Self:
        epochs = ("transfer_epochs", "general_transfer_epochs", "transfer_learning_rate")
        self.only_with(self.schedule != "auxiliary", "schedule=progressive or joint", *epochs)
        self.only_with(self.schedule == "progressive", "schedule=progressive", "lower_rate")
        self.only_with(self.task_transfer > 0, "transfer_epochs above 0", "transfer_learning_rate")
        every = ("schedule", "lower_rate", "feature_weight", "attention_weight")
        self.only_with(self.task_transfer > 0 or self.text is not None, "transfer_epochs above 0", *every)
        self.only_with(self.soft_share > 0, "soft_weight above 0", "temperature")
        self.only_with(not self.student.startswith("hf:"), "student=mobilebert or mobilebert_tiny", "bottleneck")
        return self


def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    settings = settings or Settings()
    if settings.student.startswith("hf:"):
        student, copied = make_student(teacher, settings.student), True
    else:
        student, copied = thin_student(teacher, settings)
    stages: tuple[Stage, ...] = ()
    if settings.text is not None:
        stages = general_stages(student, settings)
        copied = True
    predictions = soft_and_hard_terms(data.task, settings.soft_share, settings.temperature)
    base = settings.stage("task", predictions)
    if settings.task_transfer:
        epochs, rate = settings.task_transfer, settings.transfer_learning_rate
        stages += schedule(base, student, teacher, settings, epochs=epochs, rate=rate, embeddings=not copied)
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
    """(student, whether it has the teacher's embeddings and head). Raises UserError for a teacher that is no transformer."""
    theirs = teacher.config
    if teacher.family not in ("bert", "distilbert", "mobilebert"):
        raise UserError(
            f"the teacher is a {teacher.family} model; a MobileBERT learns from an IB-BERT, a BERT or a DistilBERT, "
            "whose layers have as many heads as its own"
        )
    heads = theirs.num_attention_heads
    inside = settings.bottleneck or heads * max(1, theirs.hidden_size // (4 * heads))
    sizes: dict[str, Any] = {
        "hidden_size": theirs.hidden_size,
        "num_hidden_layers": theirs.num_hidden_layers,
        "num_attention_heads": heads,
        "intra_bottleneck_size": inside,
        "intermediate_size": 4 * inside,
        "max_position_embeddings": theirs.max_position_embeddings,
        "type_vocab_size": theirs.type_vocab_size or 2,  # a DistilBERT has none
    }
    is_bottleneck_teacher = teacher.family == "mobilebert"
    if is_bottleneck_teacher:
        names = ("embedding_size", "trigram_input", "classifier_activation")
        sizes |= {name: getattr(theirs, name) for name in names}
    else:
        sizes["embedding_size"] = min(128, theirs.hidden_size)
    student = presets.student(settings.student, like=teacher, task=task, **sizes)
    if is_bottleneck_teacher:
        presets.copy_ends(student, teacher)
    else:
        table = teacher.encoder.embedding.embeddings.numpy()
        student.encoder.embedding.embeddings.assign(presets.reduced_table(table, sizes["embedding_size"]))
    return student, is_bottleneck_teacher


def general_stages(student: TextModel, settings: Settings) -> tuple[Stage, ...]:
    """The schedule on plain text; `student` starts with the encoder that it ends with."""
    if settings.student.startswith("hf:"):
        raise UserError(f"student={settings.student} comes from a general stage; leave text out, or name a preset")
    general = pretrained_teacher(settings)
    if general.task not in ("pretraining", "masked_lm"):
        raise UserError(f"{settings.general_teacher} is a {general.task} model; expected pretraining or masked_lm")
    pairs = general.task == "pretraining"
    if not pairs:
        say(f"no next-sentence prediction: {settings.general_teacher} is a masked LM, and the student gets its heads")
    learner, copied = thin_student(general, settings)
    copy_encoder(learner, student)
    predictions: tuple[Term, ...] = (
        Match(losses.soft_cross_entropy, weight=0.5, where="labelled"),
        HardLabels(task="masked_lm", weight=0.5, name="masked_lm"),
    )
    if pairs:
        predictions += (HardLabels(task="next_sentence", name="next_sentence"),)
    base = Stage(
        "plain text",
        predictions,
        epochs=settings.general_epochs,
        learning_rate=settings.general_learning_rate,
        batch_size=settings.general_batch_size,
        optimizer="lamb",
        weight_decay=settings.weight_decay,
        source=plain_text(settings, general, student, Masking(whole_words=settings.whole_words), next_sentence=pairs),
        teacher=general,
        student=learner,
        keep_best=False,
    )
    epochs, rate = settings.general_transfer_epochs, settings.general_learning_rate
    return schedule(base, learner, general, settings, epochs=epochs, rate=rate, embeddings=not copied)


def schedule(
    base: Stage,
    student: TextModel,
    teacher: TextModel,
    settings: Settings,
    *,
    epochs: float,
    rate: float,
    embeddings: bool,
) -> tuple[Stage, ...]:
    """The transfer of the layers around or before `base`, the distillation of predictions (section 3.4)."""
    layers = layer_terms(student, teacher, settings)
    together = tuple(term for terms in layers for term in terms)
    if settings.schedule == "auxiliary":
        return (replace(base, terms=base.terms + together, rows="all"),)
    transfer = replace(
        base,
        name=f"{base.name}: transfer",
        terms=together,
        epochs=epochs,
        learning_rate=rate,
        rows="all",
        evaluations=1,
        keep_best=False,
    )
    if settings.schedule == "joint":
        return (replace(transfer, epochs=epochs * len(layers)), base)
    return (*progressive(transfer, student, layers, lower_rate=settings.lower_rate, embeddings=embeddings), base)


def layer_terms(student: TextModel, teacher: TextModel, settings: Settings) -> list[tuple[Match, ...]]:
    """Feature-map and attention transfer of each layer (section 3.3)."""
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
