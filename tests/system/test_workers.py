"""Two worker processes give one device's student, even if one of them is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
from as_worker import trained
from safetensors.numpy import load_file
from tiny_recipes import SMALL, dualtrain_settings, write_text

from tfdistill.models.bert_config import BertConfig
from tfdistill.models.load import save
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
SUPERVISE = Path(__file__).parents[2] / "examples" / "supervise.sh"


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
    return started([*words, "--strategy", "multiworker"], index, ports, log)


def started(words: list[str], index: int, ports: list[int], log: Path) -> subprocess.Popen:
    config = {
        "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
        "task": {"type": "worker", "index": index},
    }
    with log.open("ab") as file:
        environment = {**os.environ, "TF_CONFIG": json.dumps(config)}
        return subprocess.Popen(words, env=environment, stdout=file, stderr=file)


def weights(out: Path) -> dict[str, np.ndarray]:
    return load_file(out / "student" / "model.safetensors")


def command_of(supervisor: subprocess.Popen) -> psutil.Process | None:
    """What it has started, if that is running."""
    with suppress(psutil.NoSuchProcess):
        return next((each for each in psutil.Process(supervisor.pid).children() if "tfdistill" in each.cmdline()), None)
    return None


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL, "dualtrain_sharedproj"])
def test_two_workers_train_every_recipe_as_one_device(name, tmp_path, monkeypatch):
    """Two processes on loopback, the same global batch: weights to 1e-5 with SGD, losses to 1e-4."""
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    settings = ["rate=0"] if name == "layerdrop" else []
    if name == "dualtrain_sharedproj":
        settings = [*dualtrain_settings(tmp_path, write_text(tmp_path / "text.txt")), "general.mixed_epochs=1"]
    weights, losses = trained(name, settings)
    ports, out, logs = free_ports(2), tmp_path / "two.npz", [tmp_path / f"{number}.log" for number in (0, 1)]
    words = [sys.executable, str(Path(__file__).parents[1] / "as_worker.py"), str(out), name, *settings]
    running = [started(words, number, ports, log) for number, log in enumerate(logs)]
    try:
        codes = [each.wait(timeout=400) for each in running]
    finally:
        for each in running:
            each.kill()
    assert codes == [0, 0], [log.read_text("utf-8")[-3000:] for log in logs]
    with np.load(out) as two:
        np.testing.assert_allclose(losses, two["losses"], rtol=1e-4, atol=1e-6)
        for number, weight in enumerate(weights):
            np.testing.assert_allclose(two[f"arr_{number}"], weight, atol=1e-5)


@pytest.mark.slow
def test_two_workers_give_one_devices_student_even_if_each_is_killed(words, tmp_path):
    """Under examples/supervise.sh, first the other worker and then the chief is killed; no person does anything."""
    words = [*words, "--set", "evaluations=8"]
    subprocess.run([*words, "--out", str(tmp_path / "one")], check=True, capture_output=True)
    kills = {"whole": [], "killed": [(1, 2), (0, 5)]}  # which worker, at which checkpoint
    for name, left in kills.items():
        out, ports = tmp_path / name, free_ports(2)
        command = ["env", "PAUSE=1", str(SUPERVISE), "4", *words, "--out", str(out)]
        running = [worker(command, number, ports, tmp_path / f"{name}-{number}.log") for number in (0, 1)]
        end = time.monotonic() + 400
        while any(each.poll() is None for each in running):
            assert time.monotonic() < end, [(tmp_path / f"{name}-{n}.log").read_text("utf-8")[-3000:] for n in (0, 1)]
            written = max((int(path.name) for path in (out / "resume").glob("[0-9]*")), default=0)
            if left and written >= left[0][1] and (victim := command_of(running[left[0][0]])):
                victim.kill()
                left.pop(0)
            time.sleep(0.05)
        logs = [(tmp_path / f"{name}-{number}.log").read_text("utf-8") for number in (0, 1)]
        assert [each.returncode for each in running] == [0, 0] and not left, logs
        for log in logs:
            assert log.count("exit code 137") == (name == "killed"), log[-3000:]
    assert "another worker is gone" in logs[0] and logs[0].count("resuming from step") >= 2
    one, whole, killed = (weights(tmp_path / name) for name in ("one", "whole", "killed"))
    assert all(np.array_equal(killed[key], whole[key]) for key in whole)
    assert max(np.abs(one[key] - whole[key]).max() for key in one) < 1e-4  # Adam
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text("utf-8").splitlines()]
        for name in ("one", "whole", "killed")
    ]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[1] == losses[2]
    noted = json.loads((tmp_path / "killed" / "run.json").read_text("utf-8"))["reproducible"]
    assert (noted["strategy"], noted["replicas"], noted["bit_for_bit"]) == ("multiworker", 2, True)


@pytest.mark.slow
def test_what_is_done_is_saved_when_one_of_two_workers_is_told_to_stop(words, tmp_path):
    """SIGTERM to the other worker, then to the chief: both stop at one step, between scorings, and go on from there."""
    words = [*words, "--set", "epochs=80", "--set", "evaluations=2", "--checkpoint-seconds", "600"]

    def run(name: str, victim: int | None, until: Callable[[], bool]) -> None:
        logs = [tmp_path / f"{name}-{number}.log" for number in (0, 1)]
        ports, end = free_ports(2), time.monotonic() + 300
        running = [worker([*words, "--out", str(tmp_path / name)], number, ports, logs[number]) for number in (0, 1)]
        while not until():
            assert time.monotonic() < end and all(each.poll() is None for each in running), logs[0].read_text("utf-8")
            time.sleep(0.05)
        if victim is not None:
            asked = time.monotonic()
            running[victim].send_signal(signal.SIGTERM)
            running[victim].wait(300)
            assert time.monotonic() - asked < 15  # ten, and what a busy machine adds
        codes = [each.wait(300) for each in running]
        expected = [0, 0] if victim is None else [143 if number == victim else 75 for number in (0, 1)]
        assert codes == expected, [log.read_text("utf-8")[-3000:] for log in logs]

    def told() -> str:
        return (tmp_path / "told-0.log").read_text("utf-8")

    run("whole", None, lambda: True)
    run("told", 1, lambda: (tmp_path / "told" / "log.jsonl").is_file())  # the scoring at half of it
    run("told", 0, lambda: "resuming from step" in told())
    run("told", None, lambda: True)
    steps = [int(said) for said in re.findall(r"resuming from step (\d+) of", told())]
    assert len(steps) == 2 and 500 < steps[0] <= steps[1] < 1000, told()
    assert "another worker was told to stop" in told()
    ours, theirs = weights(tmp_path / "told"), weights(tmp_path / "whole")
    assert all(np.array_equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.slow
def test_workers_that_read_their_own_rows_of_a_corpus_give_one_devices_student(words, tmp_path):
    """Shards of texts that the teacher has labelled: each worker makes half of every batch, and the losses are those of one device."""
    rng = np.random.default_rng(1)
    texts = [
        " ".join(rng.choice(list("bcdefgh"), 12)) for _ in range(113)
    ]  # 7 batches of 16, and one row for two workers
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
    words = [*words, "--set", f"labelled.corpus={corpus}", "--set", "epochs=1", "--set", "labelled.epochs=2"]
    subprocess.run([*words, "--out", str(tmp_path / "one")], check=True, capture_output=True)
    ports = free_ports(2)
    running = [worker([*words, "--out", str(tmp_path / "two")], n, ports, tmp_path / f"{n}.log") for n in (0, 1)]
    assert [each.wait(240) for each in running] == [0, 0], (tmp_path / "0.log").read_text("utf-8")[-3000:]
    logs = [(tmp_path / name / "log.jsonl").read_text("utf-8").splitlines() for name in ("one", "two")]
    one, two = ([(json.loads(line)["stage"], json.loads(line)["loss"]) for line in log] for log in logs)
    assert [stage for stage, _ in one] == [stage for stage, _ in two] and one[0][0] == "labelled texts"
    np.testing.assert_allclose([loss for _, loss in one], [loss for _, loss in two], rtol=1e-4, atol=1e-6)
