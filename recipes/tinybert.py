"""TinyBERT (Jiao, Yin, Shang, Jiang, Chen, Li, Wang and Liu 2020, "TinyBERT: Distilling BERT for Natural Language Understanding").

    transformer layers: MSE(E_s·W_e, E_t) + Σ_m [ MSE(H_m·W_h, H_g(m)) + (1/h)·Σ_heads MSE(A_m, A_g(m)) ]
    prediction layer:   CE(σ(z_t/T), σ(z_s/T)),  T = 1

The general stage (`general`) trains the first loss on plain text against a pre-trained teacher. The task stages train the
first loss (`transformer`), then the second, on augmented examples. A is the attention before mask and softmax, compared
over real queries and keys only, so that padding changes nothing. W is linear, one for each layer. `--task` sets what the
paper sets for each GLUE task; the learning_rate is the best of {1e-5, 2e-5, 3e-5} on dev.

Idea:      embeddings, attention, hidden states and predictions, in two stages, on augmented examples
Command:   tfdistill finetune hf:BERT --task glue/mrpc --out TEACHER
           tfdistill train tinybert --teacher TEACHER --task glue/mrpc --out GENERAL --set general.only=true
               --set general.text=WIKIPEDIA --set general.teacher=hf:BERT
           tfdistill train tinybert --teacher TEACHER --task glue/mrpc --out RUN --set student=hf:GENERAL/student
Published: test, 4×312: MNLI 82.5/81.8, QQP 71.3, QNLI 87.7, SST-2 92.6, CoLA 44.1, STS-B 80.4, MRPC 86.4, RTE 66.6, mean 77.0
           6×768: 84.6/83.2, 71.6, 90.4, 93.1, 51.1, 83.7, 87.3, 70.0, mean 79.4 (BERT-base 79.5)
Cost:      one teacher forward in each step of the transformer stage; 20 epochs over 21 times the examples is most of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from tfdistill.augment.tang import augment_split
from tfdistill.data.dataset import Data
from tfdistill.distill import losses
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.recipes._augmentation import MaskedLMAugmentation
from tfdistill.recipes._general_stage import GeneralSettings, general_stages_only, plain_text, pretrained_teacher
from tfdistill.recipes._students import STUDENT, StudentSettings, layer_pairs, make_student, read_projections
from tfdistill.system.console import say
from tfdistill.training.answers import without_copies
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import Group
from tfdistill.training.soft_terms import cross_entropy_term
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# Copies are from the authors' code, which sets them for each task.
_MLM = "augmentation.masked_lm=teacher"
GLUE = {
    "cola": ("transformer.epochs=50", "copies=30", _MLM),
    "mnli": ("transformer.epochs=10", "copies=10", _MLM),
    "mrpc": ("copies=30", _MLM),
    "qnli": ("transformer.epochs=10", _MLM),
    "qqp": ("transformer.epochs=10", "copies=10", _MLM),
    "rte": ("copies=30", _MLM),
    "sst2": (_MLM,),
    "stsb": ("copies=0",),
    "wnli": (_MLM,),
}


class Transformer(Group):
    """Declare the transformer losses (equations 7 to 9), and the task stage that trains them."""

    epochs: float = Field(20, ge=0, description="epochs of the task stage; 0 leaves it out")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the task stage")
    mapping: str = Field("uniform", description="uniform, top, bottom, or pairs student:teacher such as 1:2,2:4")
    projection: Literal["auto", "per_layer", "shared", "identity"] = Field(
        "auto", description="projections W; auto: per_layer, but identity for student=layers"
    )
    embedding_weight: float = Field(1.0, ge=0, description="weight of the embedding loss")
    hidden_weight: float = Field(1.0, ge=0, description="weight of the hidden-state loss")
    attention_weight: float = Field(1.0, ge=0, description="weight of the attention loss")


class Settings(GeneralSettings, StudentSettings):
    student: str = Field("tinybert_4l_312", description=STUDENT)
    transformer: Transformer = Field(Transformer(), description="the transformer losses")
    temperature: float = Field(1.0, gt=0, description="T of the prediction loss")
    learning_rate: float = Field(3e-5, gt=0, description="peak learning rate of the prediction stage")
    copies: int = Field(20, ge=0, description="augmented copies of each training text")
    augmentation: MaskedLMAugmentation | None = Field(
        None, description="the paper's augmentation; without it, words are masked and n-grams kept"
    )
    max_length: int = Field(64, ge=5, le=512, description="tokens of an example; 128 for pairs by default")

    @property
    def matches_layers(self) -> bool:
        return self.transformer.epochs > 0 and self.transformer.hidden_weight + self.transformer.attention_weight > 0

    def for_debug(self) -> Self:
        """Return these settings with few steps of a masked LM, too."""
        small = super().for_debug()
        if small.augmentation is None:
            return small
        return small.model_copy(update={"augmentation": small.augmentation.for_debug()})


@with_teacher
def recipe(teacher: TextModel, data: Data, settings: Settings | None = None) -> Recipe:
    """Return the recipe: general stage, transformer layers, prediction layer."""
    settings = without_copies(settings or Settings(), teacher).like(teacher)
    student = make_student(teacher, settings.student, settings.num_layers, **_heads(teacher, settings))
    transformer, general, stages = settings.transformer, settings.general, []
    if transformer.epochs and not settings.general_only:
        _require_heads(student, teacher, settings)
    if general is not None:
        pretrained = pretrained_teacher(general)
        _require_heads(student, pretrained, settings)
        stages.append(
            general.stage(
                "general",
                transformer_terms(student, pretrained, settings),
                weight_decay=settings.weight_decay,
                source=plain_text(general, pretrained, student),
                teacher=pretrained,
            )
        )
    if transformer.epochs:
        stages.append(
            settings.stage(
                "transformer layers",
                transformer_terms(student, teacher, settings),
                epochs=transformer.epochs,
                learning_rate=transformer.learning_rate,
                keep_best=False,
            )
        )
    # Equation 10.
    stages.append(settings.stage("prediction layer", (cross_entropy_term(data.task, settings.temperature),)))
    if settings.general_only:
        stages, augmented = list(general_stages_only(stages)), {"augment": None}
    else:
        augmented = _augmented(teacher, settings)
    return settings.recipe(
        "tinybert",
        teacher=teacher,
        student=student,
        data=data,
        stages=tuple(stages),
        max_length=settings.max_length if "max_length" in settings.model_fields_set or not data.is_pair else 128,
        projections=read_projections(settings.student) if settings.student.startswith("hf:") else {},
        **augmented,
    )


def transformer_terms(student: TextModel, teacher: TextModel, settings: Settings) -> tuple[Match, ...]:
    """Return equations 7 to 9, summed over the layer pairs; a term with weight 0 is left out."""
    group = settings.transformer
    pairs = layer_pairs(group.mapping, student.num_layers, teacher.num_layers)
    kind = group.projection
    if kind == "auto":
        kind = "identity" if settings.student == "layers" else "per_layer"
    project = {"per_layer": "fit", "shared": "shared", "identity": None}[kind]
    hidden = Match(losses.hidden_mse, on="hidden_states", layers=pairs, project=project, weight=group.hidden_weight)
    embedding = Match(losses.hidden_mse, on="embeddings", project=project, weight=group.embedding_weight)
    attention = Match(losses.attention_mse, on="attention_scores", layers=pairs, weight=group.attention_weight)
    return tuple(term for term in (embedding, hidden, attention) if term.weight)


def _augmented(teacher: TextModel, settings: Settings) -> dict[str, Any]:
    group = settings.augmentation
    if not settings.copies:
        return {"augment": None}
    if group is None:
        return {"augment": augment_split(settings.copies)}
    return {"augment": group.split_maker(teacher, settings.copies), "breaks": group.breaks(teacher)}


def _heads(teacher: TextModel, settings: Settings) -> dict[str, Any]:
    """Give a preset the teacher's number of heads if that divides its width: heads are compared one to one."""
    group = settings.transformer
    compared = group.attention_weight and group.epochs
    if settings.student == "layers" or settings.student.startswith("hf:") or not compared:
        return {}
    heads, sizes = getattr(teacher.config, "num_attention_heads", None), presets.config(settings.student)
    preset_heads = getattr(sizes, "num_attention_heads", None)
    if preset_heads is None or heads is None or preset_heads == heads or sizes.hidden_size % heads:
        return {}
    say(
        f"the student has {heads} attention heads like the teacher, instead of the {preset_heads} of {settings.student}"
    )
    return {"num_attention_heads": heads}


def _require_heads(student: TextModel, teacher: TextModel, settings: Settings) -> None:
    heads, teacher_heads = (getattr(model.config, "num_attention_heads", None) for model in (student, teacher))
    if settings.transformer.attention_weight and heads != teacher_heads:
        raise UserError(
            f"the student has {heads or 'no'} attention heads and the teacher {teacher_heads or 'none'}, but heads are compared "
            "one to one. Choose student=layers or another student, or set transformer.attention_weight=0."
        )
