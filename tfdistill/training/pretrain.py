"""Pre-training: masked language model, and next-sentence prediction, on plain text (Devlin et al. 2019, section 3.1).

For any preset with random weights, or on top of the encoder of a directory. The terms are the Distiller's own, without a
teacher; the text comes from `tfdistill.corpora.corpus`.

A run directory holds run.json (settings, text, scores on held-out text before and after), log.jsonl (a line for each scoring),
student/, the model, as a Hugging Face directory, and, while the run goes on or when it was stopped, checkpoint/ (the model as it
stands) and resume/ (all that going on needs).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import keras
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfdistill.corpora.corpus import Corpus
from tfdistill.corpora.masking import Masking
from tfdistill.corpora.sequences import TextExamples
from tfdistill.corpora.shards import PREFIX, ShardedCorpus, read_text, require_text
from tfdistill.distill.distiller import Distiller
from tfdistill.errors import UserError
from tfdistill.models.hf import save_directory
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.optim.optimizers import make_optimizer
from tfdistill.optim.schedule import WarmupLinear
from tfdistill.system.console import say, task
from tfdistill.system.reproducibility import CLOCK, reproducible, versions
from tfdistill.system.signals import signals_over_errors
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training.checkpoint import Checkpoints, clear
from tfdistill.training.execution import Execution
from tfdistill.training.freezing import frozen
from tfdistill.training.masked_lm import TASKS, evaluate, terms, told
from tfdistill.training.pretrain_callback import Pretraining
from tfdistill.training.run_directory import is_over, opened, remove_checkpoints
from tfdistill.training.run_identity import one_of, require_run, require_same, with_changes

_DEBUG_STEPS, _DEBUG_SEQUENCES = 3, 16
_LONG = 10**7  # steps: more than any run takes that ends by the clock


class Settings(BaseModel):
    """What `--set` can change. The learning rate is, unless it is given, 5e-4 for random weights, 1e-4 on top of an encoder and
    1e-3 where only the head is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: int = Field(128, ge=8, le=512, description="word pieces of a sequence, [CLS] and [SEP] included")
    batch_size: int = Field(32, ge=1, description="sequences in a step")
    learning_rate: float | None = Field(None, gt=0, description="peak learning rate")
    optimizer: str = Field("adamw", description="adamw, lamb, adam, sgd or adadelta")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay; biases and norms have none")
    masked_share: float = Field(0.15, gt=0, lt=1, description="tokens that are predicted")
    whole_words: bool = Field(False, description="mask all pieces of a word or none")
    segmented: bool = Field(
        False,
        description="for whole_words: a word is what stands between spaces, as in Chinese text cut by a segmenter",
    )
    smoothing: float = Field(0.0, ge=0, description="exponent of token-frequency smoothing; DistilBERT has 0.7")
    held_out: float = Field(0.02, gt=0, lt=1, description="share of the documents kept from training")
    held_out_sequences: int = Field(512, ge=1, description="sequences of these that are scored, at most")
    megabytes: float | None = Field(None, gt=0, description="use only so much text, from the start")
    evaluations: int = Field(5, ge=1, description="scorings on held-out text, and checkpoints, while it trains")

    @model_validator(mode="after")
    def _segmented_for_whole_words(self) -> Self:
        if self.segmented and not self.whole_words:
            raise ValueError("segmented does nothing here; expected whole_words=true with it, or leave it out")
        return self

    @property
    def masking(self) -> Masking:
        return Masking(self.masked_share, whole_words=self.whole_words, smoothing=self.smoothing)


