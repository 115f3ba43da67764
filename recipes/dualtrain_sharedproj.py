"""DualTrain + SharedProj (Zhao, Gupta, Song and Zhou 2019, "Extreme Language Model Compression with Optimal Subwords and Shared
Projections", first version).

    L = Σ ‖θ_t - U·θ_s·V‖² + ε·(MLM_t + MLM_s)        (up; down: Σ ‖U·θ_t·V - θ_s‖²)

Patents are reported on this method: US 11,797,862 B2 and US 12,260,340 B2. Take advice before you use it commercially.

The student is as deep as its teacher and narrow, and has a small vocabulary learned from the plain text. With probability
`share`, a word of the teacher's input is split with the student's vocabulary, so that the teacher, which is trained too,
brings the tokens of both into one space; it has a softmax for each vocabulary. U and V are shared by all layers: one pair
for the hidden size, one for the feed-forward size. Vectors have V alone, and embeddings are not projected. After the
general stage the student is fine-tuned on labels. The paper does not give the feed-forward size (here 4·width), the heads
(here the most that divide the width, at most the teacher's), ε (1), or the initialization of U, V and of the teacher's rows
for new tokens. So the students are smaller than the paper's: with 4,928 tokens and 12 layers they have 6.42M, 1.87M and
0.60M parameters at widths 192, 96 and 48, 17, 58 and 182 times fewer than BERT-base (109.5M); the paper says 5.74, 19.41
and 61.94.

Idea:      parameters are matched through shared projections, vocabularies through mixed segmentation
Command:   tfdistill train dualtrain_sharedproj --teacher TEACHER --data DATA --out RUN --set general.text=DIR
               --set general.teacher=hf:BERT
Published: SharedProjUp, compression factor and MRPC F1: 5.74 (width 192) 84.9, 19.41 (96) 84.9, 61.94 (48) 79.3
Cost:      forward and backward of teacher and student in each step on plain text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tfdistill.corpora.masking import Masking, require_words
from tfdistill.corpora.two_vocabularies import MixedSequences, learn_vocabulary
from tfdistill.data.text_data import TextData
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.parameter_terms import SharedProjection, TeacherMaskedLM
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.limits import most_tokens
from tfdistill.recipes._general_stage import GeneralSettings, MaskedGeneral, plain_text, pretrained_teacher
from tfdistill.recipes._students import make_student
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class GeneralStage(MaskedGeneral):
    """Declare the dual training, and the narrow student that it makes."""

    width: int = Field(192, ge=1, description="hidden size of the student (paper: 192, 96, 48)")
    vocab_size: int = Field(4928, ge=10, description="tokens in the student's vocabulary at most")
    share: float = Field(0.5, ge=0, le=1, description="p, the share of the teacher's words in the student's vocabulary")
    direction: Literal["up", "down"] = Field("up", description="which parameters are projected")
    epsilon: float = Field(1.0, ge=0, description="ε, weight of both masked LMs")
    mixed_epochs: float = Field(0, ge=0, description="epochs of the teacher alone on mixed text, before")


class Settings(GeneralSettings):
    general: GeneralStage | None = Field(None, description="the dual training on plain text")
    student: str = Field("narrow", description="narrow, or hf:DIR: the student of a run with general.only")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the fine-tuning")
    max_length: int = Field(128, ge=5, le=512, description="tokens of an example")

    @model_validator(mode="after")
    def _text_or_a_student(self) -> Self:
        if self.student == "narrow":
            return self
        if not self.student.startswith("hf:"):
            raise ValueError(f"student is '{self.student}'. Choose narrow, or hf:DIR of a run with general.only=true")
        if self.general is not None:
            raise ValueError(
                f"student={self.student} has had its general stage. Remove the general.* settings or student"
            )
        return self


@with_teacher
def recipe(teacher: TextModel, data: TextData, settings: Settings | None = None) -> Recipe:
    """Return the recipe: dual training on plain text, then fine-tuning on labels."""
    settings = (settings or Settings()).like(teacher)
    fine_tuning = settings.stage("fine-tuning", (HardLabels(task=data.task),))
    stages: tuple[Stage, ...] = (fine_tuning,)
    if settings.student.startswith("hf:"):
        student = make_student(teacher, settings.student)
    elif settings.general is None:
        raise UserError(
            "dualtrain_sharedproj needs plain text. Set general.text=DIR and general.teacher=hf:DIR, or student=hf:RUN/student "
            "of a run with general.only=true."
        )
    else:
        student, general = dual_stages(teacher, settings.general, settings)
        stages = general if settings.general.only else (*general, fine_tuning)
    return settings.recipe("dualtrain_sharedproj", teacher=teacher, student=student, data=data, stages=stages)


def dual_stages(teacher: TextModel, general: GeneralStage, settings: Settings) -> tuple[TextModel, tuple[Stage, ...]]:
    """Return the narrow student for the task, and the stages on plain text that train its encoder."""
    pretrained = pretrained_teacher(general, "masked_lm")
    sequences = plain_text(general, pretrained)
    if general.whole_words:
        sample = sequences.batch(np.arange(min(256, len(sequences))))["student"]
        ids = sample["token_ids"][sample["padding_mask"] > 0]
        require_words(pretrained.tokenizer, np.bincount(ids, minlength=len(pretrained.tokenizer.vocabulary)))
    vocabulary = learn_vocabulary(sequences, pretrained.tokenizer, general.vocab_size)
    sizes = narrow_sizes(pretrained, general.width)
    student = presets.student("bert_base", like=teacher, tokenizer=vocabulary, **sizes)
    learner = presets.student("bert_base", like=pretrained, tokenizer=vocabulary, task="masked_lm", **sizes)
    copy_encoder(student, learner)
    masking = Masking(whole_words=general.whole_words)
    common: dict[str, Any] = {
        "weight_decay": settings.weight_decay,
        "source": MixedSequences(
            sequences, pretrained.tokenizer, vocabulary, general.length, share=general.share, masking=masking
        ),
        "teacher": with_vocabulary(pretrained, vocabulary),
        "student": learner,
        "train_teacher": True,
    }
    teacher_lm = TeacherMaskedLM(len(pretrained.tokenizer.vocabulary), weight=general.epsilon)
    student_lm = HardLabels(task="masked_lm", weight=general.epsilon, name="masked_lm")
    dual = general.stage("dual training", (SharedProjection(general.direction), teacher_lm, student_lm), **common)
    if not general.mixed_epochs:
        return student, (dual,)
    mixed = general.stage("teacher on mixed text", (teacher_lm,), **{**common, "epochs": general.mixed_epochs})
    return student, (mixed, dual)


def narrow_sizes(teacher: TextModel, width: int) -> dict[str, Any]:
    """Return the sizes of a student as deep as the teacher and `width` wide."""
    sizes = teacher.config
    heads = max(n for n in range(1, sizes.num_attention_heads + 1) if width % n == 0)
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": sizes.num_hidden_layers,
        "num_attention_heads": heads,
        "max_position_embeddings": most_tokens(sizes),
    }


def with_vocabulary(teacher: TextModel, more: Any) -> TextModel:
    """Return the teacher with the tokens of `more` after its own; tokens that it knows start with its weights."""
    if teacher.family != "bert":
        raise UserError(f"the pre-trained teacher is a {teacher.family} model. Use a BERT with a masked-LM head.")
    from tfdistill.models.text_model import TextModel

    own = teacher.tokenizer.vocabulary
    size = len(own) + len(more.vocabulary)
    mixed = TextModel(replace(teacher.config, vocab_size=size), None, "masked_lm")
    embeddings, known = mixed.encoder.embeddings, teacher.encoder.embeddings
    parts = [(getattr(embeddings, name), getattr(known, name)) for name in ("position", "token_type", "norm")]
    parts += list(zip(mixed.encoder.blocks, teacher.encoder.blocks, strict=True))
    parts += [(mixed.head.transform, teacher.head.transform), (mixed.head.norm, teacher.head.norm)]
    for part, source in parts:
        part.set_weights(source.get_weights())
    table, known_table = np.array(embeddings.word.embeddings), np.array(known.word.embeddings)
    bias, known_bias = np.array(mixed.head.bias), np.array(teacher.head.bias)
    place = {token: number for number, token in enumerate(own)}
    table[: len(own)], bias[: len(own)] = known_table[: len(own)], known_bias[: len(own)]
    for number, token in enumerate(more.vocabulary, len(own)):
        if token in place:
            table[number], bias[number] = known_table[place[token]], known_bias[place[token]]
    embeddings.word.embeddings.assign(table)
    mixed.head.bias.assign(bias)
    mixed.tokenizer = teacher.tokenizer
    return mixed
