"""Head pruning: importance against differences, order of removal, and the model that is left."""

import numpy as np
import pytest
from helpers import inputs, tiny_bert

from tfdistill import losses
from tfdistill.compress.heads import (
    head_importance,
    l2_normalized,
    lowest_heads,
    named,
    prune_while_good,
    zero_heads,
)
from tfdistill.compress.structured import compact
from tfdistill.errors import UserError


def without(model, heads):
    zero_heads(model, heads)
    return compact(model)


def batches(rows=22, size=8):
    x, labels = inputs(rows), np.arange(rows) % 3
    return [
        {"student": {key: value[n : n + size] for key, value in x.items()}, "labels": labels[n : n + size]}
        for n in range(0, rows, size)
    ]


@pytest.mark.heavy
def test_importance_is_the_mean_absolute_derivative_over_examples():
    """Against differences: a factor on the output of a head is a factor on the rows that read it in the next product."""
    model = tiny_bert(layers=2)
    found = head_importance(model, batches(), losses.sparse_cross_entropy, normalize=False)
    x, labels, step = inputs(), np.arange(22) % 3, 1e-2
    for number, block in enumerate(model.encoder.blocks):
        for head in range(2):
            kernel = block.attention_output.kernel.numpy()
            values = []
            for factor in (1 + step, 1 - step):
                scaled = kernel.copy()
                scaled[head * 4 : head * 4 + 4] *= factor
                block.attention_output.kernel.assign(scaled)
                values.append(np.array(losses.sparse_cross_entropy(model(x), labels)))
            block.attention_output.kernel.assign(kernel)
            expected = np.abs((values[0] - values[1]) / (2 * step)).mean()
            assert found[number][head] == pytest.approx(expected, rel=2e-2, abs=1e-4)


@pytest.mark.heavy
def test_batching_changes_nothing():
    model = tiny_bert(layers=2)
    one = head_importance(model, batches(size=1), losses.sparse_cross_entropy)
    many = head_importance(model, batches(size=22), losses.sparse_cross_entropy)
    np.testing.assert_allclose(one, many, rtol=1e-3)


def test_each_layer_is_normalized():
    found = l2_normalized([np.array([3.0, 4.0]), np.array([0.0, 0.0])])
    np.testing.assert_allclose(found, [[0.6, 0.8], [0.0, 0.0]])


def test_lowest_heads_over_all_layers():
    importance = [np.array([0.5, 0.1, 0.2]), np.array([0.3, 0.05, 0.9])]
    assert lowest_heads(importance, 3) == [(2, 1), (1, 1), (1, 2)]
    assert lowest_heads(importance, 3, spare=[(1, 1), (1, 2)]) == [(2, 1), (2, 0)]  # head 0 is the last of layer 1
    assert lowest_heads(importance, 9, at_least=2) == [(2, 1), (1, 1)]


@pytest.mark.heavy
def test_pruned_is_smaller_and_equals_masked():
    model = tiny_bert(layers=2)
    gone = [(1, 0)]
    gates = [np.ones((22, 2), "float32") for _ in range(2)]
    gates[0][:, 0] = 0.0
    masked = model({**inputs(), "head_gates": tuple(gates)})
    parameters = model.count_params()
    small = without(model, gone)
    assert small.encoder.blocks[0].query.kernel.shape == (8, 4)
    assert small.encoder.blocks[1].query.kernel.shape == (8, 8)
    # Of width 8, a head of 4: query, key, value 8·4 + 4 each, and 4·8 of the output.
    assert parameters - small.count_params() == 3 * (8 * 4 + 4) + 4 * 8

    np.testing.assert_allclose(small(inputs()), masked, atol=1e-5)
    np.testing.assert_allclose(small(inputs()), model(inputs()), atol=1e-5)


@pytest.mark.heavy
def test_pruning_stops_where_the_score_falls():
    model = tiny_bert(layers=2, width=8)
    scores = iter([1.0, 0.95, 0.85])
    steps = prune_while_good(
        model, lambda _: [np.array([0.1, 0.9]), np.array([0.2, 0.8])], lambda _: next(scores), step=0.25
    )
    assert [step.removed for step in steps] == [(), ((1, 0),), ((1, 0), (2, 0))]
    only_first = without(tiny_bert(layers=2), [(1, 0)]).config
    assert compact(model).config == only_first


def test_pruning_keeps_one_head_in_each_layer():
    model = tiny_bert(layers=2)
    asked = []

    def importance(_):
        asked.append(1)
        return [np.array([0.1, 0.9]), np.array([0.2, 0.8])]

    steps = prune_while_good(model, importance, lambda _: 1.0, step=1.0, recompute=True)
    assert steps[-1].removed == ((1, 0), (2, 0)) and len(asked) == 2


def test_mistakes_are_one_line():
    model = tiny_bert()
    with pytest.raises(UserError, match="no batches"):
        head_importance(model, [], losses.sparse_cross_entropy)
    with pytest.raises(UserError, match="labels"):
        head_importance(model, [{"student": inputs()}], losses.sparse_cross_entropy)
    with pytest.raises(UserError, match="head 2 in layer 1"):
        zero_heads(model, [(1, 2)])
    with pytest.raises(UserError, match="layer 2"):
        zero_heads(model, [(2, 0), (2, 1)])
    assert named([(2, 1), (1, 0), (2, 0)]) == {1: [0], 2: [0, 1]}
