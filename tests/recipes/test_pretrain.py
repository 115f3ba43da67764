from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from filelock import FileLock
from helpers import mirrored
from safetensors.numpy import load_file

from tfdistill.commands import app as cli
from tfdistill.corpora.documents import PlainText
from tfdistill.corpora.masking import Masking
from tfdistill.corpora.work import Work, spans_of
from tfdistill.corpora.workers import make_corpus
from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.load import load
from tfdistill.models.text_model import TextModel
from tfdistill.recipes.pretrain import Duration, Settings, parse_config
from tfdistill.recipes.pretrain import recipe as pretrain_recipe
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training import callbacks
from tfdistill.training.callbacks import Bookkeeper
from tfdistill.training.execution import Execution, set_precision
from tfdistill.training.masked_lm import evaluate, make_model
from tfdistill.training.run_directory import run as run_recipe

WORDS = [f"w{a}" for a in "abcdefghijklmnopqrstuvwxyz"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
}
SETTINGS = Settings(length=24, batch_size=8, learning_rate=0.01, held_out=0.1, evaluations=2)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    yield


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Documents that count through the alphabet from a letter of their own: what is masked follows from its neighbours."""
    rng = np.random.default_rng(0)
    made = []
    for start in rng.integers(0, 26, 200):
        words = [WORDS[(start + n) % 26] for n in range(rng.integers(12, 40))]
        pieces = [" ".join(words[n : n + 5]).capitalize() + "." for n in range(0, len(words), 5)]
        made.append("\n".join(pieces))
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(made), encoding="utf-8")
    return str(path)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    made = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *WORDS])
    made.save(tmp_path / "vocabulary")
    return made


@dataclass
class Done:
    model: TextModel
    before: dict[str, float]
    after: dict[str, float]
    steps: int
    seconds: float


def pretrain(model: TextModel, text: str, out: Path, *, execution: Execution | None = None, **options: Any) -> Done:
    """Run the recipe with options of both the recipe and the run."""
    names = ("settings", "objective", "duration", "freeze_encoder", "source")
    own = {name: options.pop(name) for name in names if name in options}
    if options.get("debug"):
        own["settings"] = own["settings"].for_debug(text)
    made = pretrain_recipe(model, text, seed=options.get("seed", 0), **own)
    result = run_recipe(replace(made, execution=execution or Execution()), out, **options)
    scores = result.scores
    return Done(model, scores["held_out_before"], scores["held_out"], result.steps, result.seconds)


def small(
    tokenizer: Tokenizer, task: str = "masked_lm", dropout: float = 0.0, preset: str = "bert_base", heads: int = 2
) -> TextModel:
    keras.utils.set_random_seed(0)
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return presets.new(preset, tokenizer=tokenizer, task=task, **{**SMALL, "num_attention_heads": heads}, **rates)


@pytest.mark.slow
def test_it_learns_and_writes_a_run_directory(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    model = small(tokenizer)
    result = pretrain(model, text, tmp_path / "run", duration=Duration(steps=300), settings=SETTINGS, source="small")
    assert result.steps == 300
    assert result.before["masked_loss"] > 3.3  # log(32) is 3.47
    # The frequencies of the pieces alone give 3.17 and 0.17: more has to come from the neighbours.
    assert result.after["masked_accuracy"] > 0.2 and result.after["masked_loss"] < 3.1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.jsonl", "run.json", "student"]
    said = json.loads((tmp_path / "run" / "run.json").read_text())
    assert said["state"] == "done" and said["scores"]["held_out"] == result.after
    assert said["scores"]["held_out_before"] == result.before and said["model"] == "small"
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [150, 300]
    assert lines[1]["masked_lm"] < lines[0]["masked_lm"]  # of the steps between the two lines
    assert lines[1]["held_out_masked_accuracy"] == result.after["masked_accuracy"]

    again = load(tmp_path / "run" / "student")
    assert again.task == "masked_lm" and again.tokenizer.vocabulary == tokenizer.vocabulary
    measured = PlainText(text, held_out=0.1).prepare(tokenizer).examples("held_out", length=24, masking=Masking())
    assert evaluate(again, measured) == pytest.approx(evaluate(model, measured), abs=1e-5)


@pytest.mark.slow
def test_masked_and_next_sentence_together(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    result = pretrain(
        small(tokenizer, "pretraining"),
        text,
        tmp_path / "run",
        objective="mlm+nsp",
        duration=Duration(steps=60),
        settings=SETTINGS,
    )
    assert set(result.after) == {
        "masked_accuracy",
        "masked_loss",
        "next_sentence_accuracy",
        "next_sentence_loss",
    }
    assert result.after["masked_loss"] < result.before["masked_loss"] - 0.1
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert {"masked_lm", "next_sentence", "loss"} <= set(json.loads(lines[-1]))
    assert load(tmp_path / "run" / "student").task == "pretraining"


@pytest.mark.slow
def test_two_devices_pretrain_as_one(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    found = []
    for strategy in (tf.distribute.get_strategy(), mirrored()):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            model = small(tokenizer, "pretraining")
            settings = SETTINGS.model_copy(update={"optimizer": "sgd"})
            out = tmp_path / f"{strategy.num_replicas_in_sync}"
            result = pretrain(model, text, out, objective="mlm+nsp", duration=Duration(steps=5), settings=settings)
        found.append((model.get_weights(), result.after))
    for one, two in zip(found[0][0], found[1][0], strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)


@pytest.mark.heavy
def test_scores_count_masked_tokens_only(text: str, tokenizer: Tokenizer) -> None:
    """A model that always says the same piece is right as often as that piece is masked."""
    model = small(tokenizer)
    model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
    bias = np.zeros(32, "float32")
    bias[5] = 3.0  # the full stop
    model.head.bias.assign(bias)
    examples = PlainText(text, held_out=0.3).prepare(tokenizer).examples("held_out", length=24, masking=Masking())
    made = examples.batch(np.arange(len(examples)))["labels"]
    stops = (made["masked_labels"] == 5)[made["masked_weights"] > 0]
    scores = evaluate(model, examples, batch_size=7)
    assert scores["masked_accuracy"] == pytest.approx(stops.mean(), abs=1e-6) and 0.05 < stops.mean() < 0.4
    # log(31 + e³) for each, less 3 where it is the full stop
    assert scores["masked_loss"] == pytest.approx(3.93347 - 3 * stops.mean(), abs=1e-3)


@pytest.mark.slow
def test_a_frozen_encoder_stays(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    model = small(tokenizer, dropout=0.1)
    before = [weight.copy() for weight in model.encoder.get_weights()]
    result = pretrain(
        model, text, tmp_path / "run", duration=Duration(steps=40), settings=SETTINGS, freeze_encoder=True
    )
    for old, new in zip(before, model.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert result.after["masked_loss"] < result.before["masked_loss"]
    assert model.encoder.trainable


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, by: type[BaseException] = KeyboardInterrupt) -> None:
    original = Bookkeeper.on_train_batch_end

    def interrupt(self: Any, batch: int, logs: Any = None) -> None:
        original(self, batch, logs)
        if self.state.step == step:
            raise by

    monkeypatch.setattr(Bookkeeper, "on_train_batch_end", interrupt)


def same_results(one: Path, other: Path) -> None:
    """Bit for bit: the model, the scores and the log, but for its times."""
    files = [(out / "student" / "model.safetensors").read_bytes() for out in (one, other)]
    assert files[0] == files[1]
    said = [json.loads((out / "run.json").read_text())["scores"] for out in (one, other)]
    assert said[0] == said[1]
    logs = [[json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()] for out in (one, other)]
    assert [{**line, "time": 0} for line in logs[0]] == [{**line, "time": 0} for line in logs[1]]


class Killed(BaseException):
    """Ends a run at once, as SIGKILL does: nothing in the library catches it."""


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    tmp_path: Path,
    text: str,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With dropout; Ctrl-C in the middle leaves a checkpoint and the model, and the same call ends with the same bits."""

    def run(out: Path, **kwargs: Any) -> Any:
        keras.utils.set_random_seed(3)
        model = small(tokenizer, dropout=0.1)
        return pretrain(model, text, out, duration=Duration(steps=12), settings=SETTINGS, seed=3, **kwargs)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = run(whole)
    with monkeypatch.context() as patch:
        stop_at(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            run(cut)
    assert json.loads((cut / "run.json").read_text())["state"] == "interrupted"
    assert load(cut / "checkpoint").task == "masked_lm"
    assert len((cut / "log.jsonl").read_text().splitlines()) == 1

    # Killed after step 9, with a checkpoint at each: nothing is saved on the way out.
    with monkeypatch.context() as patch:
        stop_at(patch, 9, by=Killed)
        with pytest.raises(Killed):
            run(cut, checkpoint_seconds=0.0, keep=3)
    assert len(list((cut / "resume").glob("0*"))) == 3
    (cut / "resume" / ".000009.x").mkdir()  # what it was writing
    (cut / "log.jsonl").write_text('{"step": 6')

    # Killed in the last scoring: that is done again.
    def scoring(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "evaluate", scoring)
        with pytest.raises(Killed):
            run(cut, resume=True, checkpoint_seconds=0.0)

    resumed = run(cut)
    assert "resuming from step 12" in capsys.readouterr().err
    same_results(whole, cut)
    assert sorted(path.name for path in cut.iterdir()) == ["log.jsonl", "run.json", "student"]
    places = [f"step {step} of 'pre-training, mlm'" for step in (7, 9, 12)]
    assert json.loads((cut / "run.json").read_text())["resumed_from"] == places

    # Done is done.
    again = run(cut)
    assert "it is done" in capsys.readouterr().err
    assert (again.before, again.after, again.steps) == (result.before, result.after, 12)
    for one, other in zip(again.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_signal_while_it_scores_loses_no_scoring(
    tmp_path: Path, text: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path) -> None:
        pretrain(small(tokenizer), text, out, duration=Duration(steps=4), settings=SETTINGS)

    run(tmp_path / "whole")

    def scoring(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "evaluate", scoring)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut")
    assert not (tmp_path / "cut" / "log.jsonl").exists()
    run(tmp_path / "cut")
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["resumed_from"][0].startswith("step 2 ")
    same_results(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.slow
def test_what_cannot_be_gone_on_with(
    tmp_path: Path, text: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def run(**options: Any) -> None:
        pretrain(small(tokenizer), text, out, **{"settings": SETTINGS, "duration": Duration(steps=5), **options})

    with pytest.raises(UserError, match="--resume"):
        run(resume=True)
    assert not out.exists()
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run()
    with FileLock(out / ".lock"), pytest.raises(UserError, match="another process trains into"):
        run()
    with pytest.raises(UserError, match=r"seed is 1.*--force"):
        run(seed=1)
    with pytest.raises(UserError, match=r"execution\.precision is"):
        run(execution=Execution("bf16"))
    with pytest.raises(UserError, match=r"stages\.0\.exact_steps is 6, .*--resume"):
        run(duration=Duration(steps=6))
    with pytest.raises(UserError, match=r"--force.*--resume"):
        run(force=True, resume=True)
    run(duration=Duration(steps=6), resume=True)
    assert json.loads((out / "run.json").read_text())["steps"] == 6
    with pytest.raises(UserError, match=r"stages\.0\.exact_steps is 7"):
        run(duration=Duration(steps=7), resume=True)
    Path(text).write_text(Path(text).read_text() + "\n\nWa wb wc wd we wf wg.", encoding="utf-8")
    with pytest.raises(UserError, match=r"corpus\."):
        run(duration=Duration(steps=6))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    with pytest.raises(UserError, match="mine"):
        pretrain(small(tokenizer), text, tmp_path / "mine", settings=SETTINGS, force=True)


@pytest.mark.heavy
def test_a_damaged_checkpoint_is_skipped(
    tmp_path: Path,
    text: str,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"

    def run(**options: Any) -> None:
        pretrain(small(tokenizer), text, out, settings=SETTINGS, duration=Duration(steps=4), **options)

    with monkeypatch.context() as patch:
        stop_at(patch, 3, by=Killed)
        with pytest.raises(Killed):
            run(checkpoint_seconds=0.0)
    newest = max((out / "resume").glob("0*")) / "arrays.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    run()
    told = capsys.readouterr().err
    assert newest.parent.name in told and "step 2" in told


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [{"precision": "bf16"}, {"precision": "fp16"}, pytest.param({"jit": True}, marks=pytest.mark.slow)],
    ids=["bf16", "fp16", "jit"],
)
def test_other_ways_to_compute_steps(tmp_path: Path, text: str, tokenizer: Tokenizer, changes: dict[str, Any]) -> None:
    execution = Execution(**changes)
    set_precision(execution.precision)
    try:
        model = small(tokenizer, "pretraining")
    finally:
        set_precision("float32")
    settings = SETTINGS.model_copy(update={"evaluations": 1})
    result = pretrain(
        model,
        text,
        tmp_path / "run",
        objective="mlm+nsp",
        duration=Duration(steps=20),
        settings=settings,
        execution=execution,
    )
    assert result.after["masked_loss"] < result.before["masked_loss"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["execution"] == changes
    kinds = {value.dtype for value in load_file(tmp_path / "run" / "student" / "model.safetensors").values()}
    assert kinds == {np.dtype("float32")}
    (line,) = (json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert line.get("loss_scale") == (2.0**15 if changes == {"precision": "fp16"} else None)
    assert ("fp16_largest" in line) == (changes == {"precision": "fp16"})


@pytest.mark.heavy
def test_what_the_clock_ends_is_not_said_to_be_reproducible(
    tmp_path: Path, text: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor where it was stopped and steps end it then."""

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def said(name: str = "run", **options: Any) -> dict[str, Any]:
        with pytest.raises(KeyboardInterrupt):
            pretrain(small(tokenizer), text, tmp_path / name, settings=SETTINGS, **options)
        return json.loads((tmp_path / name / "run.json").read_text())["reproducible"]

    monkeypatch.setattr("tfdistill.training.run_directory.train", stopped)
    found = [said(duration=Duration(minutes=1))]
    found += [said(duration=Duration(steps=steps), resume=True) for steps in (4, 5)]
    for each in found:
        assert each["bit_for_bit"] is False and each["breaks"].startswith("the clock ends the training")
    steps = said("other", duration=Duration(steps=4))
    assert steps["bit_for_bit"] is True and "breaks" not in steps


@pytest.mark.slow  # a machine that pauses for seconds would fail it
def test_minutes_end_the_run_and_the_learning_rate(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    rates: list[float] = []

    class Watched(Bookkeeper):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            super().on_train_batch_end(batch, logs)
            rates.append(float(self.model.optimizer.learning_rate))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tfdistill.training.runner.Bookkeeper", Watched)
        result = pretrain(small(tokenizer), text, tmp_path / "run", duration=Duration(minutes=0.1), settings=SETTINGS)
    assert result.seconds >= 6 and result.steps == len(rates)
    assert rates[-1] < 0.2 * max(rates)
    assert result.after["masked_loss"] < result.before["masked_loss"]


def test_durations() -> None:
    assert Duration().count(100, 8) == 13
    assert Duration(epochs=2.5).count(100, 10) == 25
    assert Duration(steps=7).count(100, 8) == 7
    assert Duration(minutes=1).count(100, 8) is None
    with pytest.raises(UserError, match=r"--steps.*--minutes"):
        Duration(steps=3, minutes=2)
    with pytest.raises(UserError, match="--epochs"):
        Duration(epochs=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        pytest.param("distilbert", marks=pytest.mark.slow),
        pytest.param("mobilebert", marks=pytest.mark.slow),
        "ib_bert",
    ],
)
def test_other_families(preset: str, tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    sizes: dict[str, Any] = {"num_hidden_layers": 2, "hidden_size": 16, "intra_bottleneck_size": 8, "embedding_size": 8}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 32}
    if preset == "distilbert":
        sizes = {"n_layers": 2, "dim": 16, "n_heads": 2, "hidden_dim": 32, "max_position_embeddings": 32}
    made, trained_before = make_model(preset, "mlm", tokenizer=str(tmp_path / "vocabulary"), changes=sizes)
    assert not trained_before and made.task == "masked_lm"
    settings = SETTINGS.model_copy(update={"learning_rate": 2e-3})
    result = pretrain(made, text, tmp_path / "run", duration=Duration(steps=30), settings=settings)
    assert result.after["masked_loss"] < result.before["masked_loss"]
    assert load(tmp_path / "run" / "student").family == made.family


@pytest.mark.heavy
def test_on_top_of_an_encoder(tmp_path: Path, tokenizer: Tokenizer) -> None:
    classifier = presets.new("bert_base", tokenizer=tokenizer, num_outputs=3, **SMALL)
    from tfdistill.models.load import save

    save(classifier, tmp_path / "encoder")
    changes = {**SMALL}
    for source, options in (
        (str(tmp_path / "encoder"), {}),
        ("bert_base", {"encoder": str(tmp_path / "encoder"), "changes": changes}),
    ):
        made, trained_before = make_model(source, "mlm", **options)  # type: ignore[arg-type]
        assert trained_before and made.task == "masked_lm"
        for ours, theirs in zip(
            made.encoder.embeddings.get_weights(), classifier.encoder.embeddings.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(UserError, match="hidden_size"):
        make_model("bert_base", encoder=str(tmp_path / "encoder"))
    with pytest.raises(UserError, match="--from"):
        make_model(str(tmp_path / "encoder"), encoder=str(tmp_path / "encoder"))
    with pytest.raises(UserError, match="clm"):
        make_model("bert_base", "clm")
    with pytest.raises(UserError, match="masked_lm"):
        make_model("bilstm", tokenizer=str(tmp_path / "vocabulary"))


def test_lengths_that_the_model_cannot_read(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="length=32"):
        pretrain(small(tokenizer), text, tmp_path / "run", settings=Settings(length=64))
    with pytest.raises(UserError, match="pretraining"):
        pretrain(small(tokenizer), text, tmp_path / "run", objective="mlm+nsp", settings=SETTINGS)


def test_config_values() -> None:
    assert parse_config(["a=3", "b=0.5", "c=true", "d=relu"]) == {"a": 3, "b": 0.5, "c": True, "d": "relu"}
    with pytest.raises(UserError, match="--config"):
        parse_config(["a"])


@pytest.mark.heavy
def test_debug_takes_a_few_steps(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    result = pretrain(small(tokenizer), text, tmp_path / "run", settings=SETTINGS, debug=True)
    assert result.steps == 3
    head = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    # Words of as many pieces in other places, heads of another size with the same weights: other text, another model.
    words = Path(text).read_text("utf-8")
    Path(text).write_text(words.replace("wk wl", "wl wk"), encoding="utf-8")
    with pytest.raises(UserError, match=r"corpus\.fingerprint is"):
        pretrain(small(tokenizer), text, tmp_path / "run", settings=SETTINGS, debug=True)
    Path(text).write_text(words, encoding="utf-8")
    other = small(tokenizer, heads=4)
    assert head["config"]["num_attention_heads"] == 2
    with pytest.raises(UserError, match=r"config\.num_attention_heads is 4"):
        pretrain(other, text, tmp_path / "run", settings=SETTINGS, debug=True)


@pytest.mark.heavy
def test_a_corpus_in_shards_has_its_held_out_part(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path / "vocabulary")
    work = Work(str(tmp_path / "corpus"), str(tmp_path / "vocabulary"), spans_of(text, 10**4), held_out=0.1)
    make_corpus(work, text)
    settings = Settings(length=24, batch_size=8)
    corpus = f"corpus:{tmp_path / 'corpus'}"
    assert pretrain(small(tokenizer), corpus, tmp_path / "run", settings=settings, debug=True).steps == 3
    with pytest.raises(UserError, match="held_out"):
        pretrain(small(tokenizer), corpus, tmp_path / "other", settings=SETTINGS, debug=True)


# --- the command ----------------------------------------------------------------------------------------------------


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tfdistill", "pretrain", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


@pytest.mark.heavy
def test_the_command(
    tmp_path: Path, text: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = [word for key, value in SMALL.items() for word in ("--config", f"{key}={value}")]
    given = ["bert_base", "--text", text, "--tokenizer", tmp_path / "vocabulary", *sizes]
    given += ["--set", "length=16", "--set", "evaluations=1", "--objective", "mlm+nsp", "--steps", "3"]
    code, _, err = command(monkeypatch, capsys, *given, "--out", tmp_path / "run")
    assert code == 0, err
    scores = json.loads((tmp_path / "run" / "run.json").read_text())["scores"]
    assert "next_sentence_accuracy" in scores["held_out"] and "masked_loss" in scores["held_out_before"]
    # A run directory stands for its student; the head goes on from where it was.
    code, _, err = command(
        monkeypatch,
        capsys,
        tmp_path / "run",
        "--text",
        text,
        "--steps",
        "1",
        "--set",
        "length=16",
        "--out",
        tmp_path / "more",
    )
    assert code == 0, err
    assert load(tmp_path / "more" / "student").task == "masked_lm"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bert_base", "--text", "TEXT", "--steps", "1", "--minutes", "1"], "--minutes"),
        (["bert_base", "--text", "TEXT", "--objective", "nsp"], "nsp"),
        (["bert_base", "--text", "TEXT", "--set", "lenght=3"], "lenght"),
        (
            ["bert_base", "--text", "nowhere.txt", "--config", "hidden_size=12"],
            "nowhere.txt",
        ),
        (["nowhere", "--text", "TEXT"], "nowhere"),
        (["bert_base", "--text", "TEXT", "--strategy", "multiworker", "--minutes", "1"], "--minutes"),
    ],
)
def test_one_clear_line_and_exit_code_2(
    words: list[str],
    message: str,
    tmp_path: Path,
    text: str,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [text if word == "TEXT" else word for word in words]
    code, _, err = command(monkeypatch, capsys, *given, "--tokenizer", "vocabulary", "--out", "run")
    assert code == 2 and message in err and len(err.strip().splitlines()) == 1
    assert not Path("run").exists()
