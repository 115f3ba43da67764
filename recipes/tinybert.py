"""TinyBERT (Jiao, Yin, Shang, Jiang, Chen, Li, Wang and Liu 2020, "TinyBERT: Distilling BERT for Natural Language Understanding").

    transformer layers: MSE(E_s·W_e, E_t) + Σ_m [ MSE(H_m·W_h, H_g(m)) + (1/h)·Σ_heads MSE(A_m, A_g(m)) ]
    prediction layer:   CE(σ(z_t/T), σ(z_s/T)),  T = 1

Task distillation on augmented data: the first loss (`intermediate_epochs`), then the second (`epochs`). With `text` the general
stage goes before: the first loss on plain text, against the pre-trained teacher `general_teacher`; `general_only` ends there, and
`student=hf:DIR` takes the student of such a run, with its maps W. A preset takes the teacher's number of heads where its width
allows. A is before mask and softmax and compared over real queries and keys, so that padding changes nothing (the authors average
over padding too). W is linear and one for each layer; `projection=shared` takes one for all, "identity" none. Of the published
settings these depend on the task (`--task` sets them): intermediate_epochs 10 for MNLI, QQP, QNLI and 50 for CoLA; copies 30 for
CoLA, MRPC, RTE and 10 for MNLI, QQP; STS-B has copies 0; the learning_rate is the best of {1e-5, 2e-5, 3e-5} on dev. `mlm` makes
the paper's augmented texts: words exchanged for what a masked LM puts in their place, or for neighbours in GloVe (the authors':
840B with 300 numbers, a file that `glove` takes). `--task` sets mlm=teacher: the head of the directory that the teacher was
fine-tuned from (hf:BERT, as in the paper), or one trained on the task's texts where that has none. Without `mlm`, the default on
any other data, words are masked and n-grams kept.

Idea:      embeddings, attention, hidden states and predictions, in two stages, on augmented data
Command:   tfdistill finetune hf:BERT --task glue/mrpc --out TEACHER
           tfdistill train tinybert --teacher TEACHER --task glue/mrpc --out GENERAL --set general_only=true --set text=WIKIPEDIA
               --set general_teacher=hf:BERT
           tfdistill train tinybert --teacher TEACHER --task glue/mrpc --out RUN --set student=hf:GENERAL/student
Published: test, 4×312: MNLI 82.5/81.8, QQP 71.3, QNLI 87.7, SST-2 92.6, CoLA 44.1, STS-B 80.4, MRPC 86.4, RTE 66.6, mean 77.0
           6×768: 84.6/83.2, 71.6, 90.4, 93.1, 51.1, 83.7, 87.3, 70.0, mean 79.4 (BERT-base 79.5)
Cost:      one teacher forward in each step of the intermediate stage; 20 epochs over 21 times the data is most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tfdistill.augment.tang import augment_split
from tfdistill.data.dataset import Data
from tfdistill.data.splits import Split
from tfdistill.distill import losses
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.text_model import TextModel
from tfdistill.recipes._shared import (
    STUDENT,
    TEACHER,
    GeneralSettings,
    general_stages_only,
    layer_pairs,
    make_student,
    masked_word_augmentation,
    plain_text,
    pretrained_teacher,
    read_projections,
)
from tfdistill.system.console import say
from tfdistill.training.recipe import Recipe
from tfdistill.training.soft_terms import cross_entropy_term
from tfdistill.training.stage import Stage
from tfdistill.training.task_masked_lm import BY_THE_CLOCK, DEBUG_STEPS, MINUTES
from tfdistill.training.word_candidates import own_masked_lm

# Copies are those of the authors' code, which says them for each task.
TASKS = {
    "cola": ("intermediate_epochs=50", "copies=30", "mlm=teacher"),
    "mnli": ("intermediate_epochs=10", "copies=10", "mlm=teacher"),
    "mrpc": ("copies=30", "mlm=teacher"),
    "qnli": ("intermediate_epochs=10", "mlm=teacher"),
    "qqp": ("intermediate_epochs=10", "copies=10", "mlm=teacher"),
    "rte": ("copies=30", "mlm=teacher"),
    "sst2": ("mlm=teacher",),
    "stsb": ("copies=0",),
    "wnli": ("mlm=teacher",),
}
OF_COPIES = ("mlm",)


class Settings(GeneralSettings):
    student: str = Field("tinybert_4l_312", description=STUDENT)
    num_layers: int | None = Field(None, ge=1, description="layers of the student, for student=layers")
    mapping: str = Field("uniform", description="uniform, top, bottom, or pairs student:teacher such as 1:2,2:4")
    projection: Literal["auto", "per_layer", "shared", "identity"] = Field(
        "auto", description="maps between the widths; auto: per_layer, but identity for student=layers"
    )
    embedding_weight: float = Field(1.0, ge=0, description="weight of the embedding loss")
    hidden_weight: float = Field(1.0, ge=0, description="weight of the hidden-state loss")
    attention_weight: float = Field(1.0, ge=0, description="weight of the attention loss")
    temperature: float = Field(1.0, gt=0, description="T of the prediction loss")
    intermediate_epochs: float = Field(20, ge=0, description="epochs of the transformer losses; 0 leaves the stage out")
    intermediate_learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the transformer losses")
    learning_rate: float = Field(3e-5, gt=0, description="peak learning rate of the prediction stage")
    copies: int = Field(20, ge=0, description="augmented copies of each training text")
    mlm: str | None = Field(
        None,
        description="masked LM for the augmentation of the paper: hf:DIR, or teacher: the teacher's own or that of the model it was "
        "made of, else one trained on the task's texts; without it: masks and n-grams",
    )
    mlm_minutes: float = Field(MINUTES, gt=0, description="how long mlm=teacher trains a masked LM where there is none")
    mlm_steps: int | None = Field(None, ge=1, description="steps in their place, which are the same on every machine")
    p_replace: float = Field(0.4, ge=0, le=1, description="p_t, share of words exchanged in augmented texts, with mlm")
    candidates: int = Field(15, ge=1, description="K, words that each of them is chosen from")
    glove: str | None = Field(
        None, description="GloVe text file for words of several pieces; 6B with 50 numbers if not set"
    )
    max_length: int = Field(64, ge=5, le=512, description="word pieces; 128 for pairs if it is not set")

    @model_validator(mode="after")
    def _what_is_set_is_read(self) -> Self:
        self.only_with(self.copies > 0, "copies above 0", *OF_COPIES)
        self.only_with(self.mlm is not None, "mlm=hf:DIR or mlm=teacher", "p_replace", "candidates", "glove")
        self.only_with(self.mlm == TEACHER, "mlm=teacher", "mlm_minutes", "mlm_steps")
        self.only_with(self.mlm_steps is None, "no mlm_steps", "mlm_minutes")
        self.only_with(self.intermediate_epochs > 0, "intermediate_epochs above 0", "intermediate_learning_rate")
        layered = ("mapping", "projection", "embedding_weight", "hidden_weight", "attention_weight")
        transformer = self.intermediate_epochs > 0 or self.text is not None
        self.only_with(transformer, "intermediate_epochs above 0 or plain text", *layered)
        return self

    def for_debug(self) -> Self:
        """With few steps of a masked LM, too."""
        small = super().for_debug()
        return small.model_copy(update={"mlm_steps": DEBUG_STEPS}) if small.mlm == TEACHER else small


def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    settings = settings or Settings()
    student = make_student(teacher, settings.student, settings.num_layers, **_heads(teacher, settings))
    if settings.intermediate_epochs and not settings.general_only:
        _require_heads(student, teacher, settings)
    stages = []
    if settings.text is not None:
        general = pretrained_teacher(settings)
        _require_heads(student, general, settings)
        stages.append(
            Stage(
                "general",
                transformer_terms(student, general, settings),
                epochs=settings.general_epochs,
                learning_rate=settings.general_learning_rate,
                batch_size=settings.general_batch_size,
                weight_decay=settings.weight_decay,
                source=plain_text(settings, general, student),
                teacher=general,
                keep_best=False,
            )
        )
    if settings.intermediate_epochs:
        stages.append(
            settings.stage(
                "transformer layers",
                transformer_terms(student, teacher, settings),
                epochs=settings.intermediate_epochs,
                learning_rate=settings.intermediate_learning_rate,
                keep_best=False,
            )
        )
    # Equation 10.
    prediction = cross_entropy_term(data.task, settings.temperature)
    stages.append(settings.stage("prediction layer", (prediction,)))
    return settings.recipe(
        "tinybert",
        teacher=teacher,
        student=student,
        data=data,
        stages=general_stages_only(stages) if settings.general_only else tuple(stages),
        augment=None if settings.general_only else augmentation(settings, teacher),
        breaks=() if settings.general_only else breaks(settings, teacher),
        max_length=settings.max_length if "max_length" in settings.model_fields_set or not data.is_pair else 128,
        projections=read_projections(settings.student) if settings.student.startswith("hf:") else {},
    )


def _heads(teacher: TextModel, settings: Settings) -> dict[str, Any]:
    """The teacher's number of heads for a preset that has another one, where that divides its width: heads are compared one to one."""
    if settings.student == "layers" or settings.student.startswith("hf:") or not settings.attention_weight:
        return {}
    theirs, sizes = getattr(teacher.config, "num_attention_heads", None), presets.config(settings.student)
    ours = getattr(sizes, "num_attention_heads", None)
    if ours is None or theirs is None or ours == theirs or sizes.hidden_size % theirs:
        return {}
    say(f"the student has {theirs} attention heads, as the teacher, in place of the {ours} of {settings.student}")
    return {"num_attention_heads": theirs}


