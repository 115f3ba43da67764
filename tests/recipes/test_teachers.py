"""Several teachers, and teachers with another vocabulary."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_recipes import (
    NAMES,
    SMALL,
    TINY,
    data,
    make,
    teacher,
)

from tfdistill.errors import UserError
from tfdistill.models.load import save
from tfdistill.models.predict import predict_logits
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer
from tfdistill.training import run_directory
from tfdistill.training.rows import prepare
from tfdistill.training.runner import train
from tfdistill.training.teacher_outputs import with_teacher_logits

pytestmark = pytest.mark.heavy


def other_vocabulary(model: TextModel) -> TextModel:
    vocabulary = list(Tokenizer.from_directory(TINY).vocabulary)
    model.tokenizer = Tokenizer([*vocabulary[:5], *vocabulary[5:][::-1]])
    return model


@pytest.mark.parametrize(
    ("name", "settings", "read"),
    [
        ("distilbert", [], False),
        ("distilbert", ["soft_weight=0.5"], True),
        ("layerdrop", ["depth=1"], False),
        ("layerdrop", ["depth=1", "soft_weight=0.5"], True),
        ("head_pruning", [], False),
        ("head_pruning", ["epochs=1", "soft_weight=0.5"], True),
        ("soft_targets", ["num_layers=1", "soft_weight=0"], False),
        ("tinybert", ["num_layers=1", "copies=0"], True),
    ],
)
def test_several_teachers_are_refused_where_their_logits_are_not_read(name, settings, read, shallow, monkeypatch):
    monkeypatch.setitem(SMALL, name, ["student=layers"] if name == "tinybert" else [])
    made = make(name, data(), settings, shallow)
    if read:
        assert len(replace(made, other_teachers=(shallow,)).teachers) == 2
        return
    with pytest.raises(UserError, match=name):
        replace(made, other_teachers=(shallow,))


def test_dualtrain_refuses_several_teachers(tmp_path, text_file, shallow):
    save(teacher(head="masked_lm", layers=2), tmp_path / "general")
    options = [
        f"general.text={text_file}",
        f"general.teacher=hf:{tmp_path / 'general'}",
        "general.width=8",
        "general.vocab_size=24",
    ]
    made = make("dualtrain_sharedproj", data(), [*options, "general.length=16"], shallow)
    with pytest.raises(UserError, match="dualtrain_sharedproj"):
        replace(made, other_teachers=(shallow,))


def test_the_command_takes_several_teachers_for_the_baseline_on_labels(tmp_path, shallow, tfdistill, monkeypatch):
    """They are read for nothing, and so neither used nor refused."""
    save(shallow, tmp_path / "teacher")
    texts = data().splits["train"]
    rows = "".join(f"{text}\t{NAMES[label]}\n" for text, label in zip(texts.texts, texts.labels, strict=True))
    for split_name in ("train", "dev"):
        (tmp_path / f"{split_name}.tsv").write_text("text\tlabel\n" + rows, "utf-8")
    made = []

    def stop(recipe, *_, **__):
        made.append(recipe)
        raise UserError("stopped here")

    monkeypatch.setattr(run_directory, "run", stop)
    both = ["--teacher", tmp_path / "teacher", "--teacher", tmp_path / "teacher"]
    words = ["train", "distilbert", *both, "--data", tmp_path, "--out", tmp_path / "run", "--set", "max_length=12"]
    code, _, error = tfdistill(*words)
    assert code == 2 and "distilbert" in error and not made
    assert "stopped here" in tfdistill(*words, "--on-labels")[2]
    assert made[0].name == "distilbert on labels" and made[0].teachers == ()


def test_several_teachers_are_averaged():
    recipe = make("soft_targets", data(), [])
    other = teacher()
    other.head.bias.assign([3.0, -1.0])
    both = replace(recipe, other_teachers=(other,), teacher_weights=(1.0, 3.0))
    prepared = with_teacher_logits(both, prepare(both, 0))
    a, b = (predict_logits(model, prepared.train.encoded) for model in both.teachers)
    np.testing.assert_allclose(prepared.teacher_logits, 0.25 * a + 0.75 * b, atol=1e-6)
    few = prepared.first(3)
    assert (
        len(few.train.encoded) == len(few.texts) == len(few.train.labels) == 3
        and few.texts.texts == prepared.texts.texts[:3]
    )
    np.testing.assert_array_equal(few.teacher_logits, prepared.teacher_logits[:3])
    np.testing.assert_array_equal(few.train.encoded.token_ids, prepared.train.encoded.take(range(3)).token_ids)
    with pytest.raises(UserError, match="--teacher-weight"):
        replace(both, teacher_weights=(1.0,))


@pytest.mark.slow
def test_a_teacher_with_another_vocabulary_reads_its_own_pieces(tmp_path):
    recipe = make("soft_targets", data(), [])
    train(replace(recipe, teacher=other_vocabulary(teacher())), seed=0, max_steps=1)
    recipe = make("tinybert", data(), ["copies=0"])
    result = train(replace(recipe, teacher=other_vocabulary(teacher())), seed=0, max_steps=2)
    assert all(np.isfinite(point["loss"]) for point in result.curve) and {"accuracy"} <= set(result.scores["dev"])
