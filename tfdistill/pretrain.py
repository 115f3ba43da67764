"""Pre-training: masked language model, and next-sentence prediction, on plain text (Devlin et al. 2019, section 3.1).

For any preset with random weights, or on top of the encoder of a directory. The terms are the Distiller's own, without a
teacher; the text comes from `tfdistill.data.corpus`.

A run directory holds run.json (settings, text, scores on held-out text before and after), log.jsonl (a line for each scoring),
checkpoint/ while the run goes on or when it was stopped (a Hugging Face directory, with the optimizer's state beside it)
and student/, the model, as a Hugging Face directory.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tfdistill.data.corpus import Corpus
from tfdistill.data.masking import Masking
from tfdistill.data.sequences import TextExamples
from tfdistill.data.shards import ShardedCorpus, read_text, require_text
from tfdistill.data.tokenize import Tokenizer
from tfdistill.distiller import Distiller
from tfdistill.errors import UserError
from tfdistill.files import atomic_directory, atomic_write, require_new
from tfdistill.load import load
from tfdistill.match import HardLabels, Term
from tfdistill.models import presets
from tfdistill.models.hf import save_directory, write_model
from tfdistill.models.text import TextModel
from tfdistill.optimizers import WarmupLinear, make_optimizer
from tfdistill.progress import say, task
from tfdistill.run_directory import versions
from tfdistill.stages import frozen
from tfdistill.stopping import heard, raise_if_asked

TASKS: dict[str, str] = {"mlm": "masked_lm", "mlm+nsp": "pretraining"}
_STATE, _STATE_NUMBERS = "training.npz", "training.json"
_DEBUG_STEPS, _DEBUG_SEQUENCES = 3, 16


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


# --- model ----------------------------------------------------------------------------------------------------------


def make_model(
    source: str,
    objective: str = "mlm",
    *,
    encoder: str | None = None,
    tokenizer: str = "demo:minilm",
    changes: dict[str, Any] | None = None,
) -> tuple[TextModel, bool]:
    """The model to pre-train, and whether its encoder has been trained before.

    Args:
        source: a preset (`tfdistill.models.presets.PRESETS`), or what `tfdistill.load` reads: its encoder goes on, and its head if it
            is of this objective, else with a new one.
        encoder: for a preset: a directory whose encoder has the preset's architecture and gives weights and vocabulary.
        tokenizer: for a preset with random weights: a directory with the vocabulary, or demo:minilm (uncased English).
        changes: fields of the preset's config to change, for instance {"num_hidden_layers": 6}.

    Raises:
        UserError: unknown preset, objective or directory, or an encoder of another architecture.
    """
    if objective not in TASKS:
        raise UserError(f"objective '{objective}' is unknown; expected {' or '.join(TASKS)}")
    wanted = TASKS[objective]
    if source not in presets.PRESETS:
        if encoder is not None or changes:
            what = "--from" if encoder is not None else "--config"
            known = ", ".join(presets.PRESETS)
            raise UserError(f"{what} goes with a preset, and '{source}' is none; leave it out, or give one of {known}")
        return load(source, task=wanted), True
    if encoder is None:
        return presets.new(source, tokenizer=_tokenizer(tokenizer), task=wanted, **(changes or {})), False
    model = load(encoder, task=wanted)
    expected = asdict(presets.config(source, **{"vocab_size": model.config.vocab_size, **(changes or {})}))
    sizes = {
        name: (value, expected[name])
        for name, value in asdict(model.config).items()
        if type(model.config) is type(presets.PRESETS[source]) and isinstance(value, int) and value != expected[name]
    }
    if type(model.config) is not type(presets.PRESETS[source]) or sizes:
        told = ", ".join(f"{name} {ours} (preset {theirs})" for name, (ours, theirs) in sizes.items()) or model.family
        raise UserError(
            f"{encoder} has another architecture than the preset '{source}': {told}; give the directory in the preset's place"
        )
    return model, True


def _tokenizer(source: str) -> Tokenizer:
    if source == "demo:minilm":
        from tfdistill.data.demo import minilm_directory

        return Tokenizer.from_directory(minilm_directory())
    return Tokenizer.from_directory(source.removeprefix("hf:"))


def terms(objective: str) -> tuple[Term, ...]:
    """The sum of both losses, each a mean, as in BERT."""
    masked = HardLabels(task="masked_lm", name="masked_lm")
    if objective == "mlm":
        return (masked,)
    return (masked, HardLabels(task="next_sentence", name="next_sentence"))


# --- scores ---------------------------------------------------------------------------------------------------------


def evaluate(model: TextModel, examples: TextExamples, *, batch_size: int = 32, seed: int = 0) -> dict[str, float]:
    """Scores of a model on masked sequences; the same seed always gives the same masks.

    Returns:
        masked_accuracy (share of the masked tokens whose piece is ranked first), masked_loss (mean cross-entropy, nats), and
        for pairs next_sentence_accuracy and next_sentence_loss.
    """
    pairs = examples.next_sentence and model.nsp_head is not None
    want = ("logits", "nsp_logits") if pairs else ("logits",)

    @tf.function(reduce_retracing=True)
    def sums(batch: Any) -> list[Any]:
        features, labels = model.features(batch["student"], want, training=False), batch["labels"]
        found = _sums(features.logits, labels["masked_labels"], labels["masked_weights"])
        if pairs:
            known = tf.ones_like(labels["next_sentence"], tf.float32)
            found += _sums(features.nsp_logits, labels["next_sentence"], known)
        return found

    total = np.zeros(6 if pairs else 3)
    for batch in examples.dataset(batch_size, seed=seed, shuffle=False):
        total += [float(value) for value in sums(batch)]
    scores = {"masked_accuracy": total[0] / max(total[2], 1), "masked_loss": total[1] / max(total[2], 1)}
    if pairs:
        scores |= {"next_sentence_accuracy": total[3] / total[5], "next_sentence_loss": total[4] / total[5]}
    return {name: float(value) for name, value in scores.items()}


def _sums(logits: Any, labels: Any, weights: Any) -> list[Any]:
    """Hits, cross-entropy and count, each summed over what has weight 1."""
    hits = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return [tf.reduce_sum(hits * weights), tf.reduce_sum(loss * weights), tf.reduce_sum(weights)]


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
) -> Result:
    """Train `model` (task "masked_lm", or "pretraining" for mlm+nsp) in place on plain text, into the run directory `out`.

    Args:
        text: what `tfdistill.data.shards.read_text` reads.
        freeze_encoder: train the head alone.
        trained_before: the encoder is no new one, which lowers the learning rate where none is set.
        resume: go on from `out`/checkpoint; everything but the duration must be as it was.
        debug: a few steps on a little text.
        named: what the model was made from, for run.json.

    Raises:
        UserError: no text, a run that is there already, or one that does not fit to be resumed.
        DivergedError: a loss became NaN or infinite.
    """
    settings, duration, out = settings or Settings(), duration or Duration(), Path(out)
    if debug:
        settings = settings.model_copy(update={"megabytes": min(settings.megabytes or 1.0, 1.0), "held_out": 0.2})
    if model.task != TASKS[objective]:
        raise UserError(f"the model's task is {model.task}; expected {TASKS[objective]} for the objective {objective}")
    longest = getattr(model.config, "max_position_embeddings", settings.length)
    if settings.length > longest:
        raise UserError(
            f"length is {settings.length}, the model reads at most {longest} word pieces; --set length={longest}"
        )
    if not resume:
        require_new(out, "run.json" if force else None, ", --force to replace a former run, or --resume to go on")
    require_text(text)  # what is missing is said before anything is begun
    rate = settings.learning_rate or (1e-3 if freeze_encoder else 1e-4 if trained_before else 5e-4)
    unset = set() if settings.segmented else {"segmented"}  # so that runs from before there was a choice go on
    head: dict[str, Any] = {
        "recipe": "pretrain",
        "model": named or model.family,
        "objective": objective,
        "text": text,
        "settings": {**settings.model_dump(exclude=unset), "learning_rate": rate},
        "freeze_encoder": freeze_encoder,
        "seed": seed,
        "debug": debug,
        "vocabulary": model.tokenizer.fingerprint,
        "max_length": settings.length,
    }
    taken_up = _read_state(out, model, head) if resume else None
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
    head |= {"corpus": corpus.about, "sequences": len(train), "versions": versions()}
    head["duration"] = {name: value for name, value in asdict(duration).items() if value is not None}
    if not resume:
        shutil.rmtree(out, ignore_errors=True)  # a former run goes only now that the new one can begin
    atomic_write(out / "run.json", json.dumps({**head, "state": "running"}, indent=2))

    steps = _DEBUG_STEPS if debug else duration.count(len(train), settings.batch_size)
    run = _Pretraining(model, out, head, measured, settings, steps, duration.minutes)
    keras.utils.set_random_seed(seed)
    with frozen(model, ("encoder",) if freeze_encoder else ()):
        if not model.trainable_variables:
            raise UserError("nothing is left to train; leave --freeze-encoder out")
        distiller = Distiller(model, None, terms(objective))
        schedule = WarmupLinear(rate, 0, 1)
        options: dict[str, Any] = {"weight_decay": settings.weight_decay, "clip_norm": 1.0}
        distiller.compile(optimizer=make_optimizer(settings.optimizer, schedule, **options))
        distiller._build_optimizer()
        run.distiller = distiller
        if taken_up is not None:
            run.take_up(distiller, taken_up)
        result = Result(model, before=run.before or evaluate(model, measured, batch_size=settings.batch_size))
        run.before = result.before
        say(f"held out before: {_told(result.before)}")
        first = run.step
        # With a time limit the stream has no end of its own.
        epochs = math.ceil((steps or 10**7) * settings.batch_size / len(train))
        batches = train.dataset(settings.batch_size, seed=seed, epochs=epochs, first_step=first)
        try:
            with heard(), task(f"pre-training, {objective}", steps or 60 * (duration.minutes or 0)) as advance:
                run.begin(schedule, advance)
                if steps is None or steps > first:
                    left = 10**7 if steps is None else steps - first
                    distiller.fit(batches, epochs=1, steps_per_epoch=left, verbose=0, callbacks=[run])
        except (KeyboardInterrupt, SystemExit):
            run.checkpoint()
            atomic_write(out / "run.json", json.dumps({**head, "state": "interrupted", "steps": run.step}, indent=2))
            say(
                f"stopped at step {run.step}; the model as it stands is in {out / 'checkpoint'}, --resume goes on from there"
            )
            raise
        except UserError as error:
            atomic_write(out / "run.json", json.dumps({**head, "state": f"failed: {error}"}, indent=2))
            raise
    result.steps, result.seconds = run.step, run.seconds
    result.after = run.last if run.scored_at == run.step else evaluate(model, measured, batch_size=settings.batch_size)
    save_directory(model, out / "student", recipe=head)
    done = {
        "state": "done",
        "scores": {"held_out_before": result.before, "held_out": result.after},
        "parameters": model.count_params(),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
    }
    atomic_write(out / "run.json", json.dumps({**head, **done}, indent=2))
    shutil.rmtree(out / "checkpoint", ignore_errors=True)
    say(f"held out after: {_told(result.after)}")
    return result


def _prepare(text: str, settings: Settings, tokenizer: Tokenizer) -> Corpus | ShardedCorpus:
    with task("reading text, MB", None) as advance:
        done = 0

        def told(size: int) -> None:
            nonlocal done
            done += size
            advance(size / 1e6, note=f"{done / 1e6:.1f} MB")

        corpus = read_text(
            text,
            tokenizer,
            held_out=settings.held_out,
            megabytes=settings.megabytes,
            segmented=settings.segmented,
            advance=told,
        )
    about = corpus.about
    say(
        f"{about['bytes'] / 1e6:.1f} MB of text, {about['documents']:,} documents, {corpus.tokens('train'):,} word pieces to train "
        f"on, {corpus.tokens('held_out'):,} held out, {about['repeated_sentences']:,} repeated sentences left out"
    )
    return corpus


def _told(scores: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in scores.items())


# --- checkpoints ----------------------------------------------------------------------------------------------------


def _fixed(head: dict[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to go on: all but the duration and what is only for reading."""
    free = ("versions", "duration", "sequences", "corpus")
    return json.loads(json.dumps({name: value for name, value in head.items() if name not in free}))


