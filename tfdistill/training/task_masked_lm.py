"""A masked LM for TinyBERT's augmentation where the teacher has none: trained for some minutes on the task's own texts, on top of the
teacher's encoder.

The trained model stays in the cache folder under the teacher's weights, the texts, the minutes or steps and the seed; who asks
again, or was stopped, has the same one and so the same augmented texts. Two processes that need the same one train it once. Minutes
are other numbers of steps on other machines, and so other texts: steps are the same everywhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf

from tfdistill.cache.folder import cache_folder, cache_lock
from tfdistill.data.splits import Split
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.presets import resembling
from tfdistill.models.text_model import TextModel
from tfdistill.system.console import say
from tfdistill.system.files import atomic_write
from tfdistill.training.pretrain import Duration, Settings, pretrain

MINUTES = 3.0
DEBUG_STEPS = 3
BY_THE_CLOCK = "the masked LM that augments the texts is trained by the clock: on another machine the texts are others"
FOLDER = "masked-lm"
DONE = "done.json"
_LONGEST, _BATCH = 128, 16  # word pieces of a sequence, sequences in a step


def masked_lm_of_task(
    teacher: TextModel, split: Split, *, minutes: float | None = None, steps: int | None = None, seed: int = 1
) -> Path:
    """The directory of a masked LM with the teacher's encoder, trained on the texts of `split` with a new head, for so many minutes
    (by default three) or, where they are given, `steps`. While another process trains the same one, it is waited for.

    Raises UserError for a BiLSTM, for a split with next to no text, and where several devices train: one is to make the texts before.
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
            "a masked LM is not trained on several devices here; make the texts first, with tfdistill augment --method tinybert "
            "--teacher DIR --out TEXTS, and train on --data TEXTS --set copies=0"
        )
    with cache_lock(out, f"trains the masked LM in {out}"):
        if not (out / DONE).is_file():
            _train(teacher, lines, out, duration, seed)
    return out / "run" / "student"


def _train(teacher: TextModel, lines: list[str], out: Path, duration: Duration, seed: int) -> None:
    keras.utils.set_random_seed(seed)
    model = _on_top_of(teacher)
    out.mkdir(exist_ok=True)
    atomic_write(out / "text.txt", "\n".join(lines) + "\n")
    long = f"{duration.steps} steps" if duration.minutes is None else f"{duration.minutes:g} minutes"
    say(f"the teacher has no masked LM; one is trained on {len(lines):,} texts of the task for {long}, into {out}")
    longest = getattr(model.config, "max_position_embeddings", _LONGEST)
    settings = Settings(
        length=min(_LONGEST, longest),
        batch_size=_BATCH,
        held_out=min(0.5, max(0.05, 20 / max(1, len(lines)))),
        evaluations=2,
    )
    done = pretrain(
        model,
        str(out / "text.txt"),
        out / "run",
        duration=duration,
        settings=settings,
        trained_before=True,
        seed=seed,
        named=f"{teacher.family} teacher",
    )
    atomic_write(out / DONE, json.dumps(done.after) + "\n")


def _on_top_of(teacher: TextModel) -> TextModel:
    """The teacher's encoder with a new head."""
    model = resembling(teacher, "masked_lm")
    model.encoder.embeddings.set_weights(teacher.encoder.embeddings.get_weights())
    for ours, theirs in zip(model.encoder.blocks, teacher.encoder.blocks, strict=True):
        ours.set_weights(theirs.get_weights())
    return model


def _lines(split: Split) -> Iterable[str]:
    """Each different text of the split on a line of its own: a document for `tfdistill.corpora.plain_text`."""
    columns = [split.texts] if split.texts_b is None else [split.texts, split.texts_b]
    texts = (" ".join(text.split()) for column in columns for text in column)
    return dict.fromkeys(text for text in texts if text)
