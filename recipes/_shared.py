"""What several recipes need: students by name, and plain text for general stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load_file

from tfdistill.corpora.masking import Masking
from tfdistill.corpora.sequences import TextExamples
from tfdistill.corpora.shards import PREFIX, read_text
from tfdistill.data.splits import Split
from tfdistill.distill.mapping import Pairs, bottom, explicit, top, uniform
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import student_directory
from tfdistill.training.checkpoint import PROJECTIONS, groups_of
from tfdistill.training.settings import Settings
from tfdistill.training.stage import Stage

STUDENT = "'layers' (cut from the teacher), a preset, or hf:DIR (a directory, such as a generally distilled student)"


def make_student(
    teacher: TextModel,
    choice: str,
    num_layers: int | None = None,
    layers: Sequence[int] | None = None,
    dropout: float | None = None,
    **sizes: Any,
) -> TextModel:
    """The student that a setting names: "layers", "hf:DIR" or a preset, with the teacher's task and classes.

    Args:
        num_layers, layers: which of the teacher's layers, for "layers"; half of them if neither is given.
        dropout: in the place of all rates of the teacher's or the preset's config.
        sizes: changes to a preset's config.

    Raises:
        UserError: an unknown preset, no such directory, another vocabulary than the directory's, `dropout` for a directory.
    """
    if choice == "layers":
        if layers is None and num_layers is None:
            num_layers = max(1, teacher.num_layers // 2)
        return presets.student_from_layers(teacher, None if layers is not None else num_layers, layers, dropout=dropout)
    if choice.startswith("hf:"):
        if dropout is not None:
            raise UserError(
                f"dropout is set to {dropout:g} for student={choice}, whose config.json has its own; leave it out"
            )
        return load(choice, num_outputs=teacher.num_outputs, task=teacher.task, label_names=teacher.label_names)
    return presets.student(choice, like=teacher, dropout=dropout, **sizes)


def read_projections(student: str) -> dict[str, list[np.ndarray]]:
    """The maps between widths that the run learned which made the student hf:DIR, by their keys; none where it has none.

    Raises UserError for a file that is damaged.
    """
    path = student_directory(student) / PROJECTIONS
    if not path.is_file():
        return {}
    try:
        return groups_of(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}); delete it to start with new maps between the widths") from error


def layer_pairs(mapping: str, student: int, teacher: int) -> Pairs:
    """A mapping by name ("uniform", "top", "bottom") or as pairs student:teacher, "1:2,2:4". Raises UserError for another."""
    named = {"uniform": uniform, "top": top, "bottom": bottom}
    if mapping in named:
        return named[mapping](student, teacher)
    try:
        pairs = [tuple(int(n) for n in pair.split(":")) for pair in mapping.split(",")]
        return explicit([(s, t) for s, t in pairs], student, teacher)
    except ValueError as error:
        raise UserError(f"mapping is '{mapping}'; expected {', '.join(named)}, or pairs such as 1:2,2:4") from error


PLAIN_TEXT = "plain text, text=DIR,"  # for messages

TEACHER = "teacher"  # in place of a masked LM's directory


class GeneralSettings(Settings):
    """Settings of recipes with a stage on plain text."""

    text: str | None = Field(
        None, description="plain text for the general stage: .txt, directory, demo:plain-text, corpus:DIR"
    )
    general_teacher: str | None = Field(None, description="pre-trained teacher of the general stage, hf:DIR")
    general_epochs: float = Field(3, gt=0, description="passes over the plain text")
    general_learning_rate: float = Field(1e-4, gt=0, description="peak learning rate of the general stage")
    general_batch_size: int = Field(256, ge=1, description="sequences in a step of the general stage")
    general_length: int = Field(128, ge=8, le=512, description="word pieces of a sequence of plain text")
    megabytes: float | None = Field(None, gt=0, description="read only so much of the plain text")
    general_only: bool = Field(
        False, description="end after the general stage; student=hf:RUN/student goes on from there"
    )

    def for_debug(self) -> Self:
        """A megabyte of the plain text; a corpus, which is tokenized already, stays as it is."""
        if self.text is None or self.text.startswith(PREFIX):
            return self
        return self.model_copy(update={"megabytes": min(self.megabytes or 1.0, 1.0)})

    @model_validator(mode="after")
    def _general_stages_have_text(self) -> Self:
        names = (name for name in type(self).model_fields if name.startswith("general_"))
        self.only_with(self.text is not None, PLAIN_TEXT, *names, "megabytes")
        return self


class MaskedTextSettings(GeneralSettings):
    """Settings of recipes that mask the words of that text."""

    whole_words: bool = Field(False, description="mask all pieces of a word of plain text or none")

    @model_validator(mode="after")
    def _whole_words_of_text(self) -> Self:
        self.only_with(self.text is not None, PLAIN_TEXT, "whole_words")
        return self


class SegmentedTextSettings(MaskedTextSettings):
    """Settings of recipes that can be told what a word is."""

    segmented: bool = Field(
        False,
        description="for whole_words: a word is what stands between spaces, as in Chinese text cut by a segmenter",
    )

    @model_validator(mode="after")
    def _segmented_for_whole_words(self) -> Self:
        self.only_with(self.whole_words, "whole_words=true", "segmented")
        return self


def general_stages_only(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages on plain text. Raises UserError when there are none."""
    general = tuple(stage for stage in stages if stage.source is not None)
    if not general:
        raise UserError("general_only is set without text; expected plain text: --set text=DIR")
    return general


