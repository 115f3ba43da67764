"""Static student: token vectors of the teacher, a weighted mean and a convolution, trained on soft targets.

    (1 - λ)·CE(y, σ(z_s)) + λ·T²·KL(σ(z_t/T) ‖ σ(z_s/T))

No paper has exactly this student; its relatives are Model2Vec (a table made by a sentence encoder), fastText (Joulin et al.
2017) and averaged word embeddings (Shen et al. 2018). The table starts as what the teacher makes of each token by itself,
reduced by PCA (`table=teacher`); each token has a learned weight in the mean; the maximum of one convolution over three tokens
is appended. The text is not read in order otherwise, so the student is small and fast, and cannot know what a transformer
knows. It needs many passes: unlabelled text, and augmented copies (Tang et al. 2019) through `copies`.

Idea:      a table and a mean, the tier below the BiLSTM: a tenth of its time
Command:   tfdistill train static --teacher TEACHER --data demo:movie-snippets --out RUN
Published: nothing for exactly this. CLINC150 with all labels, one seed: 93.4 % with the defaults and on labels alone, 91.3 %
           with T=2 and λ=0.9, whose targets are too flat for it; teacher 95.8 %. Few labels were not measured.
Cost:      one teacher forward over the training texts, and three tokens a forward for the table; a step is almost free.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from tfdistill.data.text_data import TextData
from tfdistill.models import presets
from tfdistill.training.answers import AnswersTeacher
from tfdistill.training.recipe import Recipe
from tfdistill.training.settings import Settings as CommonSettings
from tfdistill.training.soft_terms import soft_and_hard_terms
from tfdistill.training.teachers import with_teacher

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel


class Settings(CommonSettings):
    epochs: float = Field(20, gt=0, description="passes over the training examples, augmented ones included")
    learning_rate: float = Field(3e-3, gt=0, description="peak learning rate")
    evaluations: int = Field(10, ge=1, description="evaluations on the dev split; the best student is kept")
    table: Literal["teacher", "random"] = Field("teacher", description="what the token table starts from")
    embedding_size: int = Field(128, ge=1, description="size of a token vector, at most the teacher's")
    convolution_layers: int = Field(1, ge=0, le=2, description="convolutions of three tokens")
    convolution_size: int = Field(128, ge=1, description="units of a convolution")
    dense_layers: int = Field(0, ge=0, le=2, description="dense layers before the head")
    dense_size: int = Field(128, ge=1, description="units of a dense layer")
    dropout: float = Field(0.3, ge=0, lt=1, description="dropout of the pooled vector")
    temperature: float = Field(1.0, gt=0, description="T")
    soft_weight: float = Field(0.5, ge=0, le=1, description="λ, the share of the soft targets")


@with_teacher
def recipe(teacher: TextModel | AnswersTeacher, data: TextData, settings: Settings | None = None) -> Recipe:
    settings = (settings or Settings()).like(teacher)
    from_teacher = settings.table == "teacher" and teacher.student_tokenizer is None
    sizes: dict[str, Any] = {
        name: getattr(settings, name)
        for name in ("convolution_layers", "convolution_size", "dense_layers", "dense_size", "dropout")
    }
    like: Any = teacher  # a file of answers has the classes and a tokenizer
    width = settings.embedding_size
    if from_teacher:
        width = min(width, like.width("hidden_states"))
    student = presets.static(
        like,
        pair=data.is_pair,
        table_from=like if from_teacher else None,
        tokenizer=teacher.student_tokenizer,
        embedding_size=width,
        **sizes,
    )
    terms = soft_and_hard_terms(data.task, settings.soft_weight, settings.temperature)
    stage = settings.stage("soft_targets", terms, optimizer="adam")
    return settings.recipe("static", teacher=teacher, student=student, data=data, stages=(stage,))
