"""A masked LM of the task's own texts: trained once whoever asks, in steps or minutes, and by minutes not said to be reproducible."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import keras
import pytest
from filelock import FileLock

from tfdistill.data.splits import Split
from tfdistill.models.hf import load_directory
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import _task_masked_lm as task_masked_lm
from tfdistill.recipes._task_masked_lm import DONE, masked_lm_of_task
from tfdistill.training.word_candidates import own_masked_lm

pytestmark = pytest.mark.heavy

TINY = Path(__file__).parents[1] / "models" / "tiny_bert"
SPLIT = Split([" ".join("abcdefgh"[n % 5 :]) for n in range(40)] + [f"{a} {b} c" for a in "abcd" for b in "efgh"])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def teacher() -> TextModel:
    keras.utils.set_random_seed(1)
    return load_directory(TINY, num_outputs=2)


@pytest.mark.slow
def test_steps_end_it_in_seconds_and_it_is_trained_once(teacher, monkeypatch):
    out = task_masked_lm.masked_lm_for(teacher, SPLIT, steps=task_masked_lm.DEBUG_STEPS)
    said = json.loads((out.parent / "run.json").read_text("utf-8"))
    assert said["steps"] == 3 and said["stages"][0]["exact_steps"] == 3 and said["reproducible"]["bit_for_bit"] is True
    assert own_masked_lm(teacher) is None
    monkeypatch.setattr("tfdistill.training.run_directory.run", None)
    assert masked_lm_of_task(teacher, SPLIT, steps=3) == out
    with pytest.raises(TypeError):  # minutes are another one
        masked_lm_of_task(teacher, SPLIT, minutes=3)


def test_of_two_that_need_it_the_second_waits(teacher, cache, capsys, monkeypatch):
    trained: list[Path] = []

    def run(recipe, out, **_):
        trained.append(out)
        raise KeyboardInterrupt

    monkeypatch.setattr("tfdistill.training.run_directory.run", run)
    with pytest.raises(KeyboardInterrupt):  # which tells where it goes, and leaves no lock
        masked_lm_of_task(teacher, SPLIT)
    place = trained[0].parent
    told = capsys.readouterr().err
    assert "for 3 minutes" in told and "waiting" not in told
    monkeypatch.setattr("tfdistill.training.run_directory.run", None)
    begun = threading.Event()

    def other() -> None:
        with FileLock(place.parent / f".{place.name}.lock"):
            begun.set()
            time.sleep(0.5)
            (place / DONE).write_text("{}")

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(5)
    assert masked_lm_of_task(teacher, SPLIT) == place / "run" / "student"
    thread.join()
    (line,) = capsys.readouterr().err.splitlines()
    assert str(place) in line and "waiting" in line
