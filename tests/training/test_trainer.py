"""Stages: what is held still, what is shared, how a stage ends."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert, tiny_bilstm

from tfdistill import losses
from tfdistill.data.batching import Examples
from tfdistill.distill.label_terms import HardLabels
from tfdistill.distill.match import Match
from tfdistill.errors import UserError
from tfdistill.text.encoded import Encoded
from tfdistill.training.freezing import copy_encoder, layers_of, parts_of
from tfdistill.training.schedules import gradual_unfreezing, progressive
from tfdistill.training.stage import Stage
from tfdistill.training.trainer import StageCallback, Trainer, _batches, assign

ROWS = 24


def examples(seed: int = 0) -> Examples:
    batch = inputs(rows=ROWS, seed=seed)
    lengths = batch["padding_mask"].sum(axis=1)
    ids = np.concatenate([row[:n] for row, n in zip(batch["token_ids"], lengths, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    labels = np.random.default_rng(1).integers(0, 3, ROWS)
    return Examples(Encoded(ids.astype("int32"), np.zeros_like(ids, "int32"), offsets), labels)


def weights_of(student) -> dict[str, list[np.ndarray]]:
    return {
        part: [np.array(w) for layer in layers_of(student, part) for w in layer.get_weights()]
        for part in parts_of(student)
    }


def changed(before, after) -> set[str]:
    return {
        part for part in before if any(not np.array_equal(a, b) for a, b in zip(before[part], after[part], strict=True))
    }


def layer_terms(layers: int):
    return [
        (Match(losses.hidden_mse, on="hidden_states", layers=((n, n),), name=f"hidden_{n}"),)
        for n in range(1, layers + 1)
    ]


# --- what is held still ---------------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_parts_from_the_bottom_up():
    assert parts_of(tiny_bert(2)) == ("embeddings", "layer_1", "layer_2", "pooler", "head")
    assert parts_of(tiny_bilstm(layers=2)) == ("embeddings", "layer_1", "layer_2", "pooler", "head")
    with pytest.raises(UserError, match="layer_3"):
        layers_of(tiny_bert(2), "layer_3")


@pytest.mark.heavy
@pytest.mark.parametrize(
    "optimizer", ["adamw", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sgd", "adadelta", "lamb"))]
)
def test_progressive_transfer_trains_one_layer_a_stage_and_compiles_once(optimizer):
    student, teacher = tiny_bert(3), tiny_bert(3)
    base = Stage("transfer", (), epochs=2, batch_size=8, learning_rate=0.05, optimizer=optimizer, evaluations=1)
    trainer = Trainer(student, progressive(base, student, layer_terms(3)))
    seen = set()
    for number in range(3):
        before = weights_of(student)
        trainer.train(number, teacher, examples(), seed=number)
        assert changed(before, weights_of(student)) == {f"layer_{number + 1}"}
        seen.add(id(trainer.distiller))
    assert len(seen) == 1
    assert trainer.distiller.train_function is not None


@pytest.mark.slow
def test_layers_below_may_go_on_slowly():
    student, teacher = tiny_bert(3), tiny_bert(3)
    base = Stage("transfer", (), epochs=1, batch_size=8, learning_rate=0.05, optimizer="sgd", evaluations=1)
    stages = progressive(base, student, layer_terms(3), lower_rate=0.01, embeddings=True)
    trainer = Trainer(student, stages)
    before = weights_of(student)
    trainer.train(0, teacher, examples(), seed=0)
    assert changed(before, weights_of(student)) == {"embeddings", "layer_1"}
    before = weights_of(student)
    trainer.train(1, teacher, examples(), seed=1)
    after = weights_of(student)
    assert changed(before, after) == {"embeddings", "layer_1", "layer_2"}
    moved = {part: max(np.abs(a - b).max() for a, b in zip(before[part], after[part], strict=True)) for part in after}
    assert moved["layer_1"] < 0.2 * moved["layer_2"]


@pytest.mark.slow
@pytest.mark.heavy
def test_gradual_unfreezing_goes_from_the_head_down():
    student = tiny_bert(2)
    stages = gradual_unfreezing(Stage("labels", (HardLabels(),), epochs=1, batch_size=8, evaluations=1), student)
    assert [stage.freeze for stage in stages] == [
        ("embeddings", "layer_1", "layer_2", "pooler"),
        ("embeddings", "layer_1", "layer_2"),
        ("embeddings", "layer_1"),
        ("embeddings",),
        (),
    ]
    trainer = Trainer(student, stages)
    for number, stage in enumerate(stages):
        before = weights_of(student)
        trainer.train(number, None, examples(), seed=number)
        assert changed(before, weights_of(student)) == set(parts_of(student)) - set(stage.freeze)
    assert all(layer.trainable for part in parts_of(student) for layer in layers_of(student, part))


@pytest.mark.heavy
def test_what_no_stage_trains_has_no_gradient():
    student = tiny_bert(2)
    stages = [Stage("one", (HardLabels(),), epochs=1, batch_size=8, freeze=("word_embeddings",), evaluations=1)]
    trainer = Trainer(student, stages)
    trainer.train(0, None, examples(), seed=0)
    table = student.encoder.embedding.embeddings
    assert trainer.distiller.optimizer.factors.shape[0] == len(trainer.distiller.trainable_variables) - 1
    assert table.trainable


# --- optimizers -----------------------------------------------------------------------------------------------------


def test_a_source_that_cannot_begin_later_is_skipped():
    class Old:
        def dataset(self, batch_size, *, seed=0, epochs=1):
            return tf.data.Dataset.range(5)

    assert [int(batch) for batch in _batches(Old(), 1, 0, 1, 3)] == [3, 4]


def test_values_of_other_shapes_are_refused_and_change_nothing():
    variables = [keras.Variable([1.0]), keras.Variable([2.0, 3.0])]
    with pytest.raises(UserError, match="checkpoint"):
        assign(variables, [np.zeros(1), np.zeros(3)], "models")
    assert variables[0].numpy() == [1.0]


# --- stages one after the other -------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_projections_go_on_from_stage_to_stage():
    student, teacher, other = tiny_bert(1), tiny_bert(1, width=12), tiny_bert(1, width=12)
    term = Match(losses.hidden_mse, on="hidden_states", layers=((1, 1),), project="fit")
    general = Stage("general", (term,), epochs=1, batch_size=8, evaluations=1, teacher=other)
    task = Stage("task", (term,), epochs=1, batch_size=8, evaluations=1, learning_rate=1e-9)
    trainer = Trainer(student, [general, task])
    trainer.train(0, teacher, examples(), seed=0)
    first = trainer.distiller
    learned = {key: layer.get_weights()[0] for key, layer in first.projections.items()}
    trainer.train(1, teacher, examples(), seed=1)
    assert trainer.distiller is not first
    for key, layer in trainer.distiller.projections.items():
        np.testing.assert_allclose(layer.get_weights()[0], learned[key], atol=1e-6)


@pytest.mark.heavy
def test_a_gelu_projection_reaches_the_teachers_cls_state():
    student, teacher = tiny_bilstm(), tiny_bert(2, width=12)
    match = Match(
        losses.representation_kl,
        on="pooled",
        teacher_on="hidden_states",
        layers=((1, 2),),
        project="gelu",
    )
    stage = Stage("representation", (match,), epochs=40, batch_size=24, learning_rate=0.02, evaluations=2, warmup=0.0)
    values = []

    class Losses(StageCallback):
        def on_train_batch_end(self, batch, logs=None):
            values.append(float(logs["loss"]))

    Trainer(student, [stage]).train(0, teacher, examples(), seed=0, callback=Losses())
    assert values[-1] < values[0]  # mean over all steps so far


@pytest.mark.heavy
def test_gradient_norms_are_of_each_weighted_term():
    student, teacher = tiny_bert(1), tiny_bert(1)
    terms = (Match(losses.soft_kl, weight=2.0), HardLabels(weight=0.0))
    stage = Stage("s", terms, epochs=1, batch_size=8, evaluations=1)
    trainer = Trainer(student, [stage])
    trainer.train(0, teacher, examples(), seed=0, gradient_norms=True)
    assert trainer.norms["soft_kl"] > 0 and trainer.norms["hard_labels"] == 0.0


@pytest.mark.heavy
def test_encoder_is_copied_between_heads():
    source, target = tiny_bert(2), tiny_bert(2, outputs=5)
    copy_encoder(source, target)
    np.testing.assert_array_equal(source.encoder.blocks[1].query.kernel, target.encoder.blocks[1].query.kernel)
    with pytest.raises(UserError, match="architecture"):
        copy_encoder(tiny_bert(2, width=12), target)


@pytest.mark.slow
def test_a_trainer_that_begins_again_does_what_a_new_one_does():
    teacher = tiny_bert(2)
    terms = (Match(losses.logits_mse), HardLabels())
    slow = [Stage("s", terms, epochs=1, batch_size=8, learning_rate=1e-3, evaluations=1, freeze=("word_embeddings",))]
    fast = [replace(slow[0], learning_rate=1e-2)]
    fresh, again = tiny_bert(2), tiny_bert(2)
    again.set_weights(fresh.get_weights())
    start = fresh.get_weights()

    Trainer(fresh, fast).train(0, teacher, examples(), seed=1)
    trainer = Trainer(again, slow)
    trainer.train(0, teacher, examples(), seed=1)
    compiled = trainer.distiller
    again.set_weights(start)
    trainer.begin(fast)
    trainer.train(0, teacher, examples(), seed=1)

    assert trainer.distiller is compiled
    for one, other in zip(fresh.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("change", [{"freeze": ("layer_1",)}, {"clip_norm": None}, {"terms": (HardLabels(),)}])
def test_a_trainer_that_begins_otherwise_compiles_again(change):
    stage = Stage("s", (Match(losses.logits_mse), HardLabels()), epochs=1, batch_size=8, evaluations=1)
    student, teacher = tiny_bert(1), tiny_bert(1)
    trainer = Trainer(student, [stage])
    trainer.train(0, teacher, examples(), seed=0)
    before = trainer.distiller
    trainer.begin([replace(stage, **change)])
    trainer.train(0, teacher, examples(), seed=0)
    assert trainer.distiller is not before
