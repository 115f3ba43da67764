"""Examples with the logits of a teacher."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
from made_corpora import LETTERS, labelled, make_teacher

from tfdistill import losses
from tfdistill.cache import checksums as checked
from tfdistill.corpora.labelled_texts import LabelledTexts
from tfdistill.distill.distiller import Distiller
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.models.fingerprint import identity
from tfdistill.models.load import save
from tfdistill.models.text_model import TextModel
from tfdistill.system.files import sha256
from tfdistill.training.run_identity import stage_as_data
from tfdistill.training.stage import Stage

pytestmark = pytest.mark.heavy


@pytest.fixture
def teacher(tmp_path) -> TextModel:
    return make_teacher(tmp_path / "teacher")


def test_texts_come_with_the_teachers_logits(tmp_path, teacher):
    texts = LabelledTexts(labelled(tmp_path, copies=2, held_out=0.0), teacher.tokenizer, 2)
    batches = list(texts.dataset(8, seed=1, epochs=2).as_numpy_iterator())
    assert len(texts) > 100 and sum(len(batch["student"]["token_ids"]) for batch in batches) == 2 * len(texts)
    seen: Counter = Counter()
    for batch in batches:
        np.testing.assert_allclose(teacher(batch["student"]).numpy(), batch["teacher_features"]["logits"], atol=1e-5)
        seen.update(tuple(row[row > 0]) for row in batch["student"]["token_ids"])
    ids = teacher.tokenizer.encode(LETTERS, max_length=16).rows(np.arange(len(LETTERS)))
    assert all(seen[tuple(row)] == 2 for row in ids)  # once an epoch, repeated or not
    later = list(texts.dataset(8, seed=1, epochs=2, first_step=9).as_numpy_iterator())
    for one, other in zip(batches[9:], later, strict=True):
        np.testing.assert_array_equal(one["student"]["token_ids"], other["student"]["token_ids"])
    parts = [list(texts.dataset(8, seed=1, worker=(n, 2)).as_numpy_iterator()) for n in (0, 1)]
    for batch, *shared in zip(batches, *parts, strict=False):
        logits = np.concatenate([part["teacher_features"]["logits"] for part in shared])
        np.testing.assert_array_equal(batch["teacher_features"]["logits"], logits)
    with pytest.raises(UserError, match=r"2 classes.* 3"):
        LabelledTexts(tmp_path / "labelled", teacher.tokenizer, 3)
    assert {batch["student"]["token_ids"].shape[1] for batch in texts.dataset(8, seed=1, buckets=(9, 16))} <= {9, 16}


def test_logits_of_another_teacher_are_refused(tmp_path, teacher):
    corpus = labelled(tmp_path)
    mine = LabelledTexts(corpus, teacher.tokenizer, 2, teacher=identity(teacher))
    teacher.set_weights([weight + 1 for weight in teacher.get_weights()])
    with pytest.raises(UserError, match="another teacher"):
        LabelledTexts(corpus, teacher.tokenizer, 2, teacher=identity(teacher))
    save(teacher, tmp_path / "other")
    shutil.rmtree(corpus)
    other = labelled(tmp_path, teacher=str(tmp_path / "other"))
    theirs = LabelledTexts(other, teacher.tokenizer, 2, teacher=identity(teacher))
    # A run that learns from one of them is another than a run that learns from the other, as many texts as they are.
    stages = [stage_as_data(Stage("labelled", (HardLabels(),), source=texts))["source"] for texts in (mine, theirs)]
    assert len(mine) == len(theirs) and stages[0] != stages[1] and stages[0].startswith(f"{len(mine)} sequences ")


@pytest.mark.parametrize("stored", [True, False])
def test_logits_are_put_in_the_order_of_the_classes(tmp_path, teacher, stored, capsys):
    """Also those of a corpus of an older version, which has no names, and after the teacher was put in another order."""
    corpus = labelled(tmp_path, held_out=0.0)
    manifest = json.loads((corpus / "manifest.json").read_text("utf-8"))
    assert manifest["settings"]["label_names"] == ["no", "yes"]
    if not stored:
        del manifest["settings"]["label_names"]
        (corpus / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    ours = LabelledTexts(corpus, teacher.tokenizer, 2, teacher=teacher, label_names=("yes", "no"))
    with pytest.raises(UserError, match=r"yes.*maybe|maybe.*yes"):
        LabelledTexts(corpus, teacher.tokenizer, 2, teacher=teacher, label_names=("maybe", "no"))
    capsys.readouterr()
    unknown = LabelledTexts(corpus, teacher.tokenizer, 2, label_names=("yes", "no"))
    assert ("yes, no" in capsys.readouterr().err) != stored
    teacher.order_outputs(("yes", "no"), "DATA")
    if stored:
        ours = LabelledTexts(corpus, teacher.tokenizer, 2, teacher=teacher, label_names=("yes", "no"))
        unknown = ours
    for texts, reversed_ in ((ours, False), (unknown, not stored)):
        batch = next(texts.dataset(8, seed=1).as_numpy_iterator())
        logits = batch["teacher_features"]["logits"]
        np.testing.assert_allclose(teacher(batch["student"]), logits[:, ::-1] if reversed_ else logits, atol=1e-5)


def test_a_batch_with_fewer_rows_than_workers_leaves_some_without_any(tmp_path, teacher):
    """The part without rows goes through a step as any other, and adds nothing."""
    texts = LabelledTexts(labelled(tmp_path, held_out=0.0), teacher.tokenizer, 2)
    assert len(texts) == 60
    whole, *parts = (
        list(texts.dataset(59, seed=1, worker=worker).as_numpy_iterator()) for worker in ((0, 1), (0, 2), (1, 2))
    )
    sizes = [[len(batch["student"]["token_ids"]) for batch in some] for some in (whole, *parts)]
    assert sorted(zip(*sizes, strict=True)) == [(1, 1, 0), (59, 30, 29)]
    (empty,) = (batch for batch in parts[1] if not len(batch["student"]["token_ids"]))
    assert empty["student"]["padding_mask"].shape == (0, 2) and empty["teacher_features"]["logits"].shape == (0, 2)
    assert empty["teacher_features"]["logits"].dtype == np.float32
    distiller = Distiller(teacher, None, [Match(losses.soft_kl, options={"temperature": 2.0})])
    distiller.compile(optimizer=keras.optimizers.SGD(1.0))
    before = teacher.get_weights()
    assert distiller.train_on_batch(empty, return_dict=True)["loss"] == 0.0
    assert all(np.array_equal(one, other) for one, other in zip(before, teacher.get_weights(), strict=True))


@pytest.mark.parametrize("name", ["train.ids", "train.logits.npy"])
def test_training_reads_no_damaged_corpus_and_looks_once(tmp_path, teacher, monkeypatch, name):
    corpus = labelled(tmp_path)
    read: list[Path] = []
    monkeypatch.setattr(checked, "sha256", lambda path: read.append(Path(path)) or sha256(path))

    def opened() -> int:
        """How many files were compared."""
        read.clear()
        LabelledTexts(corpus, teacher.tokenizer, 2)
        return len(read)

    corpus.chmod(0o555)
    assert opened() == len(json.loads((corpus / "manifest.json").read_text())["sha256"]) and opened() == 0
    file = corpus / "shard-00001" / name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    os.utime(file, ns=(0, 0))
    assert opened() == 1 and opened() == 0
    file.write_bytes(content)
    for _ in range(2):
        with pytest.raises(UserError, match=f"shard-00001/{name} is damaged"):
            opened()
    file.unlink()
    with pytest.raises(UserError, match=f"shard-00001/{name} is missing"):
        opened()
    corpus.chmod(0o755)


@pytest.mark.parametrize("name", ["train.logits.npy", "train.sentences.npy", "counts.npy"])
def test_a_truncated_array_is_one_line(tmp_path, teacher, name):
    file = labelled(tmp_path) / "shard-00000" / name
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match="damaged"):
        LabelledTexts(tmp_path / "labelled", teacher.tokenizer, 2)
