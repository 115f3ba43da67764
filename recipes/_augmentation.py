"""TinyBERT's augmentation of training texts by a masked language model and GloVe vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from tfdistill.augment.glove import load_glove
from tfdistill.augment.tinybert import Finder, tinybert_split
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.recipes._task_masked_lm import BY_THE_CLOCK, DEBUG_STEPS, MINUTES, masked_lm_for
from tfdistill.training.settings import Group
from tfdistill.training.word_candidates import finder, load_masked_lm, own_masked_lm

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

TEACHER = "teacher"  # instead of a masked LM's directory


class MaskedLMAugmentation(Group):
    """Declare the settings of the augmentation in TinyBERT's paper (section 3.2, algorithm 1)."""

    masked_lm: str = Field(
        description="masked LM: hf:DIR, or teacher: the teacher's, or that of the model it was fine-tuned from, or else "
        "one trained on the task's texts"
    )
    minutes: float | None = Field(
        None, gt=0, description=f"masked_lm=teacher: minutes of training if there is none; {MINUTES:g} by default"
    )
    steps: int | None = Field(None, ge=1, description="steps instead of minutes: the same on every machine")
    p_replace: float = Field(0.4, ge=0, le=1, description="p_t, share of words replaced")
    candidates: int = Field(15, ge=1, description="K, candidates for each replaced word")
    glove: str | None = Field(
        None, description="GloVe text file for words of several tokens; 6B with 50 numbers by default"
    )

    @model_validator(mode="after")
    def _training_of_a_masked_lm(self) -> Self:
        if self.masked_lm != TEACHER and (self.minutes or self.steps):
            raise ValueError("minutes and steps are only for masked_lm=teacher. Remove them")
        if self.minutes and self.steps:
            raise ValueError("minutes and steps are both set. Choose one of them")
        return self

    def for_debug(self) -> Self:
        """Return settings with few steps of training."""
        return self.model_copy(update={"steps": DEBUG_STEPS, "minutes": None}) if self.masked_lm == TEACHER else self

    def split_maker(self, teacher: TextModel, copies: int) -> Callable[[Split, int], Split]:
        """Return the function (split, seed) -> augmented split.

        Raises:
            UserError: the masked LM has no head, or there is no GloVe file.
        """
        if self.glove is not None and not Path(self.glove).expanduser().is_file():
            raise UserError(f"there is no file {self.glove}. Set augmentation.glove to a GloVe text file.")
        model = None if self.masked_lm == TEACHER else load_masked_lm(self.masked_lm)

        def find(split: Split) -> Finder:
            source = model or load_masked_lm(masked_lm_for(teacher, split, minutes=self.minutes, steps=self.steps))
            return finder(source, load_glove(self.glove), k=self.candidates)

        return tinybert_split(copies, find, self.p_replace)

    def breaks(self, teacher: TextModel) -> tuple[str, ...]:
        """Return why another machine may augment other texts."""
        trains = self.masked_lm == TEACHER and self.steps is None and own_masked_lm(teacher) is None
        return (BY_THE_CLOCK,) if trains else ()
