"""BERT to BiLSTM (Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks").

    L = α·CE(y, σ(z_s)) + (1 - α)·MSE(z_s, z_t),  α = 0

The student also reads augmented texts (section 3.3: masking, words with the same part of speech, n-gram sampling), whose
targets are the teacher's logits. It has an embedding, one BiLSTM, its last states, a dense layer and logits; pairs go through
one siamese encoder. The defaults differ from the paper: tokens instead of words; an embedding from the teacher's table (by
SVD) instead of word2vec; 3 epochs instead of 30; Adam at 1e-3 instead of Adadelta at 1; no replacement by part of speech,
which needs an English tagger that pip downloads. The paper's: `--set epochs=30 --set optimizer=adadelta --set learning_rate=1
--set augmentation.p_pos=0.1`, as `--task glue/…` sets. Tokens, table and a learning rate that falls linearly to 0 (the
paper's is constant) remain different. The open version: `--set augmentation.whole_word=false --set augmentation.ngram=2-6
--set lstm_size=300 --set dense_activation=tanh`.

Idea:     a BiLSTM learns the teacher's logits on augmented text
Command:  tfdistill train bilstm --teacher TEACHER --data demo:movie-snippets --out RUN
          tfdistill train bilstm --teacher TEACHER --task glue/sst2 --out RUN
Published: SST-2 test 90.7 (paper, from BERT-large); open version, dev: SST-2 88.8, QQP 87.5.
Cost:     one teacher forward over all augmented texts; a step costs about a tenth of the teacher's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tfdistill.augment.parts_of_speech import default_tagger
from tfdistill.augment.tang import augment_split
from tfdistill.data import glue
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.distill import losses
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.models.presets import bilstm
from tfdistill.text.words import written_tokens
from tfdistill.training.answers import AnswersTeacher, without_copies
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import Group
from tfdistill.training.settings import Settings as CommonSettings
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

# Section 4 of the paper; batch 50 and dropout 0.1 are the defaults.
GLUE = dict.fromkeys(glue.GLUE, ("epochs=30", "optimizer=adadelta", "learning_rate=1", "augmentation.p_pos=0.1"))


class Augmentation(Group):
    """Declare the settings of the paper's augmentation (section 3.3)."""

    p_mask: float = Field(0.1, ge=0, le=1, description="share of words masked")
    whole_word: bool = Field(True, description="mask whole words; false masks each token by itself")
    p_pos: float = Field(0.0, ge=0, le=1, description="share of words replaced by one with the same part of speech")
    p_ngram: float = Field(0.25, ge=0, le=1, description="share of augmented texts cut to an n-gram")
    ngram: str = Field(
        "1-5", pattern=r"^[1-9][0-9]*-[1-9][0-9]*$", description="words of the shortest and longest n-gram"
    )

    @field_validator("ngram")
    @classmethod
    def _shortest_first(cls, value: str) -> str:
        low, high = map(int, value.split("-"))
        if low > high:
            raise ValueError("the longer length is first. Give the shorter length first, for instance 2-6")
        return value

    @model_validator(mode="after")
    def _shares_of_one_word(self) -> Self:
        if self.p_mask + self.p_pos > 1:
            raise ValueError(f"p_mask={self.p_mask:g} and p_pos={self.p_pos:g} are above 1 together. Lower one of them")
        return self

    def split_maker(self, teacher: TextModel | AnswersTeacher, copies: int) -> Callable[[Split, int], Split]:
        """Return the function (split, seed) -> augmented split."""
        shortest, longest = map(int, self.ngram.split("-"))
        tokens = (
            None
            if self.whole_word
            else lambda words: written_tokens(words, teacher.student_tokenizer or teacher.tokenizer)
        )
        return augment_split(
            copies,
            tagger=default_tagger if self.p_pos else None,
            p_mask=self.p_mask,
            p_pos=self.p_pos,
            p_ng=self.p_ngram,
            ngram=(shortest, longest),
            tokens=tokens,
        )


class Settings(CommonSettings):
    epochs: float = Field(3, gt=0, description="passes over the training examples, augmented ones included")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    batch_size: int = Field(50, ge=1, description="examples in a step")
    copies: int = Field(20, ge=0, description="augmented copies of each training text; 10 for pairs by default")
    augmentation: Augmentation = Field(Augmentation(), description="how texts are augmented")
    alpha: float = Field(0.0, ge=0, le=1, description="α, the share of the hard labels")
    optimizer: Literal["adam", "adadelta"] = Field("adam", description="optimizer")
    embedding_size: int = Field(300, ge=1, description="size of the token embedding, at most the teacher's")
    lstm_size: int = Field(150, ge=1, description="size of the LSTM in each direction")
    lstm_layers: int = Field(1, ge=1, description="stacked LSTM layers")
    dense_size: int = Field(200, ge=1, description="size of the dense layer")
    dense_activation: Literal["relu", "tanh"] = Field("relu", description="activation of the dense layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the dense layer")


@with_teacher
def recipe(teacher: TextModel | AnswersTeacher, data: TextData, settings: Settings | None = None) -> Recipe:
    settings = without_copies(settings or Settings(), teacher).like(teacher)
    vocabulary = teacher.student_tokenizer
    table: Any = teacher if vocabulary is None else None
    if data.is_pair and "copies" not in settings.model_fields_set:
        settings = settings.model_copy(update={"copies": 10})
    like: Any = teacher
    student = bilstm(
        like,
        pair=data.is_pair,
        embedding_from=table,
        tokenizer=vocabulary,
        embedding_size=settings.embedding_size
        if table is None
        else min(settings.embedding_size, table.encoder.embedding.output_dim),
        lstm_size=settings.lstm_size,
        num_layers=settings.lstm_layers,
        dense_size=settings.dense_size,
        dense_act=settings.dense_activation,
        dropout=settings.dropout,
    )
    terms = (Match(losses.logits_mse, weight=1 - settings.alpha), HardLabels(task=data.task, weight=settings.alpha))
    stage = settings.stage(
        "logits",
        tuple(term for term in terms if term.weight),
        optimizer=settings.optimizer,
        warmup=0.0,
        clip_norm=None,
    )
    return settings.recipe(
        "bilstm",
        teacher=teacher,
        student=student,
        data=data,
        stages=(stage,),
        augment=settings.augmentation.split_maker(teacher, settings.copies) if settings.copies else None,
    )
