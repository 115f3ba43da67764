"""Pre-training on plain text (Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers", section 3.1).

    mlm:      CE(masked token, σ(z_mlm))
    mlm+nsp:  CE(masked token, σ(z_mlm)) + CE(next sentence or not, σ(z_nsp))

For any preset with random weights, or on top of the encoder of a directory. The verb `tfdistill pretrain` runs it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfdistill.corpora.corpus import Corpus
from tfdistill.corpora.masking import Masking
from tfdistill.corpora.shards import PREFIX, ShardedCorpus, read_text, require_text
from tfdistill.errors import UserError
from tfdistill.models.limits import most_tokens
from tfdistill.system.console import say, task
from tfdistill.system.reproducibility import CLOCK
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.masked_lm import OBJECTIVES, HeldOutText, terms
from tfdistill.training.recipe import Recipe
from tfdistill.training.stage import Stage

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

_DEBUG_SEQUENCES = 16


class Settings(BaseModel):
    """What `--set` can change. The default learning rate is 5e-4 for random weights, 1e-4 on top of an encoder and 1e-3 if only
    the head is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(128, ge=8, le=512, description="tokens of a sequence, [CLS] and [SEP] included")
    batch_size: int = Field(32, ge=1, description="sequences in a step")
    learning_rate: float | None = Field(None, gt=0, description="peak learning rate")
    optimizer: str = Field("adamw", description="adamw, lamb, adam, sgd or adadelta")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay; biases and norms have none")
    masked_share: float = Field(0.15, gt=0, lt=1, description="share of tokens that are predicted")
    whole_words: bool = Field(False, description="mask all tokens of a word or none")
    segmented: bool = Field(
        False, description="for whole_words: words are separated by spaces, as in Chinese text cut by a segmenter"
    )
    smoothing: float = Field(0.0, ge=0, description="exponent of token-frequency smoothing; DistilBERT has 0.7")
    held_out: float = Field(0.02, gt=0, lt=1, description="share of the documents kept from training")
    held_out_sequences: int = Field(512, ge=1, description="sequences of these that are evaluated, at most")
    megabytes: float | None = Field(None, gt=0, description="use only this much text, from the start")
    evaluations: int = Field(5, ge=1, description="evaluations on held-out text, and checkpoints")

    @model_validator(mode="after")
    def _segmented_for_whole_words(self) -> Self:
        if self.segmented and not self.whole_words:
            raise ValueError("segmented needs whole_words=true. Add it, or remove segmented")
        return self

    @property
    def masking(self) -> Masking:
        """Return how tokens are masked."""
        return Masking(self.masked_share, whole_words=self.whole_words, smoothing=self.smoothing)

    def for_debug(self, text: str) -> Self:
        """Return these settings for a run of seconds: a megabyte of text, few held-out sequences."""
        less: dict[str, Any] = {"held_out_sequences": min(self.held_out_sequences, _DEBUG_SEQUENCES)}
        if not text.startswith(PREFIX):
            less |= {"megabytes": min(self.megabytes or 1.0, 1.0), "held_out": 0.2}
        return self.model_copy(update=less)


