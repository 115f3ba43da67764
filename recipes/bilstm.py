"""BERT to BiLSTM (Tang et al. 2019, "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks").

    L = α·CE(y, σ(z_s)) + (1 - α)·MSE(z_s, z_t),  α = 0

The student reads the augmented texts too (section 3.3: masking, n-gram sampling; same-POS replacement is not built yet),
whose targets are the teacher's logits. Embedding, one BiLSTM, last states, dense layer, logits; pairs go through one siamese encoder.
Differences from the paper: word pieces in place of words, the embedding starts from the teacher's table (by SVD)
in place of word2vec, and Adam is the default optimizer (`--set optimizer=adadelta --set learning_rate=1` is theirs).

Command:  tfdistill train bilstm --teacher TEACHER --data demo:movie-snippets --out RUN
Published: SST-2 test 90.7 (paper, from BERT-large); open version, dev: SST-2 88.8, QQP 87.5.
Cost:     one teacher forward over all augmented texts; a step costs about a tenth of the teacher's.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tfdistill import losses
from tfdistill.data.augment import augment_split
from tfdistill.data.textdata import TextData
from tfdistill.match import HardLabels, Match
from tfdistill.models.presets import bilstm
from tfdistill.models.text import TextModel
from tfdistill.recipe import Recipe
from tfdistill.recipe import Settings as CommonSettings
from tfdistill.stages import Stage


class Settings(CommonSettings):
    epochs: float = Field(3, gt=0, description="passes over the training rows, augmented ones included")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    batch_size: int = Field(50, ge=1, description="examples in a step")
    copies: int = Field(20, ge=0, description="augmented copies of each training text (paper: 20, pairs 10)")
    alpha: float = Field(0.0, ge=0, le=1, description="α, the share of the hard labels")
    optimizer: Literal["adam", "adadelta"] = Field("adam", description="optimizer")
    embedding_size: int = Field(300, ge=1, description="width of the word-piece embedding")
    lstm_size: int = Field(150, ge=1, description="width of the LSTM in each direction")
    dense_size: int = Field(200, ge=1, description="width of the dense layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout before the dense layer")
    p_mask: float = Field(0.1, ge=0, le=1, description="share of words masked in augmented texts")
    p_ngram: float = Field(0.25, ge=0, le=1, description="share of augmented texts cut to an n-gram")


def recipe(teacher: TextModel, data: TextData, settings: Settings | None = None) -> Recipe:
    settings = settings or Settings()
    student = bilstm(
        teacher,
        pair=data.is_pair,
        embedding_from=teacher if teacher.family == "bert" else None,
        embedding_size=settings.embedding_size,
        lstm_size=settings.lstm_size,
        dense_size=settings.dense_size,
        dropout=settings.dropout,
    )
    terms: tuple[Match | HardLabels, ...] = (Match(losses.logits_mse, weight=1 - settings.alpha),)
    if settings.alpha:
        terms += (HardLabels(task=data.task, weight=settings.alpha),)
    stage = Stage(
        "logits",
        terms,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        optimizer=settings.optimizer,
        warmup=0.0,
        clip_norm=None,
        evaluations=settings.evaluations,
    )
    return Recipe(
        name="bilstm",
        teacher=teacher,
        student=student,
        data=data,
        stages=(stage,),
        augment=augment_split(settings.copies, p_mask=settings.p_mask, p_ng=settings.p_ngram)
        if settings.copies
        else None,
        max_length=settings.max_length,
        settings=settings.model_dump(),
    )
