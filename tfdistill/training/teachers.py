"""Accept the teachers of recipes: models, files of answers, and text classifiers of KerasHub."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

from tfdistill.data.text_data import TextData
from tfdistill.distill.foreign import is_hub_classifier
from tfdistill.errors import UserError
from tfdistill.system.console import say
from tfdistill.text.learned_vocabulary import learned_tokenizer
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.answers import AnswersTeacher, training_texts

if TYPE_CHECKING:
    from tfdistill.training.recipe import Recipe


def teacher_for(teacher: Any, data: Any) -> Any:
    """Return a teacher as recipes use it.

    A `keras_hub.models.TextClassifier` becomes a model of this library or a `HubClassifier`, with the task of `data`. A
    `HubClassifier`, whose tokens students cannot read, gets a vocabulary for students made of the training texts.

    Returns:
        A `TextModel` or an `AnswersTeacher`; None if there is no teacher.

    Raises:
        UserError: another kind of model or a name, or data for tokens.
    """
    if isinstance(teacher, str):
        raise UserError(f"The teacher is the text '{teacher}'. Load it first: tfdistill.load('{teacher}').")
    if isinstance(teacher, AnswersTeacher) or teacher is None:
        return teacher
    import keras

    from tfdistill.models.hub_classifier import HubClassifier
    from tfdistill.models.text_model import TextModel

    if is_hub_classifier(teacher):
        from tfdistill.models.hub import from_classifier

        teacher = from_classifier(teacher, teacher.name)
    if isinstance(teacher, keras.Model) and not isinstance(teacher, TextModel):
        raise UserError(
            f"The teacher is a {type(teacher).__name__}, which does not read texts. Use it in a `Distiller`, or write its "
            "predictions to a file and use tfdistill.AnswersTeacher(FILE, data)."
        )
    if isinstance(teacher, TextModel) and data is not None:
        teacher.take_task(data.task)
    if isinstance(teacher, HubClassifier):
        if not isinstance(data, TextData):
            what = "plain text" if data is None else data.task
            raise UserError(f"{teacher.source} classifies texts, and the data are for {what}. Use another teacher.")
        name = teacher.source
        teacher.vocabulary = lambda: _vocabulary(name, data)
    return teacher


def _vocabulary(name: str, data: TextData) -> Tokenizer:
    made = learned_tokenizer(training_texts(data))
    say(
        f"{name} reads tokens of KerasHub: the student's {len(made.vocabulary):,} tokens are words of the training texts"
    )
    return made


def with_teacher(make: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Let a function `recipe(teacher, data, settings)` take every teacher that `teacher_for` accepts."""

    @wraps(make)
    def recipe(teacher: Any, data: Any = None, settings: Any = None) -> Recipe:
        return make(teacher_for(teacher, data), data, settings)

    return recipe
