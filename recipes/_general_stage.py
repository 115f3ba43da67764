"""The general stage: distillation on plain text from a pre-trained teacher, before the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from tfdistill.corpora.masking import Masking
from tfdistill.corpora.sequences import TextExamples
from tfdistill.corpora.shards import PREFIX, read_text
from tfdistill.errors import UserError
from tfdistill.models.load import load
from tfdistill.training.settings import Group, Settings
from tfdistill.training.stage import Stage

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class General(Group):
    """Declare the settings of a general stage."""

    text: str = Field(description="plain text: .txt, a directory, demo:plain-text, or corpus:DIR")
    teacher: str = Field(description="pre-trained teacher, hf:DIR or hf:ORG/NAME")
    epochs: float = Field(3, gt=0, description="passes over the plain text")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    batch_size: int = Field(256, ge=1, description="sequences in a step")
    length: int = Field(128, ge=8, le=512, description="tokens of a sequence of plain text")
    megabytes: float | None = Field(None, gt=0, description="read only this much of the plain text")
    only: bool = Field(False, description="end after the general stage; student=hf:RUN/student continues from there")

    def for_debug(self) -> Self:
        """Return settings that read one megabyte; a tokenized corpus is read as it is."""
        if self.text.startswith(PREFIX):
            return self
        return self.model_copy(update={"megabytes": min(self.megabytes or 1.0, 1.0)})

    def stage(self, name: str, terms: tuple[Any, ...], **other: Any) -> Stage:
        """Return a stage with the epochs, learning rate and batch size of these settings, which ends with its last weights."""
        own = {key: getattr(self, key) for key in ("epochs", "learning_rate", "batch_size")}
        return Stage(name, terms, **{**own, "keep_best": False, **other})


class MaskedGeneral(General):
    """Declare the settings of a general stage that masks tokens."""

    whole_words: bool = Field(False, description="mask all tokens of a word or none")


class SegmentedGeneral(MaskedGeneral):
    """Declare the settings of a general stage whose text may be segmented into words."""

    segmented: bool = Field(
        False, description="whole_words: words are separated by spaces, as in segmented Chinese text"
    )

    @model_validator(mode="after")
    def _segmented_for_whole_words(self) -> Self:
        if self.segmented and not self.whole_words:
            raise ValueError("segmented=true has an effect only with whole_words=true. Set both, or neither")
        return self


class GeneralSettings(Settings):
    """Declare the settings of recipes with an optional general stage."""

    general: General | None = Field(None, description="the general stage on plain text")

    @property
    def general_only(self) -> bool:
        """Return whether the run ends after the general stage."""
        return self.general is not None and self.general.only

    def for_debug(self) -> Self:
        """Return these settings with at most one megabyte of plain text."""
        small = super().for_debug()
        return small if self.general is None else small.model_copy(update={"general": self.general.for_debug()})


def general_stages_only(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """Return the stages on plain text."""
    return tuple(stage for stage in stages if stage.source is not None)


def pretrained_teacher(general: General, task: str | None = None) -> TextModel:
    """Return the teacher of the general stage.

    Raises:
        UserError: its head is not one for `task`.
    """
    model = load(general.teacher)
    if task is not None and model.task != task:
        raise UserError(
            f"{general.teacher} is a {model.task} model, and the general stage needs {task}. Make one with `tfdistill pretrain`."
        )
    return model


def plain_text(
    general: General,
    teacher: TextModel,
    student: TextModel | None = None,
    masking: Masking | None = None,
    **options: Any,
) -> TextExamples:
    """Return the sequences of the general stage in the teacher's tokens; `masking` and `options` as in `Corpus.examples`.

    Raises:
        UserError: `student` has another vocabulary.
    """
    if student is not None and student.tokenizer.fingerprint != teacher.tokenizer.fingerprint:
        raise UserError(
            f"the student and {general.teacher} have different vocabularies. Use a general teacher, a task teacher and a "
            "student with one vocabulary."
        )
    segmented = isinstance(general, SegmentedGeneral) and general.segmented
    corpus = read_text(general.text, teacher.tokenizer, megabytes=general.megabytes, segmented=segmented)
    return corpus.examples(length=general.length, masking=masking, **options)