def pretrained_teacher(settings: GeneralSettings, task: str | None = None) -> TextModel:
    """The teacher of the general stage, with the head of `task`. Raises UserError if none is named, or it has another head."""
    if settings.general_teacher is None:
        raise UserError(
            "text is set without general_teacher; expected the pre-trained teacher: --set general_teacher=hf:DIR"
        )
    model = load(settings.general_teacher)
    if task is not None and model.task != task:
        raise UserError(
            f"{settings.general_teacher} is a {model.task} model; expected one for {task} (tfdistill pretrain makes it)"
        )
    return model


def plain_text(
    settings: GeneralSettings,
    teacher: TextModel,
    student: TextModel | None = None,
    masking: Masking | None = None,
    next_sentence: bool = False,
    every_position: bool = False,
) -> TextExamples:
    """The sequences of the general stage, as `teacher` reads them. Raises UserError if `student` has another vocabulary.

    `masking`, `next_sentence` and `every_position` are those of `Corpus.examples`.
    """
    assert settings.text is not None
    if student is not None and student.tokenizer.fingerprint != teacher.tokenizer.fingerprint:
        raise UserError(
            f"the student has another vocabulary than {settings.general_teacher}; on plain text both read the same pieces: "
            "expected a general teacher, a task teacher and a student of one vocabulary"
        )
    segmented = isinstance(settings, SegmentedTextSettings) and settings.segmented
    corpus = read_text(settings.text, teacher.tokenizer, megabytes=settings.megabytes, segmented=segmented)
    return corpus.examples(
        length=settings.general_length, masking=masking, next_sentence=next_sentence, every_position=every_position
    )


def masked_word_augmentation(
    source: str,
    teacher: TextModel,
    copies: int,
    *,
    p: float = 0.4,
    k: int = 15,
    glove: str | None = None,
    minutes: float | None = None,
    steps: int | None = None,
) -> Callable[[Split, int], Split]:
    """TinyBERT's augmentation by a masked LM and GloVe vectors: of the file `glove`, or those of the package.

    `source` is the masked LM's directory, or "teacher" for the one that
    `tfdistill.training.word_candidates.masked_lm_for` finds in the teacher's directory
    or in that which it was made of; where there is none, it trains one on the texts for `minutes` or `steps`. `p` and
    `k` as in `tfdistill.augment.tinybert`. Raises UserError for a directory without such a head, or no such file.
    """
    from tfdistill.augment.glove import load_glove
    from tfdistill.augment.tinybert import Finder, tinybert_split
    from tfdistill.training.word_candidates import finder, load_masked_lm, masked_lm_for

    if glove is not None and not Path(glove).expanduser().is_file():
        raise UserError(f"no file at glove={glove}; expected a GloVe text file, a word and its numbers on each line")
    model = None if source == TEACHER else load_masked_lm(source)

    def find(split: Split) -> Finder:
        asked = model or load_masked_lm(masked_lm_for(teacher, split, minutes=minutes, steps=steps))
        return finder(asked, load_glove(glove), k=k)

    return tinybert_split(copies, find, p)
