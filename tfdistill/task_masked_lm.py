"""A masked LM for TinyBERT's augmentation where the teacher has none: trained for some minutes on the task's own texts, on top of the
teacher's encoder.

The trained model stays in the cache folder under the teacher's weights, the texts, the minutes and the seed; who asks again,
or was stopped, has the same one and so the same augmented texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import keras
import tensorflow as tf

from tfdistill.checkpoint import fingerprint
from tfdistill.data.registry import cache_folder
from tfdistill.data.textdata import Split
from tfdistill.errors import UserError
from tfdistill.files import atomic_write
from tfdistill.models.presets import resembling
from tfdistill.models.text import TextModel
from tfdistill.pretrain import Duration, Settings, pretrain
from tfdistill.progress import say

MINUTES = 3.0
FOLDER = "masked-lm"
DONE = "done.json"
_LONGEST, _BATCH = 128, 16  # word pieces of a sequence, sequences in a step


def masked_lm_of_task(teacher: TextModel, split: Split, *, minutes: float = MINUTES, seed: int = 1) -> Path:
    """The directory of a masked LM with the teacher's encoder, trained on the texts of `split` with a new head.

    Raises UserError for a BiLSTM, for a split with next to no text, and where several devices train: one is to make the texts before.
    """
    lines = list(_lines(split))
    digest = hashlib.sha256("\n".join([fingerprint(teacher), f"{minutes:g} {seed}", *lines]).encode())
    out = cache_folder(FOLDER) / digest.hexdigest()[:16]
    if (out / DONE).is_file():
        return out / "run" / "student"
    if tf.distribute.get_strategy().num_replicas_in_sync > 1:
        raise UserError(
            "a masked LM is not trained on several devices here; make the texts first, with tfdistill augment --method tinybert "
            "--teacher DIR --out TEXTS, and train on --data TEXTS --set copies=0"
        )
    keras.utils.set_random_seed(seed)
    model = _on_top_of(teacher)
    out.mkdir(exist_ok=True)
    atomic_write(out / "text.txt", "\n".join(lines) + "\n")
    say(
        f"the teacher has no masked LM; one is trained on {len(lines):,} texts of the task for {minutes:g} minutes, into {out}"
    )
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
        duration=Duration(minutes=minutes),
        settings=settings,
        trained_before=True,
        seed=seed,
        named=f"{teacher.family} teacher",
    )
    atomic_write(out / DONE, json.dumps(done.after) + "\n")
    return out / "run" / "student"


def _on_top_of(teacher: TextModel) -> TextModel:
    """The teacher's encoder with a new head."""
    model = resembling(teacher, "masked_lm")
    model.encoder.embeddings.set_weights(teacher.encoder.embeddings.get_weights())
    for ours, theirs in zip(model.encoder.blocks, teacher.encoder.blocks, strict=True):
        ours.set_weights(theirs.get_weights())
    return model


def _lines(split: Split) -> Iterable[str]:
    """Each different text of the split on a line of its own: a document for `tfdistill.data.plain_text`."""
    columns = [split.texts] if split.texts_b is None else [split.texts, split.texts_b]
    texts = (" ".join(text.split()) for column in columns for text in column)
    return dict.fromkeys(text for text in texts if text)