def _require_heads(student: TextModel, teacher: TextModel, settings: Settings) -> None:
    """Raises UserError where the attention scores of both cannot be compared."""
    ours, theirs = (getattr(model.config, "num_attention_heads", None) for model in (student, teacher))
    if settings.attention_weight and ours != theirs:
        raise UserError(
            f"the student has {ours or 'no'} attention heads, the teacher {theirs or 'none'}, whose scores are compared one to one; "
            "expected as many: student=layers or another student, or --set attention_weight=0"
        )


def transformer_terms(student: TextModel, teacher: TextModel, settings: Settings) -> tuple[Match, ...]:
    """Equations 7 to 9, summed over the layer pairs. Terms of weight 0 are left out."""
    pairs = layer_pairs(settings.mapping, student.num_layers, teacher.num_layers)
    project = {"per_layer": "fit", "shared": "shared", "identity": None}
    kind = settings.projection
    if kind == "auto":
        kind = "identity" if settings.student == "layers" else "per_layer"
    hidden = Match(
        losses.hidden_mse, on="hidden_states", layers=pairs, project=project[kind], weight=settings.hidden_weight
    )
    embedding = Match(losses.hidden_mse, on="embeddings", project=project[kind], weight=settings.embedding_weight)
    attention = Match(losses.attention_mse, on="attention_scores", layers=pairs, weight=settings.attention_weight)
    return tuple(term for term in (embedding, hidden, attention) if term.weight)


def augmentation(settings: Settings, teacher: TextModel) -> Callable[[Split, int], Split] | None:
    if not settings.copies:
        return None
    if settings.mlm is None:
        return augment_split(settings.copies)
    return masked_word_augmentation(
        settings.mlm,
        teacher,
        settings.copies,
        p=settings.p_replace,
        k=settings.candidates,
        glove=settings.glove,
        minutes=settings.mlm_minutes,
        steps=settings.mlm_steps,
    )


def breaks(settings: Settings, teacher: TextModel) -> tuple[str, ...]:
    """Why another machine may augment other texts."""
    trains = settings.copies and settings.mlm == TEACHER and own_masked_lm(teacher) is None
    return (BY_THE_CLOCK,) if trains and settings.mlm_steps is None else ()
