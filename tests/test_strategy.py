"""What `--strategy` takes and refuses, and two workers that give one device's student, also when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file

from tfdistill.data.tokenize import Tokenizer
from tfdistill.errors import UserError
from tfdistill.load import save
from tfdistill.models.bert import BertConfig
from tfdistill.models.text import TextModel
from tfdistill.strategy import by_one_replica, chief_says, is_chief, make_strategy, training_on

TINY = Path(__file__).parent / "models" / "tiny_bert"


def test_one_device_is_the_default():
    assert make_strategy("one") is tf.distribute.get_strategy()
    with training_on("one"):
        assert is_chief() and chief_says(True) and not chief_says(False)
        assert by_one_replica(len) is len


def test_parts_of_a_cpu():
    assert make_strategy("mirrored:2").num_replicas_in_sync == 2
    with pytest.raises(UserError, match="as it is already"):
        make_strategy("mirrored:5")


@pytest.mark.parametrize(
    ("spec", "config", "told"),
    [
        ("two", None, "expected one, mirrored"),
        ("mirrored:0", None, "unknown"),
        ("mirrored:x", None, "unknown"),
        ("one:1", None, "unknown"),
        ("mirrored", None, "this machine has 0 GPUs; expected one or more, or mirrored:N"),
        ("multiworker", None, "got no TF_CONFIG; expected"),
        ("multiworker", "{", r"got \{; expected"),
        (
            "multiworker",
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "another N for each",
        ),
        ("multiworker", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "expected"),
        ("multiworker", "[]", "expected"),
        ("tpu:none", None, "found no TPU"),
    ],
)
def test_what_cannot_be_had_is_said(spec, config, told, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match=told):
        make_strategy(spec)


# --- workers --------------------------------------------------------------------------------------------------------


@pytest.fixture
def words(tmp_path) -> list[str]:
    """The command, but for --out and --strategy."""
    rng, letters = np.random.default_rng(0), list("bcdefgh")
    for name in ("train", "dev", "test"):
        lines = [
            f"{' '.join(rng.choice(letters, rng.integers(2, 6)))}{' a' if row % 2 else ''}\t{('no', 'yes')[row % 2]}"
            for row in range(200 if name == "train" else 30)
        ]
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.tsv").write_text("text\tlabel\n" + "\n".join(lines) + "\n", "utf-8")
    keras.utils.set_random_seed(3)
    config = BertConfig(
        37, 16, 4, 2, 32, max_position_embeddings=24, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    teacher = TextModel(config, 2, label_names=("no", "yes"))
    teacher.tokenizer = Tokenizer.from_directory(TINY)
    save(teacher, tmp_path / "teacher")
    settings = ["num_layers=2", "max_length=12", "batch_size=16", "epochs=3", "dropout=0", "learning_rate=1e-4"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    given = ["--teacher", str(tmp_path / "teacher"), "--data", str(tmp_path / "data"), "--checkpoint-seconds", "0"]
    return [sys.executable, "-m", "tfdistill", "train", "soft_targets", *given, *chosen]


def free_ports(count: int) -> list[int]:
    taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in taken]
    for each in taken:
        each.close()
    return ports


def worker(words: list[str], index: int, ports: list[int], log: Path) -> subprocess.Popen:
    config = {
        "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
        "task": {"type": "worker", "index": index},
    }
    with log.open("ab") as file:
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        return subprocess.Popen([*words, "--strategy", "multiworker"], env=environment, stdout=file, stderr=file)


def weights(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "student" / "model.safetensors")


@pytest.mark.slow
def test_two_workers_give_one_devices_student_even_if_one_is_killed(words, tmp_path):
    """A supervisor, as clusters have one, starts again what ended with "try again" or was killed; no person does anything."""
    subprocess.run([*words, "--out", str(tmp_path / "one")], check=True, capture_output=True)
    ends: dict[str, dict[int, list[int]]] = {}
    for name, kills in (("whole", 0), ("killed", 1)):
        ports, out, codes = free_ports(2), tmp_path / name, {0: [], 1: []}
        running: dict[int, subprocess.Popen] = {}

        def supervise(index: int, words=(*words, "--out", str(out)), ports=ports, codes=codes, running=running) -> None:
            while len(codes[index]) < 4:
                running[index] = worker(list(words), index, ports, tmp_path / f"{index}.log")
                codes[index].append(running[index].wait(240))
                if codes[index][-1] not in (75, -signal.SIGKILL):
                    return

        threads = [threading.Thread(target=supervise, args=(index,)) for index in (0, 1)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 240
        while kills and time.monotonic() < end and any(thread.is_alive() for thread in threads):
            if len(list((out / "resume").glob("[0-9]*"))) >= 2:
                running[1].kill()
                break
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        ends[name] = codes
    log = (tmp_path / "0.log").read_text("utf-8")
    assert ends == {"whole": {0: [0], 1: [0]}, "killed": {0: [75, 0], 1: [-signal.SIGKILL, 0]}}, log[-3000:]
    assert "another worker is gone" in log and "going on from step" in log
    one, whole, killed = (weights(tmp_path / name) for name in ("one", "whole", "killed"))
    assert all(np.array_equal(killed[key], whole[key]) for key in whole)
    assert max(np.abs(one[key] - whole[key]).max() for key in one) < 1e-4  # Adam
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text("utf-8").splitlines()]
        for name in ("one", "whole", "killed")
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[1] == losses[2]


@pytest.mark.slow
def test_workers_that_read_their_own_rows_of_a_corpus_give_one_devices_student(words, tmp_path):
    """Shards of texts that the teacher has labelled: each worker makes half of every batch, and the losses are those of one device."""
    rng = np.random.default_rng(1)
    texts = [" ".join(rng.choice(list("bcdefgh"), 12)) for _ in range(120)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", "utf-8")
    teacher, corpus = tmp_path / "teacher", tmp_path / "corpus"
    options = [
        "--tokenizer",
        teacher,
        "--rows",
        "--teacher",
        teacher,
        "--max-length",
        12,
        "--shard-mb",
        "0.001",
        "--held-out",
        0,
    ]
    command = [sys.executable, "-m", "tfdistill", "corpus", tmp_path / "texts.txt", "--out", corpus, *options]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    words = [*words, "--set", f"labelled={corpus}", "--set", "epochs=1", "--set", "labelled_epochs=2"]
    subprocess.run([*words, "--out", str(tmp_path / "one")], check=True, capture_output=True)
    ports = free_ports(2)
    running = [worker([*words, "--out", str(tmp_path / "two")], n, ports, tmp_path / f"{n}.log") for n in (0, 1)]
    assert [each.wait(240) for each in running] == [0, 0], (tmp_path / "0.log").read_text("utf-8")[-3000:]
    logs = [(tmp_path / name / "log.jsonl").read_text("utf-8").splitlines() for name in ("one", "two")]
    one, two = ([(json.loads(line)["stage"], json.loads(line)["loss"]) for line in log] for log in logs)
    assert [stage for stage, _ in one] == [stage for stage, _ in two] and one[0][0] == "labelled texts"
    np.testing.assert_allclose([loss for _, loss in one], [loss for _, loss in two], rtol=1e-4)
