import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert

from tfdistill import losses
from tfdistill.compress.neurons import (
    Widths,
    choose,
    highest,
    neuron_importance,
    prune_neurons,
    zero_neurons,
)
from tfdistill.compress.structured import compact
from tfdistill.errors import UserError


def batches(rows=22, size=8):
    x, labels = inputs(rows), np.arange(rows) % 3
    return [
        {"student": {key: value[n : n + size] for key, value in x.items()}, "labels": labels[n : n + size]}
        for n in range(0, rows, size)
    ]


def test_highest():
    assert highest(np.array([3.0, 1.0, 2.0, 3.0]), 2) == (0, 3)
    assert highest(np.array([1.0, 1.0, 1.0]), 2) == (0, 1)


def test_magnitude_sums_the_weights_that_make_and_read_a_neuron():
    model = tiny_bert()
    block, head = model.encoder.blocks[0], model.head
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable))
    block.intermediate.kernel.assign(np.eye(8, 16) * -2.0)
    block.intermediate.bias.assign(np.full(16, 0.5))
    block.output_dense.kernel.assign(np.ones((16, 8)) * 0.25)
    block.query.kernel.assign(np.eye(8) * 3.0)
    block.key.bias.assign(np.arange(8.0))
    model.encoder.pooler.bias.assign(np.full(8, 1.5))
    head.kernel.assign(np.full((8, 3), -1.0))
    found = neuron_importance(model, measure="magnitude")
    np.testing.assert_allclose(found.intermediate[0], [4.5] * 8 + [2.5] * 8)
    np.testing.assert_allclose(found.query_key[0], [[3, 4, 5, 6], [7, 8, 9, 10]])
    np.testing.assert_allclose(found.value[0], np.zeros((2, 4)))
    np.testing.assert_allclose(found.pooler, [4.5] * 8)
    # The residual dimensions: 2 of each of 8 rows of the intermediate layer, 16 · .25 that write, 3 of the query.
    np.testing.assert_allclose(found.hidden, [2 + 4 + 3] * 8)


@pytest.mark.heavy
def test_taylor_is_the_mean_of_weight_times_gradient():
    model = tiny_bert()
    found = neuron_importance(model, batches(), losses.sparse_cross_entropy)
    dense, out = model.encoder.blocks[1].intermediate, model.encoder.blocks[1].output_dense
    expected = []
    for batch in batches():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(losses.sparse_cross_entropy(model(batch["student"]), batch["labels"]))
        weights = [dense.kernel.value, dense.bias.value, out.kernel.value]
        made, bias, read = (abs(w * g) for w, g in zip(weights, tape.gradient(loss, weights), strict=True))
        expected.append(np.sum(made, axis=0) + bias + np.sum(read, axis=1))
    np.testing.assert_allclose(found.intermediate[1], np.mean(expected, axis=0), rtol=1e-4)
    # What is dead is worth nothing.
    zero_neurons(model, found, Widths(intermediate=3))
    again = neuron_importance(model, batches(), losses.sparse_cross_entropy).intermediate[1]
    assert (again > 0).sum() == 3


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("widths", "removed"),
    [
        (Widths(intermediate=10), 2 * 6 * (8 + 1 + 8)),
        (Widths(query_key=3), 2 * 2 * 2 * (8 + 1)),
        (Widths(value=2), 2 * 2 * 2 * (8 + 1 + 8)),
        (Widths(pooler=5), 3 * (8 + 1 + 3)),
        (Widths(query_key=1, value=1, intermediate=1, pooler=1), None),
    ],
)
def test_pruned_is_smaller_and_equals_zeroed(widths, removed):
    model = tiny_bert()
    importance = neuron_importance(model, measure="magnitude")
    small = prune_neurons(model, importance, widths)
    if removed is not None:
        assert model.count_params() - small.count_params() == removed
    zero_neurons(model, importance, widths)
    np.testing.assert_allclose(small(inputs()), model(inputs()), atol=1e-5)
    compacted = compact(model)
    assert compacted.config == small.config
    np.testing.assert_allclose(compacted(inputs()), model(inputs()), atol=1e-5)


@pytest.mark.heavy
def test_residual_width_is_cut_at_once():
    model = tiny_bert()
    importance = neuron_importance(model, batches(), losses.sparse_cross_entropy)
    small = prune_neurons(model, importance, Widths(hidden=6))
    assert small.config.hidden_size == 6 and small.config.head_size == 4 and small.config.pooler_size == 8
    kept = list(choose(model, importance, Widths(hidden=6)).hidden)
    np.testing.assert_array_equal(
        small.encoder.embeddings.word.embeddings, model.encoder.embeddings.word.embeddings.numpy()[:, kept]
    )
    assert np.isfinite(small(inputs())).all()
    with pytest.raises(UserError, match="hidden"):
        zero_neurons(model, importance, Widths(hidden=6))


@pytest.mark.heavy
def test_mistakes_are_one_line():
    model = tiny_bert()
    with pytest.raises(UserError, match="random"):
        neuron_importance(model, measure="random")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="taylor"):
        neuron_importance(model)
    with pytest.raises(UserError, match="value"):
        choose(model, neuron_importance(model, measure="magnitude"), Widths(value=0))
    model.head.kernel.assign(np.full((8, 3), np.nan))
    with pytest.raises(UserError, match="not finite"):
        neuron_importance(model, batches(), losses.sparse_cross_entropy)
