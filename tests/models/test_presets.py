"""Models by preset, and students that start from their teacher."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import inputs, tiny_bert, tiny_bilstm

from tfdistill.errors import UserError
from tfdistill.models import presets
from tfdistill.models.bert_config import BertConfig
from tfdistill.models.text_model import TextModel
from tfdistill.text.tokenizer import Tokenizer

TINY = {"hidden_size": 12, "num_hidden_layers": 2, "intermediate_size": 9}
BODY = {"hidden_size": 10, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 7}


@pytest.mark.heavy
def test_student_takes_task_classes_and_vocabulary_of_its_teacher():
    teacher = tiny_bert(outputs=3, task="multilabel", label_names=["a", "b", "c"])
    student = presets.student("tinybert_4l_312", like=teacher, **TINY)
    assert (student.task, student.num_outputs, student.label_names) == ("multilabel", 3, ("a", "b", "c"))
    assert (student.config.vocab_size, student.num_layers) == (50, 2)
    small = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])
    other = presets.student("tinybert_4l_312", like=teacher, tokenizer=small, task="masked_lm", **TINY)
    assert (other.num_outputs, other.label_names, other.tokenizer) == (6, None, small)
    language = tiny_bert(outputs=None, task="masked_lm")
    assert presets.student("tinybert_4l_312", like=language, tokenizer=small, **TINY).num_outputs == 6


def test_unknown_presets_and_fields_are_one_line():
    with pytest.raises(UserError, match="bert_tiny"):
        presets.config("bert_tiny")
    with pytest.raises(UserError, match="width"):
        presets.config("distilbert", width=3)
    with pytest.raises(UserError, match="pretraining"):
        presets.student("distilbert", like=tiny_bert(outputs=None, task="pretraining"))


@pytest.mark.heavy
def test_distilbert_cut_from_bert_starts_as_the_teacher_on_single_sentences():
    for task in ("masked_lm", "classification"):
        teacher = tiny_bert(layers=4, outputs=None, task=task)
        student = presets.student_from_layers(teacher, layers=range(1, 5), family="distilbert")
        assert student.family == "distilbert" and student.num_layers == 4
        x = inputs()
        ours, theirs = (model.features(x, ("embeddings", "hidden_states")) for model in (student, teacher))
        np.testing.assert_allclose(ours.embeddings, theirs.embeddings, atol=1e-5)
        np.testing.assert_allclose(ours.hidden_states[-1], theirs.hidden_states[-1], atol=1e-4)
        if task == "masked_lm":
            np.testing.assert_allclose(student(x), teacher(x), atol=1e-4)
    half = presets.student_from_layers(tiny_bert(layers=4), 2, family="distilbert")
    assert half.num_layers == 2
    with pytest.raises(UserError, match="mobilebert"):
        presets.student_from_layers(tiny_bert(), 1, family="mobilebert")


@pytest.mark.heavy
def test_students_are_cut_from_every_transformer():
    teacher = presets.new(
        "ib_bert", task="pretraining", vocab_size=50, **BODY, embedding_size=4, intra_bottleneck_size=14
    )
    student = presets.student_from_layers(teacher, layers=[1, 2])
    for name in ("logits", "nsp_logits"):
        ours, theirs = (getattr(model.features(inputs(), (name,)), name) for model in (student, teacher))
        np.testing.assert_array_equal(ours, theirs)
    small = presets.new("distilbert", vocab_size=50, dim=8, n_layers=3, n_heads=2, hidden_dim=9)
    cut = presets.student_from_layers(small, layers=[3])
    np.testing.assert_array_equal(cut.encoder.blocks[0].key.kernel, small.encoder.blocks[2].key.kernel)


@pytest.mark.heavy
def test_students_are_cut_from_an_unevenly_pruned_teacher():
    config = BertConfig(
        50, 8, 3, 2, 16, 16, heads_per_layer=(2, 1, 2), query_key_sizes=(4, 3, 2), intermediate_sizes=(5, 6, 7)
    )
    teacher = TextModel(config, 3)
    student = presets.student_from_layers(teacher, layers=[1, 3])
    assert student.config.heads_per_layer == (2, 2) and student.config.intermediate_sizes == (5, 7)
    assert student.config.query_key_sizes == (4, 2) and student.config.value_sizes is None
    x = inputs()
    ours, theirs = (model.features(x, ("hidden_states",)).hidden_states[0] for model in (student, teacher))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.heavy
def test_dropout_of_a_student():
    def outputs(model):
        return [np.array(model(inputs(), training=True)) for _ in range(2)]

    teacher = tiny_bert(dropout=0.5)
    for kept, student in {
        True: presets.student_from_layers(teacher, 1),
        False: presets.student_from_layers(teacher, 1, dropout=0.0),
    }.items():
        first, second = outputs(student)
        assert np.array_equal(first, second) is not kept
    sizes = {"num_hidden_layers": 1, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 9}
    changed = presets.student("tinybert_4l_312", like=teacher, dropout=0.25, **sizes).config
    assert (changed.hidden_dropout_prob, changed.attention_probs_dropout_prob, changed.classifier_dropout) == (
        0.25,
    ) * 3


@pytest.mark.heavy
def test_student_from_layers_takes_the_named_layers():
    teacher = tiny_bert(layers=6)
    teacher.tokenizer = None
    student = presets.student_from_layers(teacher, 3)
    assert student.num_layers == 3
    for ours, theirs in zip(student.encoder.blocks, (2, 4, 6), strict=True):
        np.testing.assert_array_equal(ours.query.kernel, teacher.encoder.blocks[theirs - 1].query.kernel)
    np.testing.assert_array_equal(student.head.kernel, teacher.head.kernel)
    whole = presets.student_from_layers(teacher, layers=range(1, 7))
    np.testing.assert_array_equal(whole(inputs()), teacher(inputs()))
    for wrong in ({"num_layers": 7}, {"layers": [0]}, {"layers": []}, {}):
        with pytest.raises(UserError):
            presets.student_from_layers(teacher, **wrong)
    with pytest.raises(UserError, match="bilstm"):
        presets.student_from_layers(tiny_bilstm(), 1)


def test_bilstm_embedding_keeps_the_geometry_of_the_teachers_table():
    table = np.random.default_rng(0).normal(size=(60, 4)) @ np.random.default_rng(1).normal(size=(4, 10))
    reduced = presets.reduced_table(table, 4)  # the table has rank 4, so distances survive up to one factor
    full = np.linalg.norm(table[:, None] - table[None], axis=-1)
    small = np.linalg.norm(reduced[:, None] - reduced[None], axis=-1)
    np.testing.assert_allclose(small / small.max(), full / full.max(), atol=1e-5)
    teacher = tiny_bert(width=8)
    teacher.tokenizer = None
    assert presets.bilstm(teacher, embedding_from=teacher, embedding_size=6).width("pooled") == 200
    with pytest.raises(UserError, match="embedding_size"):
        presets.bilstm(teacher, embedding_from=teacher, embedding_size=9)


@pytest.mark.heavy
def test_mobilebert_takes_embeddings_and_heads_of_ib_bert():
    sizes = {"vocab_size": 50, **BODY, "embedding_size": 4}
    teacher = presets.new("ib_bert", task="pretraining", **sizes, intra_bottleneck_size=14)
    for variable in teacher.weights:
        variable.assign(variable + 0.1)
    student = presets.student("mobilebert", like=teacher, **{**sizes, "intra_bottleneck_size": 6})
    presets.copy_ends(student, teacher)
    # LayerNorm's γ and β become NoNorm's, not the other way round.
    np.testing.assert_array_equal(student.encoder.embeddings.norm.gamma, teacher.encoder.embeddings.norm.gamma)
    np.testing.assert_array_equal(student.encoder.embeddings.norm.beta, teacher.encoder.embeddings.norm.beta)
    np.testing.assert_array_equal(student.head.rest, teacher.head.rest)
    np.testing.assert_array_equal(student.nsp_head.kernel, teacher.nsp_head.kernel)
    with pytest.raises(UserError, match="embeddings"):
        presets.copy_ends(tiny_bert(outputs=None, task="pretraining"), teacher)
    with pytest.raises(UserError, match="embeddings"):
        presets.copy_ends(student, tiny_bilstm())
