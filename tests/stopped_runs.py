"""The smallest run, ways to stop it, and ways to damage its files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from tfdistill.compress.layerdrop import keep_layers
from tfdistill.data.splits import Split
from tfdistill.data.text_data import TextData
from tfdistill.models.hf import load_directory
from tfdistill.models.text_model import TextModel
from tfdistill.recipes import finetune
from tfdistill.training import callbacks, runner
from tfdistill.training.callbacks import Bookkeeper
from tfdistill.training.evaluation import evaluate
from tfdistill.training.recipe import Recipe
from tfdistill.training.run_directory import run

TINY = Path(__file__).parent / "models" / "tiny_bert"


class Killed(BaseException):
    """Ends a run at once, as SIGKILL does: nothing in the library catches it."""


def cut(path: Path) -> None:
    file = path / "arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip(path: Path, name: str, place: int) -> None:
    content = bytearray((path / name).read_bytes())
    content[place] ^= 4
    (path / name).write_bytes(content)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def data(rows: int = 40) -> TextData:
    """Texts of letters; the class says whether 'a' is among them."""
    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = random.integers(0, 2, count)
        texts = [" ".join([*random.choice(list("bcdefg"), random.integers(2, 6)), "ha"[label]]) for label in labels]
        return Split(texts, labels=labels.astype("int64"))

    return TextData("letters", {"train": split(rows), "dev": split(16), "test": split(8)}, ("no", "yes"))


def tiny(layers: int = 1) -> TextModel:
    """Always the same one, with dropout."""
    keras.utils.set_random_seed(1)
    model = load_directory(TINY, num_outputs=2, label_names=("no", "yes"))
    return keep_layers(model, range(1, layers + 1)) if layers < 3 else model


def make(epochs: float = 2, **changes) -> Recipe:
    """The quickest run: 10 steps with a scoring after each fifth."""
    settings = finetune.Settings(max_length=12, batch_size=8, epochs=epochs, learning_rate=1e-2, evaluations=2)
    return replace(finetune.recipe(tiny(), data(), settings), **changes)


def stopped(monkeypatch, out: Path, recipe: Recipe, stage: int, step: int, by=Killed, scoring: bool = False, **options):
    """Train into `out` until `step` of `stage`, or (`scoring`) into the scoring of that number."""

    books = []

    class Stopping(Bookkeeper):
        def begin(self, *args):
            books.append(self)
            return super().begin(*args)

        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if not scoring and (self.state.stage, self.state.step) == (stage, step):
                raise by()

    def stopping(*args):
        result = evaluate(*args)
        state = books[-1].state
        if scoring and (state.stage, state.progress.rounds + 1) == (stage, step):
            raise by()
        return result

    with monkeypatch.context() as patch:
        patch.setattr(runner, "Bookkeeper", Stopping)
        patch.setattr(callbacks, "evaluate", stopping)
        with pytest.raises(by):
            run(recipe, out, seed=1, **{"checkpoint_seconds": 0.0, **options})


def same(one: TextModel, other: TextModel) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))
