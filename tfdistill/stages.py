"""`Stage`: matches, how long, learning rate and what is trainable; and the training of one stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras

from tfdistill.data.batching import Examples, dataset, steps_per_epoch
from tfdistill.distiller import Distiller
from tfdistill.errors import UserError
from tfdistill.match import Term
from tfdistill.models.text import TextModel

OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {
    "adamw": keras.optimizers.AdamW,
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
    "adadelta": lambda **kwargs: keras.optimizers.Adadelta(rho=0.95, **kwargs),
}


@dataclass(frozen=True)
class Stage:
    """One part of a training.

    Args:
        name: shown in logs.
        terms: what is summed into the loss.
        epochs: passes over the training rows; a fraction is allowed.
        learning_rate: peak; it rises over `warmup` of the steps and falls to zero linearly.
        clip_norm: global gradient norm; None clips nothing.
        freeze: parts of the student that stay as they are: "word_embeddings" or "encoder".
        evaluations: how often the dev split is scored; the best student is kept.
        teacher: this stage's own teacher, if not the recipe's.
        keep_best: whether the stage ends with the weights of its best dev score rather than its last ones.
    """

    name: str
    terms: tuple[Term, ...]
    epochs: float = 3
    learning_rate: float = 1e-4
    batch_size: int = 32
    optimizer: str = "adamw"
    warmup: float = 0.1
    weight_decay: float | None = None
    clip_norm: float | None = 1.0
    freeze: tuple[str, ...] = ()
    evaluations: int = 4
    teacher: Any = None
    keep_best: bool = True

    def steps(self, rows: int) -> int:
        """Optimizer steps on `rows` training rows."""
        return max(1, round(self.epochs * rows / self.batch_size))

    @property
    def reads_teacher(self) -> frozenset[str]:
        """Features of the teacher that the terms ask for."""
        return frozenset().union(*(term.teacher_features for term in self.terms))


class WarmupLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Linear from 0 to `peak` over `warmup` steps, then linear to 0 at `total` steps."""

    def __init__(self, peak: float, warmup: int, total: int):
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        rising = (step + 1.0) / max(1, self.warmup)
        falling = (self.total - step) / max(1, self.total - self.warmup)
        return self.peak * keras.ops.clip(keras.ops.minimum(rising, falling), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


def make_optimizer(stage: Stage, steps: int) -> keras.optimizers.Optimizer:
    """The stage's optimizer. Raises UserError for an unknown name."""
    if stage.optimizer not in OPTIMIZERS:
        raise UserError(f"optimizer '{stage.optimizer}' is unknown; expected one of {', '.join(OPTIMIZERS)}")
    schedule = WarmupLinear(stage.learning_rate, round(stage.warmup * steps), steps)
    options: dict[str, Any] = {"learning_rate": schedule, "global_clipnorm": stage.clip_norm}
    if stage.weight_decay is not None:
        options["weight_decay"] = stage.weight_decay
    optimizer = OPTIMIZERS[stage.optimizer](**options)
    if stage.optimizer == "adamw":
        # As BERT does: biases and LayerNorm are not decayed.
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


@contextmanager
def frozen(student: TextModel, parts: Sequence[str]) -> Iterator[None]:
    """Keep `parts` of the student as they are inside the block. Raises UserError for a part it does not have."""
    layers = []
    for part in parts:
        if part == "encoder":
            layers.append(student.encoder)
        elif part == "word_embeddings":
            encoder = student.encoder
            layers.append(encoder.embeddings.word if student.family == "bert" else encoder.embedding)
        else:
            raise UserError(f"freeze=('{part}',): expected 'word_embeddings' or 'encoder'")
    for layer in layers:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in layers:
            layer.trainable = True


def train_stage(
    stage: Stage,
    student: TextModel,
    teacher: TextModel | None,
    examples: Examples,
    *,
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    max_steps: int | None = None,
) -> dict[str, list[float]]:
    """Train `student` in place. The optimizer's steps, the batches and their order depend on (stage, rows, seed) alone.

    Each Keras epoch ends where the dev split is scored, `stage.evaluations` times in all.

    Returns:
        The Keras history: one value for each term and evaluation.

    Raises:
        DivergedError: a loss term became NaN or infinite.
    """
    steps = stage.steps(len(examples))
    if max_steps is not None:
        steps = min(steps, max_steps)
    rounds = max(1, min(stage.evaluations, steps))
    each = math.ceil(steps / rounds)
    passes = math.ceil(rounds * each / steps_per_epoch(len(examples), stage.batch_size))
    batches = dataset(examples, stage.batch_size, seed=seed, epochs=passes)
    keras.utils.set_random_seed(seed)
    with frozen(student, stage.freeze):
        distiller = Distiller(student, stage.teacher or teacher, stage.terms)
        distiller.compile(optimizer=make_optimizer(stage, rounds * each))
        history = distiller.fit(batches, epochs=rounds, steps_per_epoch=each, verbose=0, callbacks=list(callbacks))
    return history.history
