"""DualTrain + SharedProj (Zhao, Gupta, Song and Zhou 2019, "Extreme Language Model Compression with Optimal Subwords and Shared
Projections", first version).

    L = Σ ‖θ_t - U·θ_s·V‖² + ε·(MLM_t + MLM_s)        (up; down: Σ ‖U·θ_t·V - θ_s‖²)

Patents are reported on this method: US 11,797,862 B2 and US 12,260,340 B2. Take advice before you use it commercially.

The student is as deep as its teacher, narrow, and has a small vocabulary of its own, learned from `text`. Each word of the teacher's
input is segmented with the student's vocabulary with probability `share`, so that the teacher, which is trained too, brings the pieces
of both into one space; it has a softmax for each. U and V are shared by all layers, one pair for the width, one for the feed-forward
size; vectors have V alone, embeddings are left out. `mixed_epochs` continues the teacher's masked LM on mixed text first. Then the
student is fine-tuned on labels; `general_only` ends before, and `student=hf:RUN/student` goes on from there. Not told by the paper,
and chosen here: feed-forward size 4·width, as many heads as divide the width (at most the teacher's), ε = 1, the scale of U and V at
the start, the teacher's rows of pieces that are new to it (random). So the students are smaller here than the paper's: with 4,928
pieces and 12 layers they have 6.42M, 1.87M and 0.60M parameters at widths 192, 96 and 48, which makes them 17, 58 and 182 times
smaller than BERT-base (109.5M), where the paper says 5.74, 19.41 and 61.94.

Idea:      parameters are matched through shared projections, vocabularies through mixed segmentation
Command:   tfdistill train dualtrain_sharedproj --teacher TEACHER --data DATA --out RUN --set text=DIR --set general_teacher=hf:BERT
Published: SharedProjUp, compression factor and MRPC F1: 5.74 (width 192) 84.9, 19.41 (96) 84.9, 61.94 (48) 79.3
Cost:      forward and backward of teacher and student in each step on plain text.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from tfdistill.corpora.masking import Masking, require_words
from tfdistill.corpora.two_vocabularies import MixedSequences, learn_vocabulary
from tfdistill.data.text_data import TextData
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.parameter_terms import SharedProjection, TeacherMaskedLM
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.text_model import TextModel
from tfdistill.recipes._shared import MaskedTextSettings, make_student, plain_text, pretrained_teacher
from tfdistill.training.freezing import copy_encoder
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage


class Settings(MaskedTextSettings):
    student: str = Field(
        "narrow", description="narrow, or hf:DIR: the student of a run with general_only, which is then fine-tuned"
    )
    width: int = Field(192, ge=1, description="width of the student (paper: 192, 96, 48)")
    vocab_size: int = Field(4928, ge=10, description="word pieces of the student at most")
    share: float = Field(0.5, ge=0, le=1, description="p, the share of the teacher's words in the student's vocabulary")
    direction: Literal["up", "down"] = Field("up", description="which parameters are projected")
    epsilon: float = Field(1.0, ge=0, description="ε, weight of both masked LMs")
    mixed_epochs: float = Field(0, ge=0, description="epochs of the teacher alone on mixed text, before")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the fine-tuning")
    max_length: int = Field(128, ge=5, le=512, description="word pieces of an example")

    @model_validator(mode="after")
    def _text_or_a_student(self) -> Self:
        if self.student == "narrow":
            return self
        if not self.student.startswith("hf:"):
            raise ValueError(f"student is '{self.student}'; expected narrow, or hf:DIR of a run with general_only")
        if self.text is not None:
            raise ValueError(f"student={self.student} comes from a general stage; leave text or student out")
        made = ("width", "vocab_size", "share", "direction", "epsilon", "mixed_epochs")
        self.only_with(False, "student=narrow", *made)
        return self


def recipe(teacher: TextModel, data: TextData, settings: Settings | None = None) -> Recipe:
    settings = settings or Settings()
    fine_tuning = settings.stage("fine-tuning", (HardLabels(task=data.task),))
    if settings.student.startswith("hf:"):
        student = make_student(teacher, settings.student)
        return settings.recipe(
            "dualtrain_sharedproj", teacher=teacher, student=student, data=data, stages=(fine_tuning,)
        )
    if settings.text is None:
        raise UserError(
            "dualtrain_sharedproj learns from plain text: --set text=DIR --set general_teacher=hf:DIR, or "
            "--set student=hf:RUN/student of a run with general_only"
        )
    general = pretrained_teacher(settings, "masked_lm")
    sequences = plain_text(settings, general)
    if settings.whole_words:
        sample = sequences.batch(np.arange(min(256, len(sequences))))["student"]
        ids = sample["token_ids"][sample["padding_mask"] > 0]
        require_words(general.tokenizer, np.bincount(ids, minlength=len(general.tokenizer.vocabulary)))
    vocabulary = learn_vocabulary(sequences, general.tokenizer, settings.vocab_size)
    sizes = narrow_sizes(general, settings.width)
    student = presets.student("bert_base", like=teacher, tokenizer=vocabulary, **sizes)
    learner = presets.student("bert_base", like=general, tokenizer=vocabulary, task="masked_lm", **sizes)
    copy_encoder(student, learner)
    mixed = with_vocabulary(general, vocabulary)
    teacher_lm = TeacherMaskedLM(len(general.tokenizer.vocabulary), weight=settings.epsilon)
    common: dict[str, Any] = {
        "learning_rate": settings.general_learning_rate,
        "batch_size": settings.general_batch_size,
        "weight_decay": settings.weight_decay,
        "source": MixedSequences(
            sequences,
            general.tokenizer,
            vocabulary,
            settings.general_length,
            share=settings.share,
            masking=Masking(whole_words=settings.whole_words),
        ),
        "teacher": mixed,
        "student": learner,
        "train_teacher": True,
        "keep_best": False,
    }
    stages = []
    if settings.mixed_epochs:
        stages.append(Stage("teacher on mixed text", (teacher_lm,), epochs=settings.mixed_epochs, **common))
    dual = (
        SharedProjection(settings.direction),
        teacher_lm,
        HardLabels(task="masked_lm", weight=settings.epsilon, name="masked_lm"),
    )
    stages.append(Stage("dual training", dual, epochs=settings.general_epochs, **common))
    if not settings.general_only:
        stages.append(fine_tuning)
    return settings.recipe(
        "dualtrain_sharedproj",
        teacher=teacher,
        student=student,
        data=data,
        stages=tuple(stages),
    )


def narrow_sizes(teacher: TextModel, width: int) -> dict[str, Any]:
    """As deep as the teacher, `width` wide."""
    theirs = teacher.config
    heads = max(n for n in range(1, theirs.num_attention_heads + 1) if width % n == 0)
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": theirs.num_hidden_layers,
        "num_attention_heads": heads,
        "max_position_embeddings": theirs.max_position_embeddings,
    }


def with_vocabulary(teacher: TextModel, more: Any) -> TextModel:
    """The teacher with the pieces of `more` behind its own; pieces that it knows already start as it knows them."""
    if teacher.family != "bert":
        raise UserError(f"the pre-trained teacher is a {teacher.family} model; expected a BERT with a masked-LM head")
    own = teacher.tokenizer.vocabulary
    size = len(own) + len(more.vocabulary)
    mixed = TextModel(replace(teacher.config, vocab_size=size), None, "masked_lm")
    ours, theirs = mixed.encoder.embeddings, teacher.encoder.embeddings
    parts = [(getattr(ours, name), getattr(theirs, name)) for name in ("position", "token_type", "norm")]
    parts += list(zip(mixed.encoder.blocks, teacher.encoder.blocks, strict=True))
    parts += [(mixed.head.transform, teacher.head.transform), (mixed.head.norm, teacher.head.norm)]
    for part, source in parts:
        part.set_weights(source.get_weights())
    table, known = np.array(ours.word.embeddings), np.array(theirs.word.embeddings)
    bias, known_bias = np.array(mixed.head.bias), np.array(teacher.head.bias)
    place = {piece: number for number, piece in enumerate(own)}
    table[: len(own)], bias[: len(own)] = known[: len(own)], known_bias[: len(own)]
    for number, piece in enumerate(more.vocabulary, len(own)):
        if piece in place:
            table[number], bias[number] = known[place[piece]], known_bias[place[piece]]
    ours.word.embeddings.assign(table)
    mixed.head.bias.assign(bias)
    mixed.tokenizer = teacher.tokenizer
    return mixed
