"""Options of the recipes: built and looked at, not trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny_recipes import bottleneck_teacher, data, make, split, teacher, write_text

from tfdistill.errors import UserError
from tfdistill.features import Features
from tfdistill.load import save
from tfdistill.match import PseudoLabels, Step
from tfdistill.models.presets import reduced_table, student_from_layers
from tfdistill.models.text import TextModel


@pytest.fixture(scope="module")
def shallow() -> TextModel:
    """A teacher of two layers, which no test changes."""
    return teacher(layers=2)


# --- rows without a label -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "rows"),
    [
        ("soft_targets", ["num_layers=1"], ["all"]),
        ("soft_targets", ["num_layers=1", "soft_weight=0"], ["labelled"]),
        ("privileged", [], ["all"]),
        ("pkd", [], ["all"]),
        ("tinybert", [], ["all", "all"]),
        ("bilstm", [], ["all"]),
        ("bilstm", ["alpha=0.5"], ["all"]),
        ("bilstm", ["alpha=1"], ["labelled"]),
        ("xtremedistil", ["version=joint"], ["all"]),
        ("xtremedistil", [], ["all"] * 4 + ["labelled"] * 3),
        ("distilbert", [], ["labelled"]),
        ("distilbert", ["distil_finetuning=true"], ["all"]),
        ("mobilebert", ["schedule=joint", "soft_weight=0"], ["all", "labelled"]),
        ("layerdrop", ["depth=1"], ["labelled"]),
        ("layerdrop", ["depth=1", "soft_weight=0.5"], ["all"]),
        ("head_pruning", ["epochs=1"], ["labelled"]),
        ("head_pruning", ["epochs=1", "soft_weight=0.5"], ["all"]),
        ("neuron_pruning", ["steps=2"], ["all", "all"]),
        ("neuron_pruning", ["steps=2", "soft_weight=0"], ["labelled", "labelled"]),
    ],
)
def test_rows_without_a_label_train_where_the_teacher_is_asked(name, settings, rows, shallow):
    unlabelled = replace(split(16, 7), labels=None)
    text = data()
    if name != "privileged":
        text = data(unlabelled=unlabelled)
    assert [stage.rows for stage in make(name, text, settings, shallow).stages] == rows


# --- general stages -------------------------------------------------------------------------------------------------


@pytest.fixture
def text_file(tmp_path, monkeypatch) -> Path:
    """Plain text in documents, and a cache of its own."""
    monkeypatch.setenv("TFDISTILL_CACHE", str(tmp_path / "cache"))
    return write_text(tmp_path / "text.txt")


def test_dualtrain_ends_after_the_general_stage_and_goes_on_from_its_student(tmp_path, text_file, shallow):
    save(teacher(head="masked_lm", layers=2), tmp_path / "general")
    options = [f"text={text_file}", f"general_teacher=hf:{tmp_path / 'general'}", "width=8", "vocab_size=24"]
    first = make("dualtrain_sharedproj", data(), [*options, "general_length=16", "general_only=true"], shallow)
    assert [stage.name for stage in first.stages] == ["dual training"]
    save(first.student, tmp_path / "student")
    second = make("dualtrain_sharedproj", data(), [f"student=hf:{tmp_path / 'student'}"], shallow)
    assert [stage.name for stage in second.stages] == ["fine-tuning"]
    assert second.student.tokenizer.vocabulary == first.student.tokenizer.vocabulary
    for ours, theirs in zip(second.student.get_weights(), first.student.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["student=hf:DIR", "text=FILE"], "student=hf:DIR comes from a general stage; leave text or student out"),
        (["student=hf:DIR", "width=96"], "width does nothing here; expected student=narrow with it"),
        (["student=minilm_l6_384"], "student is 'minilm_l6_384'; expected narrow, or hf:DIR"),
        (["general_only=true"], "plain text"),
    ],
)
def test_dualtrain_students(settings, message, shallow):
    with pytest.raises(UserError, match=message):
        make("dualtrain_sharedproj", data(), settings, shallow)


# --- BiLSTM students ------------------------------------------------------------------------------------------------


def test_pseudo_labels_are_of_rows_without_a_label():
    logits, theirs = (
        tf.constant([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]),
        tf.constant([[0.0, 2.0], [0.0, 2.0], [2.0, 0.0]]),
    )
    value, count = PseudoLabels()(
        Step(Features(logits=logits), Features(logits=theirs), labels=tf.constant([0, -1, -1]))
    )
    np.testing.assert_allclose(value, [0.0, 1.313262, 0.313262], atol=1e-6)  # log(1 + e) and log(1 + 1/e)
    np.testing.assert_array_equal(count, [0, 1, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (data(), "letters is for classification and has the splits train, dev, test: expected .* 'unlabelled'"),
        (data(task="multilabel"), "letters is for multilabel .* leave pseudo_labels out"),
        (data(task="regression"), "letters is for regression"),
    ],
)
def test_pseudo_labels_need_classes_and_unlabelled_text(text, message, shallow):
    with pytest.raises(UserError, match=message):
        make("xtremedistil", text, ["version=joint", "pseudo_labels=1"], shallow)


@pytest.mark.parametrize("family", ["bert", "distilbert", "mobilebert"])
def test_bilstm_starts_from_the_teachers_table(family, shallow):
    model = {
        "bert": lambda: shallow,
        "distilbert": lambda: student_from_layers(shallow, layers=[1], family="distilbert"),
        "mobilebert": bottleneck_teacher,
    }[family]()
    table = model.encoder.embedding.embeddings.numpy()
    for size in (4, 300):  # no wider than the teacher's
        width = min(size, table.shape[1])
        ours = make("bilstm", data(), [f"embedding_size={size}"], model).student.encoder.embedding.embeddings
        np.testing.assert_array_equal(ours, reduced_table(table, width))
