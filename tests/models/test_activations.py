"""Test that configs, which need no Keras, and layers know the same activations."""

from tfdistill.models.bert_config import HIDDEN_ACTIVATIONS
from tfdistill.models.layers import ACTIVATIONS


def test_configs_and_layers_have_the_same_activations():
    assert set(HIDDEN_ACTIVATIONS) == set(ACTIVATIONS)
