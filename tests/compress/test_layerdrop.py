import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import inputs, tiny_bert, tiny_bilstm

from tfdistill.compress.layerdrop import keep_layers, layers_at_depth, layers_at_rate, with_layerdrop
from tfdistill.errors import UserError
from tfdistill.models.bert import LayerDrop


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (1 / 2, (1, 3, 5, 7, 9, 11)),
        (1 / 3, (1, 2, 4, 5, 7, 8, 10, 11)),
        (1 / 4, (1, 2, 3, 5, 6, 7, 9, 10, 11)),
        (0.2, (1, 2, 3, 4, 6, 7, 8, 9, 11, 12)),
    ],
)
def test_every_other_rule(rate, expected):
    """Drop d ≡ 0 mod ⌊1/r⌋, of 12 layers."""
    assert layers_at_rate(12, rate) == expected


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (12, tuple(range(1, 13))),
        (8, (1, 2, 4, 5, 7, 8, 10, 11)),
        (7, (1, 3, 5, 6, 8, 10, 11)),
        (6, (1, 3, 5, 7, 9, 11)),
        (4, (2, 5, 8, 11)),
        (3, (3, 7, 11)),
        (1, (11,)),
    ],
)
def test_any_depth(depth, expected):
    assert layers_at_depth(12, depth) == expected


def test_depths_that_are_not_there():
    for wrong in (0, 13):
        with pytest.raises(UserError, match=r"1\.\.12"):
            layers_at_depth(12, wrong)
    with pytest.raises(UserError, match=r"0\.6"):
        layers_at_rate(12, 0.6)


@pytest.mark.heavy
def test_kept_layers_are_the_named_ones():
    model = tiny_bert(layers=4)
    small = keep_layers(model, [2, 3])
    assert small.num_layers == 2
    for ours, number in zip(small.encoder.blocks, (2, 3), strict=True):
        np.testing.assert_array_equal(ours.query.kernel, model.encoder.blocks[number - 1].query.kernel)
    for wrong in ([], [0], [5], [3, 2], [1, 1]):
        with pytest.raises(UserError, match=r"1\.\.4"):
            keep_layers(model, wrong)
    with pytest.raises(UserError, match="bilstm"):
        keep_layers(tiny_bilstm(), [1])


@pytest.mark.heavy
def test_inference_is_unchanged_and_training_skips_whole_layers():
    model = tiny_bert(layers=2)
    dropping = with_layerdrop(model, 0.5)
    assert dropping.config.layerdrop == 0.5 and dropping.count_params() == model.count_params()
    np.testing.assert_allclose(dropping(inputs()), model(inputs()), atol=1e-6)
    # With dropout off, each training output is that of one of the four models that lack some layers.
    outputs = [np.array(keep_layers(model, kept)(inputs())) for kept in ([1], [2], [1, 2])]
    embedded = model.features(inputs(), ("embeddings",)).embeddings
    outputs.append(np.array(model.head(model.encoder.pooler(embedded[:, 0]))))
    seen = set()
    training = tf.function(lambda: dropping(inputs(), training=True))
    for _ in range(40):
        found = np.array(training())
        near = [n for n, output in enumerate(outputs) if np.allclose(found, output, atol=1e-5)]
        assert len(near) == 1
        seen.update(near)
    assert seen == {0, 1, 2, 3}
    assert keep_layers(dropping, [1, 2]).config == model.config  # LayerDrop is off


@pytest.mark.heavy
def test_rate_is_that_asked_for_and_draws_are_seeded():
    def draws():
        keras.utils.set_random_seed(5)
        layer = LayerDrop(0.2)
        draw = tf.function(lambda: layer(tf.ones([]), tf.zeros([]), training=True))
        return [float(draw()) for _ in range(1000)]

    first = draws()
    assert first == draws() and set(first) == {0.0, 1.0}
    assert np.mean(first) == pytest.approx(0.8, abs=0.04)
