"""A masked LM for TinyBERT's augmentation: the teacher's own, or one trained on the task's texts on top of its encoder.

The trained model stays in the cache folder. Its key is made of the teacher's weights, the texts, the minutes or steps and the
seed, so that the same run, or one that was stopped, has the same model and the same augmented texts. Two processes that need
the same model train it once. Minutes are different numbers of steps on different machines, and so give different texts; steps
are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tfdistill.cache.folder import cache_folder, cache_lock
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.limits import most_tokens
from tfdistill.models.presets import resembling
from tfdistill.recipes.pretrain import Duration, Settings, recipe
from tfdistill.system.console import say
from tfdistill.system.files import atomic_write, student_directory
from tfdistill.system.lazy import keras, tf
from tfdistill.training.word_candidates import own_masked_lm

if TYPE_CHECKING:
    from tfdistill.models.text_model import TextModel

MINUTES = 3.0
DEBUG_STEPS = 3
BY_THE_CLOCK = (
    "the masked LM that augments the texts is trained by the clock, so that another machine makes other texts"
)
FOLDER = "masked-lm"
DONE = "done.json"
_LONGEST, _BATCH = 128, 16  # tokens of a sequence, sequences in a step


def masked_lm_for(
    teacher: TextModel, split: Split, *, minutes: float | None = None, steps: int | None = None, seed: int = 1
) -> Path:
    """Return the directory of the masked LM that goes with a teacher: `own_masked_lm`, or `masked_lm_of_task`.

    Raises UserError as `masked_lm_of_task`, and for a family that has no such head.
    """
    own = own_masked_lm(teacher)
    if own is None:
        return masked_lm_of_task(teacher, split, minutes=minutes, steps=steps, seed=seed)
    if teacher.loaded_from is None or own != student_directory(teacher.loaded_from):
        say(f"the texts are augmented by {own}, from which the teacher was fine-tuned")
    return own


def masked_lm_of_task(
    teacher: TextModel, split: Split, *, minutes: float | None = None, steps: int | None = None, seed: int = 1
) -> Path:
    """Train a masked LM with the teacher's encoder and a new head on the texts of `split`, if the cache has none yet.

    Args:
        minutes: minutes of training; three by default.
        steps: optimizer steps, in place of minutes.
        seed: seed of the new head, the masks and the order of sequences.

    Returns:
        Its directory. While another process trains the same model, this one waits.

    Raises:
        UserError: a BiLSTM, a split with almost no text, or training on several devices.
    """
    lines = list(_lines(split))
    minutes = MINUTES if minutes is None else minutes
    duration = Duration(minutes=minutes) if steps is None else Duration(steps=steps)
    length = f"{minutes:g}" if steps is None else f"{steps} steps"
    digest = hashlib.sha256("\n".join([identity(teacher), f"{length} {seed}", *lines]).encode())
    out = cache_folder(FOLDER) / digest.hexdigest()[:16]
    if (out / DONE).is_file():
        return out / "run" / "student"
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise UserError(
            "A masked LM for augmentation trains on one device only. Make the texts first (tfdistill augment --method tinybert "
            "--teacher DIR --out TEXTS), then train on `--data TEXTS --set copies=0`."
        )
    with cache_lock(out, f"trains the masked LM in {out}"):
        if not (out / DONE).is_file():
            _train(teacher, lines, out, duration, seed)
    return out / "run" / "student"


def _train(teacher: TextModel, lines: list[str], out: Path, duration: Duration, seed: int) -> None:
    from tfdistill.training.run_directory import run

    keras.utils.set_random_seed(seed)
    model = _on_top_of(teacher)
    out.mkdir(exist_ok=True)
    atomic_write(out / "text.txt", "\n".join(lines) + "\n")
    long = f"{duration.steps} steps" if duration.minutes is None else f"{duration.minutes:g} minutes"
    say(f"the teacher has no masked LM; one is trained on {len(lines):,} texts of the task for {long}, into {out}")
    longest = most_tokens(model.config, _LONGEST)
    settings = Settings(
        length=min(_LONGEST, longest),
        batch_size=_BATCH,
        held_out=min(0.5, max(0.05, 20 / max(1, len(lines)))),
        evaluations=2,
    )
    made = recipe(
        model,
        str(out / "text.txt"),
        settings,
        duration=duration,
        trained_before=True,
        seed=seed,
        source=f"{teacher.family} teacher",
    )
    result = run(made, out / "run", seed=seed)
    atomic_write(out / DONE, json.dumps(result.scores["held_out"]) + "\n")


def _on_top_of(teacher: TextModel) -> TextModel:
    """Return the teacher's encoder with a new head."""
    model = resembling(teacher, "masked_lm")
    model.encoder.embeddings.set_weights(teacher.encoder.embeddings.get_weights())
    for block, source in zip(model.encoder.blocks, teacher.encoder.blocks, strict=True):
        block.set_weights(source.get_weights())
    return model


def _lines(split: Split) -> Iterable[str]:
    """Return each different text of the split on one line: a document for `tfdistill.corpora.plain_text`."""
    columns = [split.texts] if split.texts_b is None else [split.texts, split.texts_b]
    texts = (" ".join(text.split()) for column in columns for text in column)
    return dict.fromkeys(text for text in texts if text)
