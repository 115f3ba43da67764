from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import mirrored

from tfdistill import cli
from tfdistill import pretrain as module
from tfdistill.data.corpus import PlainText
from tfdistill.data.masking import Masking
from tfdistill.data.tokenize import Tokenizer
from tfdistill.errors import UserError
from tfdistill.load import load
from tfdistill.models import presets
from tfdistill.models.text import TextModel
from tfdistill.pretrain import Duration, Settings, evaluate, make_model, parse_config, pretrain

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


def small(tokenizer: Tokenizer, task: str = "masked_lm", dropout: float = 0.0, preset: str = "bert_base") -> TextModel:
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    return presets.new(preset, tokenizer=tokenizer, task=task, **SMALL, **rates)


def test_it_learns_and_writes_a_run_directory(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    model = small(tokenizer)
    result = pretrain(model, text, tmp_path / "run", duration=Duration(steps=300), settings=SETTINGS, named="small")
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


def test_a_stopped_run_goes_on_as_if_it_had_not_been(
    tmp_path: Path, text: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout; Ctrl-C in the middle leaves a checkpoint that transformers' layout reads, and --resume ends the same."""

    def run(out: Path, **kwargs: Any) -> TextModel:
        keras.utils.set_random_seed(3)
        model = small(tokenizer, dropout=0.1)
        pretrain(model, text, out, duration=Duration(steps=12), settings=SETTINGS, seed=3, **kwargs)
        return model

    whole = run(tmp_path / "whole").get_weights()

    original = module._Pretraining.on_train_batch_end

    def interrupt(self: Any, batch: int, logs: Any = None) -> None:
        original(self, batch, logs)
        if self.step == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._Pretraining, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut")
    monkeypatch.undo()
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    assert json.loads((tmp_path / "cut" / "run.json").read_text())["state"] == "interrupted"
    assert load(tmp_path / "cut" / "checkpoint").task == "masked_lm"

    resumed = run(tmp_path / "cut", resume=True).get_weights()
    for one, other in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert not (tmp_path / "cut" / "checkpoint").exists()
    said = [json.loads((tmp_path / name / "run.json").read_text())["scores"] for name in ("whole", "cut")]
    assert said[0]["held_out_before"] == said[1]["held_out_before"]


def test_what_cannot_be_resumed(
    tmp_path: Path, text: str, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="no checkpoint to go on from"):
        pretrain(small(tokenizer), text, tmp_path / "none", resume=True, settings=SETTINGS)

    def interrupt(self: Any, batch: int, logs: Any = None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module._Pretraining, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small(tokenizer), text, tmp_path / "run", settings=SETTINGS)
    with pytest.raises(UserError, match="--resume: seed was 0 and is 1"):
        pretrain(small(tokenizer), text, tmp_path / "run", settings=SETTINGS, resume=True, seed=1)
    with pytest.raises(UserError, match="exists and is not empty"):
        pretrain(small(tokenizer), text, tmp_path / "run", settings=SETTINGS)


@pytest.mark.slow  # a machine that pauses for seconds would fail it
def test_minutes_end_the_run_and_the_learning_rate(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    rates: list[float] = []
    original = module._Pretraining.on_train_batch_end

    class Watched(module._Pretraining):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            original(self, batch, logs)
            rates.append(float(self._schedule(self.step)))

    module_class, module._Pretraining = module._Pretraining, Watched  # type: ignore[misc]
    try:
        result = pretrain(small(tokenizer), text, tmp_path / "run", duration=Duration(minutes=0.1), settings=SETTINGS)
    finally:
        module._Pretraining = module_class  # type: ignore[misc]
    assert result.seconds >= 6 and result.steps == len(rates)
    assert rates[-1] < 0.2 * max(rates)
    assert result.after["masked_loss"] < result.before["masked_loss"]


def test_durations() -> None:
    assert Duration().count(100, 8) == 13
    assert Duration(epochs=2.5).count(100, 10) == 25
    assert Duration(steps=7).count(100, 8) == 7
    assert Duration(minutes=1).count(100, 8) is None
    with pytest.raises(UserError, match="--steps and --minutes were given"):
        Duration(steps=3, minutes=2)
    with pytest.raises(UserError, match="--epochs is 0"):
        Duration(epochs=0)


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


def test_on_top_of_an_encoder(tmp_path: Path, tokenizer: Tokenizer) -> None:
    classifier = presets.new("bert_base", tokenizer=tokenizer, num_outputs=3, **SMALL)
    from tfdistill.load import save

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
    with pytest.raises(UserError, match="hidden_size 16"):
        make_model("bert_base", encoder=str(tmp_path / "encoder"))
    with pytest.raises(UserError, match="--from goes with a preset"):
        make_model(str(tmp_path / "encoder"), encoder=str(tmp_path / "encoder"))
    with pytest.raises(UserError, match="objective 'clm' is unknown"):
        make_model("bert_base", "clm")
    with pytest.raises(UserError, match="no head for 'masked_lm'"):
        make_model("bilstm", tokenizer=str(tmp_path / "vocabulary"))


def test_lengths_that_the_model_cannot_read(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="at most 32 word pieces"):
        pretrain(small(tokenizer), text, tmp_path / "run", settings=Settings(length=64))
    with pytest.raises(UserError, match="expected pretraining for the objective"):
        pretrain(small(tokenizer), text, tmp_path / "run", objective="mlm+nsp", settings=SETTINGS)


def test_config_values() -> None:
    assert parse_config(["a=3", "b=0.5", "c=true", "d=relu"]) == {"a": 3, "b": 0.5, "c": True, "d": "relu"}
    with pytest.raises(UserError, match="expected key=value"):
        parse_config(["a"])


def test_debug_takes_a_few_steps(tmp_path: Path, text: str, tokenizer: Tokenizer) -> None:
    result = pretrain(small(tokenizer), text, tmp_path / "run", settings=SETTINGS, debug=True)
    assert result.steps == 3


# --- the command ----------------------------------------------------------------------------------------------------


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["tfdistill", "pretrain", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bert_base", "--text", "TEXT", "--steps", "1", "--minutes", "1"], "--steps and --minutes were given"),
        (["bert_base", "--text", "TEXT", "--objective", "nsp"], "objective 'nsp' is unknown"),
        (["bert_base", "--text", "TEXT", "--set", "lenght=3"], "unknown setting 'lenght' (did you mean 'length'?)"),
        (
            ["bert_base", "--text", "nowhere.txt", "--config", "hidden_size=12"],
            "no text at",
        ),
        (["nowhere", "--text", "TEXT"], "nowhere is no directory"),
        (["bert_base", "--text", "TEXT", "--strategy", "multiworker"], "expected one, mirrored or tpu"),
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