@dataclass(frozen=True)
class Duration:
    """Length of a pre-training: steps, passes over the text, or minutes of training. One pass by default.

    Args:
        steps: optimizer steps.
        epochs: passes over the text.
        minutes: minutes of training; evaluations do not count.

    Raises:
        UserError: more than one of them, or one that is not above 0.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        values = {name: value for name, value in asdict(self).items() if value is not None}
        if len(values) > 1:
            raise UserError(f"received `--{'` and `--'.join(values)}`. Use one of `--steps`, `--epochs`, `--minutes`.")
        for name, value in values.items():
            if value <= 0:
                raise UserError(f"`--{name}` is {value}. Use more than 0.")

    def count(self, rows: int, batch_size: int) -> int | None:
        """Return the number of optimizer steps; None if the clock decides."""
        if self.minutes is not None:
            return None
        return self.steps or max(1, math.ceil((self.epochs or 1.0) * rows / batch_size))


def recipe(
    model: TextModel,
    text: str,
    settings: Settings | None = None,
    *,
    objective: str = "mlm",
    duration: Duration | None = None,
    freeze_encoder: bool = False,
    trained_before: bool = False,
    seed: int = 0,
    source: str = "",
) -> Recipe:
    """Train `model` on plain text.

    Args:
        model: with the head "masked_lm" or, for mlm+nsp, "pretraining".
        text: what `tfdistill.corpora.shards.read_text` reads.
        settings: learning rate, masking and so on.
        objective: "mlm" or "mlm+nsp".
        duration: how long.
        freeze_encoder: train the head alone.
        trained_before: the encoder has no random weights, which lowers the default learning rate.
        seed: seed of the masks and of the order of sequences; the run needs the same.
        source: what the model was made from, for run.json.

    Raises:
        UserError: no text, another head, or sequences that are too long for the model.
    """
    settings, duration = settings or Settings(), duration or Duration()
    _check(model, text, settings, objective)
    corpus = _read(text, settings, model.tokenizer)
    common: dict[str, Any] = {"length": settings.length, "masking": settings.masking, "seed": seed}
    common["next_sentence"] = objective == "mlm+nsp"
    train = corpus.examples("train", **common)
    held_out = corpus.examples("held_out", **common, limit=settings.held_out_sequences)
    rate = settings.learning_rate or (1e-3 if freeze_encoder else 1e-4 if trained_before else 5e-4)
    stage = Stage(
        f"pre-training, {objective}",
        terms(objective),
        exact_steps=duration.count(len(train), settings.batch_size),
        minutes=duration.minutes,
        learning_rate=rate,
        batch_size=settings.batch_size,
        optimizer=settings.optimizer,
        warmup=settings.warmup,
        weight_decay=settings.weight_decay,
        freeze=("encoder",) if freeze_encoder else (),
        evaluations=settings.evaluations,
        keep_best=False,
        source=train,
        held_out=HeldOutText(held_out, settings.batch_size),
        seed=seed,
    )
    return Recipe(
        "pretrain",
        model,
        None,
        (stage,),
        max_length=settings.length,
        settings={**settings.model_dump(), "learning_rate": rate},
        breaks=() if duration.minutes is None else (CLOCK,),
        about={
            "model": source or model.family,
            "config": asdict(model.config),
            "objective": objective,
            "text": text,
            "freeze_encoder": freeze_encoder,
            "corpus": {**corpus.about, "fingerprint": corpus.fingerprint},
            "sequences": len(train),
        },
    )


def _check(model: TextModel, text: str, settings: Settings, objective: str) -> None:
    if text.startswith(PREFIX) and "held_out" in settings.model_fields_set:
        raise UserError(f"held_out is {settings.held_out:g}, and {text} has a held-out part already. Remove held_out.")
    if model.task != OBJECTIVES[objective]:
        raise UserError(
            f"The model has the head {model.task}; objective {objective} needs {OBJECTIVES[objective]}. Load it with that head."
        )
    longest = most_tokens(model.config, settings.length)
    if settings.length > longest:
        raise UserError(f"length is {settings.length}, the model reads {longest} tokens. Use --set length={longest}.")
    require_text(text)


def _read(text: str, settings: Settings, tokenizer: Tokenizer) -> Corpus | ShardedCorpus:
    with task("reading text, MB", None) as advance:
        done = 0

        def advanced(size: int) -> None:
            nonlocal done
            done += size
            advance(size / 1e6, note=f"{done / 1e6:.1f} MB")

        corpus = read_text(
            text,
            tokenizer,
            held_out=settings.held_out,
            megabytes=settings.megabytes,
            segmented=settings.segmented,
            advance=advanced,
        )
    about = corpus.about
    say(
        f"{about['bytes'] / 1e6:.1f} MB of text, {about['documents']:,} documents, {corpus.tokens('train'):,} tokens for training, "
        f"{corpus.tokens('held_out'):,} held out, {about['repeated_sentences']:,} repeated sentences removed"
    )
    return corpus


def parse_config(assignments: Sequence[str]) -> dict[str, Any]:
    """Parse `key=value` texts as fields of a config: JSON values, or else text. Raises UserError for one without `=`."""
    return dict(map(_parse, assignments))


def _parse(assignment: str) -> tuple[str, Any]:
    key, sign, value = assignment.partition("=")
    if not sign:
        raise UserError(f"`--config {assignment}` has no value. Use key=value, such as --config num_hidden_layers=6.")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
