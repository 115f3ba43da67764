"""How steps are computed, as the command line says it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from tfdistill.errors import UserError
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.load import save
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training import run_directory
from tfdistill.training.execution import Execution, make_execution, precision_for

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ((), Execution()),
        (("float32", True), Execution(jit=True, buckets="auto")),
        (("float32", True, "none"), Execution(jit=True)),
        (("bf16", False, "16,32"), Execution("bf16", buckets=(16, 32))),
        (("bf16", False, "auto"), Execution("bf16", buckets="auto")),
        (("float32", False, "none", 4), Execution(micro_batches=4)),
        (("bf16", True, "16", 2), Execution("bf16", True, (16,), 2)),
    ],
)
def test_what_the_words_mean(words, made):
    assert make_execution(*words) == made
    assert (made.as_data() == {}) == (made == Execution())


@pytest.mark.parametrize(("words", "told"), [(("fp8",), "--precision fp8"), (("bf16", False, "a,b"), "--buckets a,b")])
def test_other_words_are_refused(words, told):
    with pytest.raises(UserError, match=told):
        make_execution(*words)


@pytest.fixture
def call(tmp_path, tfdistill):
    """`train soft_targets` from a tiny teacher without dropout; returns (exit code, stderr)."""
    keras.utils.set_random_seed(3)
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(37, 16, 2, 2, 32, max_position_embeddings=24, **rates)
    teacher = TextModel(config, 2, label_names=("no", "yes"))
    teacher.tokenizer = Tokenizer.from_directory(TINY)
    save(teacher, tmp_path / "teacher")
    texts = [
        " ".join(row[: 1 + n % 6]) for n, row in enumerate(np.random.default_rng(0).choice(list("abcdefgh"), (40, 6)))
    ]
    (tmp_path / "data").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{text}\t{('no', 'yes')['a' in text]}" for text in texts]
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", "utf-8")

    def train(*words: object, verb: tuple[object, ...] = ()) -> tuple[int, str]:
        verb = verb or ("train", "soft_targets", "--teacher", tmp_path / "teacher", "--set", "num_layers=1")
        settings = ["max_length=12", "batch_size=8", "epochs=1"]
        given = [*verb, "--data", tmp_path / "data", *words]
        code, _, err = tfdistill(*given, *(word for setting in settings for word in ("--set", setting)))
        keras.config.set_dtype_policy("float32")
        return code, err

    return train


@pytest.mark.slow
def test_a_run_in_bf16_with_buckets(tmp_path, call):
    out = tmp_path / "run"
    code, told = call("--out", out, "--precision", "bf16", "--buckets", "8,12")
    assert code == 0, told
    run = json.loads((out / "run.json").read_text())
    assert run["execution"] == {"precision": "bf16", "buckets": [8, 12]} and run["state"] == "done"
    assert {value.dtype for value in weights(out).values()} == {np.dtype("float32")}
    code, told = call("--out", out)
    assert code == 2 and "execution" in told
    code, told = call("--out", tmp_path / "fp16", "--precision", "fp16")
    last = json.loads((tmp_path / "fp16" / "log.jsonl").read_text().splitlines()[-1])
    assert code == 0, told
    assert last["loss_scale"] == 32768 and last["skipped_steps"] == 0 and 0 < last["fp16_largest"] < 65504
    code, told = call("--out", tmp_path / "other", "--buckets", "4")
    assert code == 2 and "the longest text has 8 tokens" in told


def weights(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "student" / "model.safetensors")


@pytest.mark.slow
def test_micro_batches_give_the_whole_batchs_result(tmp_path, call):
    """Of 40 rows in batches of 8, three parts of 2 or 3 rows."""
    losses = {}
    for parts in (1, 3):
        code, told = call("--out", tmp_path / f"{parts}", "--micro-batches", parts)
        assert code == 0, told
        lines = (tmp_path / f"{parts}" / "log.jsonl").read_text("utf-8").splitlines()
        losses[parts] = [json.loads(line)["loss"] for line in lines]
    assert len(losses[1]) == 4 and losses[1][0] > 0.01
    np.testing.assert_allclose(losses[3], losses[1], rtol=1e-4)
    whole, parted = weights(tmp_path / "1"), weights(tmp_path / "3")
    assert max(np.abs(whole[key] - parted[key]).max() for key in whole) < 1e-4
    assert json.loads((tmp_path / "3" / "run.json").read_text("utf-8"))["execution"] == {"micro_batches": 3}
    assert json.loads((tmp_path / "1" / "run.json").read_text("utf-8"))["execution"] == {}


@pytest.mark.slow
@pytest.mark.heavy
def test_micro_batches_belong_to_the_run(tmp_path, call):
    teach = ("finetune", f"hf:{tmp_path / 'teacher'}")
    code, told = call("--out", tmp_path / "run", "--debug", "--micro-batches", 2, verb=teach)
    assert code == 0, told
    code, told = call("--out", tmp_path / "run", "--debug", verb=teach)
    assert code == 2 and "execution.micro_batches" in told
    code, told = call("--out", tmp_path / "other", "--micro-batches", 9)
    assert code == 2 and "--micro-batches 9" in told


@pytest.mark.slow
@pytest.mark.parametrize("verb", [(), ("finetune",)], ids=["train", "finetune"])
def test_so_many_checkpoints_stay(tmp_path, call, monkeypatch, verb):
    """Counted when the run ends; then they go."""
    there, real = [], run_directory.shutil.rmtree

    def remove(place: Path, **options) -> None:
        if place.name == "resume":
            there.extend(sorted(path.name for path in place.iterdir()))
        real(place, **options)

    monkeypatch.setattr(run_directory.shutil, "rmtree", remove)
    verb = verb and (*verb, f"hf:{tmp_path / 'teacher'}")
    code, told = call("--out", tmp_path / "run", "--checkpoint-seconds", 0, "--keep-checkpoints", 3, verb=verb)
    assert code == 0, told
    assert len(there) == 3


@pytest.mark.slow
def test_micro_batches_on_two_devices_give_the_whole_batchs_result(tmp_path, call):
    """In a process of its own, where the CPU can be parted."""
    command = [sys.executable, "-m", "tfdistill", "train", "soft_targets", "--teacher", tmp_path / "teacher"]
    command += ["--data", tmp_path / "data", "--strategy", "mirrored:2"]
    for setting in ("num_layers=1", "max_length=12", "batch_size=8", "epochs=1"):
        command += ["--set", setting]
    for parts in (1, 2):
        words = [*command, "--out", tmp_path / f"{parts}", "--micro-batches", parts]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    noted = json.loads((tmp_path / "2" / "run.json").read_text("utf-8"))
    assert noted["execution"] == {"micro_batches": 2} and noted["reproducible"]["replicas"] == 2
    code, told = call("--out", tmp_path / "one")
    assert code == 0, told
    one, whole, parted = (weights(tmp_path / name) for name in ("one", "1", "2"))
    assert max(np.abs(whole[key] - parted[key]).max() for key in whole) < 1e-4
    assert max(np.abs(one[key] - parted[key]).max() for key in one) < 1e-4


@pytest.mark.parametrize(
    ("gpus", "strategy", "asked", "given"),
    [
        ([], "one", "auto", "float32"),
        ([], "tpu:NAME", "auto", "bf16"),
        ([(8, 0), (9, 0)], "mirrored", "auto", "bf16"),
        ([(8, 0), (7, 5)], "mirrored", "auto", "float32"),
        ([None], "one", "auto", "float32"),
        ([(9, 0)], "one", "float32", "float32"),
        ([], "one", "bf16", "bf16"),
    ],
)
def test_auto_precision_is_bf16_where_the_devices_have_it(gpus, strategy, asked, given, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    details = {gpu: {} if gpu is None else {"compute_capability": gpu} for gpu in gpus}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.get)
    assert precision_for(asked, strategy) == given