def _read_state(out: Path, model: TextModel, head: dict[str, Any]) -> dict[str, Any]:
    """The numbers and arrays of a checkpoint, and its weights into `model`. Raises UserError when there is none that fits."""
    folder = out / "checkpoint"
    try:
        numbers = json.loads((folder / _STATE_NUMBERS).read_text("utf-8"))
        with np.load(folder / _STATE, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} has no checkpoint to go on from ({error}); leave --resume out to start anew"
        ) from error
    now, then = _fixed(head), numbers["run"]
    changed = [name for name in now if now[name] != then.get(name)]
    if changed:
        name = changed[0]
        raise UserError(f"--resume: {name} was {then.get(name)} and is {now[name]}; expected the same, or a new --out")
    model.set_weights(load(folder, task=model.task).get_weights())
    return {**numbers, "arrays": arrays}


def _seed_states(model: TextModel) -> list[Any]:
    """The states of all random number generators of a model (dropout)."""
    generators = [layer.seed_generator for layer in model._flatten_layers() if hasattr(layer, "seed_generator")]
    return [generator.state for generator in generators if generator is not None]


class _Pretraining(keras.callbacks.Callback):
    """Counts steps and time, turns the schedule with the clock, scores held-out text, writes log and checkpoints."""

    def __init__(
        self,
        student: TextModel,
        out: Path,
        head: dict[str, Any],
        measured: TextExamples,
        settings: Settings,
        steps: int | None,
        minutes: float | None,
    ):
        super().__init__()
        self.student, self.out, self.head, self.measured, self.settings = student, out, head, measured, settings
        self.steps, self.limit = steps, None if minutes is None else 60 * minutes
        self.step, self.seconds, self.scored_at = 0, 0.0, -1
        self.before: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.distiller: Distiller | None = None

    def take_up(self, distiller: Distiller, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.step, self.seconds, self.before = int(state["step"]), float(state["seconds"]), state["before"]
        arrays = state["arrays"]
        for name, variables in (("optimizer", distiller.optimizer.variables), ("seed", _seed_states(self.student))):
            if any(f"{name}_{n}" not in arrays for n in range(len(variables))):
                raise UserError(f"{self.out / 'checkpoint'} is of another model or optimizer; leave --resume out")
            for number, variable in enumerate(variables):
                variable.assign(arrays[f"{name}_{number}"])

    def begin(self, schedule: WarmupLinear, advance: Any) -> None:
        self._schedule, self._advance = schedule, advance
        self._clock: float | None = None
        self._rate_from: tuple[int, float] | None = (
            None  # step and seconds when the first step, with its tracing, was over
        )
        self._turn(self.steps or 10**6)
        self._marks = self._done_marks()
        advance(self.step if self.limit is None else self.seconds)

    def _turn(self, total: int) -> None:
        """The schedule for `total` steps in all."""
        self._schedule.set(self.head["settings"]["learning_rate"], round(self.settings.warmup * total), total)

    def _share(self) -> float:
        return self.step / self.steps if self.steps else self.seconds / (self.limit or 1.0)

    def _done_marks(self) -> int:
        return min(int(self._share() * self.settings.evaluations + 1e-9), self.settings.evaluations)

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self._clock is None:
            self._clock = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        raise_if_asked()
        assert self._clock is not None
        now = time.monotonic()
        passed, self._clock = now - self._clock, now
        self.step, self.seconds = self.step + 1, self.seconds + passed
        if self.limit is None:
            self._advance(1)
        else:
            self._advance(min(passed, max(self.limit - self.seconds + passed, 0.0)))
            if self._rate_from is None:
                self._rate_from = (self.step, self.seconds)
            elif self.seconds > self._rate_from[1]:
                pace = (self.seconds - self._rate_from[1]) / (self.step - self._rate_from[0])
                self._turn(self.step + max(1, round((self.limit - self.seconds) / pace)))
            if self.seconds >= self.limit:
                self.model.stop_training = True
        marks = self._done_marks()
        if marks > self._marks:
            self._marks = marks
            self._score(logs or {})

    def _score(self, logs: dict[str, Any]) -> None:
        losses = {name: float(value) for name, value in logs.items()}
        self.last = evaluate(self.student, self.measured, batch_size=self.settings.batch_size)
        self.scored_at = self.step
        entry = {"step": self.step, **losses, **{f"held_out_{name}": value for name, value in self.last.items()}}
        with open(self.out / "log.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": time.time(), **entry}) + "\n")
        self._advance(0, note=f"loss {losses.get('loss', float('nan')):.3f}, held-out {_told(self.last)}")
        self.model.reset_metrics()  # the next line of the log is about the steps since this one
        if self._share() < 1:
            self.checkpoint()
        self._clock = time.monotonic()  # scoring is no training time

    def checkpoint(self) -> None:
        """Weights, optimizer, dropout's seeds, step and time, as one directory."""
        assert self.distiller is not None
        # A signal may come between the step and its counting.
        step = int(self.distiller.optimizer.iterations.numpy())
        numbers = {"run": _fixed(self.head), "step": step, "seconds": self.seconds, "before": self.before}
        arrays = {f"optimizer_{n}": np.asarray(v.numpy()) for n, v in enumerate(self.distiller.optimizer.variables)}
        arrays |= {f"seed_{n}": np.asarray(v.numpy()) for n, v in enumerate(_seed_states(self.student))}
        with atomic_directory(self.out / "checkpoint") as temporary:
            write_model(self.student, temporary, self.head)
            np.savez(temporary / _STATE, **arrays)  # type: ignore[arg-type]
            atomic_write(temporary / _STATE_NUMBERS, json.dumps(numbers, indent=2))


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