@dataclass(frozen=True)
class Duration:
    """How long: optimizer steps, passes over the text, or minutes of training (scoring not counted). One pass if none is given.

    Raises UserError for more than one, or one that is not above 0.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in asdict(self).items() if value is not None}
        if len(given) > 1:
            raise UserError(f"--{' and --'.join(given)} were given; expected one of --steps, --epochs and --minutes")
        for name, value in given.items():
            if value <= 0:
                raise UserError(f"--{name} is {value}; expected more than 0")

    def count(self, rows: int, batch_size: int) -> int | None:
        """Optimizer steps, or None if the clock decides."""
        if self.minutes is not None:
            return None
        return self.steps or max(1, math.ceil((self.epochs or 1.0) * rows / batch_size))


@dataclass
class Result:
    """The model, and its held-out scores: masked_accuracy, masked_loss (nats for each masked token), and for pairs
    next_sentence_accuracy and next_sentence_loss."""

    model: TextModel
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0


# --- training -------------------------------------------------------------------------------------------------------


def pretrain(
    model: TextModel,
    text: str,
    out: str | os.PathLike,
    *,
    objective: str = "mlm",
    duration: Duration | None = None,
    settings: Settings | None = None,
    freeze_encoder: bool = False,
    trained_before: bool = False,
    seed: int = 0,
    resume: bool = False,
    debug: bool = False,
    force: bool = False,
    named: str = "",
    execution: Execution | None = None,
    checkpoint_seconds: float = 300.0,
    keep: int = 2,
) -> Result:
    """Train `model` (task "masked_lm", or "pretraining" for mlm+nsp) in place on plain text, into the run directory `out`, or go on
    with the same run that was stopped there.

    However often it is killed, the model is on CPUs bit for bit that of a run that never stopped, unless the clock ends it.
    A run that is done is not run again: its model and scores are returned.

    Args:
        text: what `tfdistill.corpora.shards.read_text` reads.
        freeze_encoder: train the head alone.
        trained_before: the encoder is no new one, which lowers the learning rate where none is set.
        resume: there has to be a run. Its duration may be another one then; everything else must be as it was.
        debug: a few steps on a little text.
        named: what the model was made from, for run.json.
        execution: how steps are computed; sequences have one length, so that `buckets` is not read.
        checkpoint_seconds: a checkpoint is written at a scoring, unless that would cost more than a twentieth of the time, and after
            so many seconds without one.
        keep: how many checkpoints stay.

    Raises:
        UserError: no text; `out` holds another run (and not `force`), cannot be written, or another process trains into it.
        DivergedError: a loss became NaN or infinite.
    """
    settings, duration, out = settings or Settings(), duration or Duration(), Path(out)
    execution = execution or Execution()
    if text.startswith(PREFIX):
        if "held_out" in settings.model_fields_set:
            raise UserError(
                f"held_out is {settings.held_out:g} for {text}, which has its held-out part already; leave it out"
            )
    elif debug:
        settings = settings.model_copy(update={"megabytes": min(settings.megabytes or 1.0, 1.0), "held_out": 0.2})
    if model.task != TASKS[objective]:
        raise UserError(f"the model's task is {model.task}; expected {TASKS[objective]} for the objective {objective}")
    longest = getattr(model.config, "max_position_embeddings", settings.length)
    if settings.length > longest:
        raise UserError(
            f"length is {settings.length}, the model reads at most {longest} word pieces; --set length={longest}"
        )
    one_of(force, resume)
    require_run(out, resume)
    require_text(text)  # what is missing is said before anything is begun
    corpus = _prepare(text, settings, model.tokenizer)
    common: dict[str, Any] = {
        "length": settings.length,
        "masking": settings.masking,
        "next_sentence": objective == "mlm+nsp",
    }
    train = corpus.examples("train", **common, seed=seed)
    measured = corpus.examples(
        "held_out", **common, seed=seed, limit=_DEBUG_SEQUENCES if debug else settings.held_out_sequences
    )
    rate = settings.learning_rate or (1e-3 if freeze_encoder else 1e-4 if trained_before else 5e-4)
    unset = set() if settings.segmented else {"segmented"}  # so that runs from before there was a choice go on
    head: dict[str, Any] = {
        "recipe": "pretrain",
        "model": named or model.family,
        "config": asdict(model.config),
        "objective": objective,
        "text": text,
        "settings": {**settings.model_dump(exclude=unset), "learning_rate": rate},
        "freeze_encoder": freeze_encoder,
        "seed": seed,
        "debug": debug,
        "vocabulary": model.tokenizer.fingerprint,
        "max_length": settings.length,
        "execution": execution.as_data(),
        "corpus": {**corpus.about, "fingerprint": corpus.fingerprint},
        "sequences": len(train),
        "duration": {name: value for name, value in asdict(duration).items() if value is not None},
        "versions": versions(),
        "reproducible": reproducible((CLOCK,) if duration.minutes is not None and not debug else ()),
    }
    head = json.loads(json.dumps(head))
    with opened(out, force, resume) as former:
        if former is None:
            clear(out)
        else:
            head = _go_on(out, head, former, resume)
            if is_over(out, former):
                return _finished(model, out, former)
        checkpoints = Checkpoints(out / "resume", _identity(head), seconds=checkpoint_seconds, keep=keep)
        steps = _DEBUG_STEPS if debug else duration.count(len(train), settings.batch_size)
        run = Pretraining(model, out, head, measured, settings, steps, duration.minutes, checkpoints)
        run.note(state="running")
        keras.utils.set_random_seed(seed)
        try:
            with signals_over_errors(), frozen(model, ("encoder",) if freeze_encoder else ()):
                _train(run, train, execution)
        except (KeyboardInterrupt, SystemExit):
            run.interrupted()
            raise
        except UserError as error:
            run.note(state=f"failed: {error}")
            raise
        result = Result(model, run.before, steps=run.step, seconds=run.seconds)
        result.after = (
            run.last if run.scored_at == run.step else evaluate(model, measured, batch_size=settings.batch_size)
        )
        save_directory(model, out / "student", recipe=head)
        run.note(
            state="done",
            scores={"held_out_before": result.before, "held_out": result.after},
            parameters=model.count_params(),
            steps=result.steps,
            seconds=round(result.seconds, 1),
        )
        remove_checkpoints(out)
    say(f"held out after: {told(result.after)}")
    return result


def _train(run: Pretraining, train: TextExamples, execution: Execution) -> None:
    """The steps that are left."""
    settings, head, model, steps = run.settings, run.head, run.student, run.steps
    if not model.trainable_variables:
        raise UserError("nothing is left to train; leave --freeze-encoder out")
    distiller = Distiller(model, None, terms(head["objective"]))
    schedule = WarmupLinear(head["settings"]["learning_rate"], 0, 1)
    optimizer = make_optimizer(
        settings.optimizer,
        schedule,
        weight_decay=settings.weight_decay,
        clip_norm=1.0,
        **execution.for_optimizer,
    )
    distiller.compile(optimizer=optimizer, jit_compile=execution.jit, auto_scale_loss=False)
    distiller.build_optimizer()
    run.take_up(distiller)
    run.before = run.before or evaluate(model, run.measured, batch_size=settings.batch_size)
    say(f"held out before: {told(run.before)}")
    with task(f"pre-training, {head['objective']}", steps or 60 * (head["duration"].get("minutes", 0))) as advance:
        run.begin(schedule, advance)
        left = (_LONG if steps is None else steps) - run.step
        if left > 0:
            # With a time limit the stream has no end of its own.
            epochs = math.ceil((steps or _LONG) * settings.batch_size / len(train))
            batches = train.dataset(settings.batch_size, seed=head["seed"], epochs=epochs, first_step=run.step)
            distiller.fit(batches, epochs=1, steps_per_epoch=left, verbose=0, callbacks=[run])


def _prepare(text: str, settings: Settings, tokenizer: Tokenizer) -> Corpus | ShardedCorpus:
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
        f"{about['bytes'] / 1e6:.1f} MB of text, {about['documents']:,} documents, {corpus.tokens('train'):,} word pieces to train "
        f"on, {corpus.tokens('held_out'):,} held out, {about['repeated_sentences']:,} repeated sentences left out"
    )
    return corpus


# --- runs that are there already ------------------------------------------------------------------------------------


def _fixed(head: dict[str, Any], duration: bool = False) -> dict[str, Any]:
    """What must be the same for a run to go on: all but what is only for reading and, if need be, the duration."""
    free = ("versions", "reproducible", *(() if duration else ("duration",)))
    return {name: value for name, value in head.items() if name not in free}


def _identity(head: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(_fixed(head), sort_keys=True).encode()).hexdigest()


def _go_on(out: Path, head: dict[str, Any], former: dict[str, Any], resume: bool) -> dict[str, Any]:
    """`head` for a run that goes on. Raises UserError where `former` is another one, or has a checkpoint of another form."""
    if (out / "checkpoint" / "training.json").is_file():
        raise UserError(
            f"{out} holds a run of an older version, whose checkpoint (checkpoint/training.json) is not read any more; "
            "choose another --out, or --force to start anew"
        )
    then = {key: former.get(key) for key in head} | {"execution": former.get("execution", {})}
    # The checkpoints of a run that is done are gone: it cannot be made longer.
    duration = not resume or former["state"] == "done"
    advice = "" if former["state"] == "done" else "--resume to go on for another duration"
    require_same(out, _fixed(head, duration), _fixed(then, duration), "duration", advice)
    if CLOCK in (former.get("reproducible") or {}).get("breaks", ""):  # though steps may end it now
        head = {**head, "reproducible": reproducible((CLOCK,))}
    return with_changes(head, former)


def _finished(model: TextModel, out: Path, done: dict[str, Any]) -> Result:
    """What the run gave, from its directory."""
    model.set_weights(load(out / "student", task=model.task).get_weights())
    return Result(
        model,
        done["scores"]["held_out_before"],
        done["scores"]["held_out"],
        steps=done["steps"],
        seconds=done["seconds"],
    )


def parse_config(assignments: Sequence[str]) -> dict[str, Any]:
    """`key=value` texts as fields of a config: numbers, true, false, or else text. Raises UserError for one without `=`."""
    found: dict[str, Any] = {}
    for assignment in assignments:
        key, sign, value = assignment.partition("=")
        if not sign:
            raise UserError(f"--config {assignment}: expected key=value, for instance --config num_hidden_layers=6")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
