"""Strategies: what `--strategy` accepts, and which errors mean a lost worker."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import tensorflow as tf

from tfdistill.errors import UserError
from tfdistill.system.devices import WorkerLost, make_strategy, training_on
from tfdistill.system.workers import chief_flag, is_chief, on_one_replica
from tfdistill.training import callbacks

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
SUPERVISE = Path(__file__).parents[2] / "examples" / "supervise.sh"


def test_one_device_is_the_default():
    assert make_strategy("one") is tf.distribute.get_strategy()
    with training_on("one"):
        assert is_chief() and chief_flag(True) and not chief_flag(False)
        assert on_one_replica(len) is len


def test_parts_of_a_cpu():
    assert make_strategy("mirrored:2").num_replicas_in_sync == 2
    with pytest.raises(UserError, match="mirrored:5"):
        make_strategy("mirrored:5")


@pytest.mark.parametrize(
    ("spec", "config", "message"),
    [
        ("two", None, "--strategy two"),
        ("mirrored:0", None, "mirrored:0"),
        ("mirrored:x", None, "mirrored:x"),
        ("one:1", None, "one:1"),
        ("mirrored", None, "0 GPUs"),
        ("mirrored:99999", None, "mirrored:99999.*processors"),
        ("multiworker", None, "no TF_CONFIG"),
        ("multiworker", "{", r"got \{;"),
        (
            "multiworker",
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "TF_CONFIG",
        ),
        ("multiworker", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}', "TF_CONFIG"),
        ("multiworker", "[]", "TF_CONFIG"),
        ("tpu:none", None, "tpu:none"),
    ],
)
def test_what_cannot_be_had_is_refused(spec, config, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match=message):
        make_strategy(spec)


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (tf.errors.UnavailableError(None, None, "Collective ops is aborted by: Socket closed"), True),
        (tf.errors.AbortedError(None, None, "aborted"), True),
        (tf.errors.CancelledError(None, None, "cancelled"), True),
        (tf.errors.DeadlineExceededError(None, None, "barrier timed out"), True),
        (
            tf.errors.FailedPreconditionError(None, None, "current incarnation doesn't match with one in the group"),
            True,
        ),
        (tf.errors.FailedPreconditionError(None, None, "variable is not initialized"), False),
        (tf.errors.InvalidArgumentError(None, None, "shapes do not fit"), False),
        (tf.errors.ResourceExhaustedError(None, None, "out of memory"), False),
        (tf.errors.InternalError(None, None, "a kernel failed"), False),
    ],
    ids=lambda value: value.message if isinstance(value, Exception) else "",
)
def test_only_a_lost_worker_ends_with_try_again(error, lost, monkeypatch):
    monkeypatch.setattr("tfdistill.system.devices.several_workers", lambda: True)
    with pytest.raises(WorkerLost if lost else type(error)) as caught, training_on("one"):
        raise error
    assert getattr(caught.value, "exit_code", 1) == (75 if lost else 1)
    # As they are where one process trains.
    monkeypatch.setattr("tfdistill.system.devices.several_workers", lambda: False)
    with pytest.raises(type(error)), training_on("one"):
        raise error


@pytest.mark.parametrize(("chief", "others", "lost"), [((1, 50), 0, False), ((1, 40), 1, True), ((1, 50), 1, True)])
def test_workers_that_found_different_checkpoints_start_again(chief, others, lost, monkeypatch):
    """Each compares its own with the chief's, and all end where one differs."""
    monkeypatch.setattr(callbacks, "chief_values", lambda *mine: list(map(float, chief)))
    monkeypatch.setattr(callbacks, "sum_over_workers", lambda value: [value + others])
    with pytest.raises(WorkerLost, match="checkpoints") if lost else nullcontext():
        callbacks.require_same_checkpoint((1, 50))


@pytest.mark.parametrize(("code", "lost"), [("DeadlineExceeded", True), ("InvalidArgument", False)])
def test_workers_that_do_not_answer(code, lost, monkeypatch):
    error = getattr(tf.errors, f"{code}Error")(None, None, "no answer\nand more")

    def connect():
        raise error

    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", connect)
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}')
    with pytest.raises(WorkerLost if lost else type(error), match="no answer$" if lost else "and more"):
        make_strategy("multiworker")
