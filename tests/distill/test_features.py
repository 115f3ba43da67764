"""The registry of features, and features of models that only return logits."""

import keras
import numpy as np
import pytest

from tfdistill.distill.features import FEATURES, Features, feature, features_of
from tfdistill.errors import UserError


def test_every_feature_is_a_field_of_features():
    fields = vars(Features())
    assert set(FEATURES) <= set(fields) and set(fields) - set(FEATURES) == {"mask", "words"}


def test_axes_say_what_there_is_one_value_for():
    assert not feature("pooled").per_token and feature("hidden_states").per_token
    assert feature("attention_scores").per_pair and not feature("hidden_states").per_pair
    with pytest.raises(UserError, match="nonsense"):
        feature("nonsense")


def test_layers_are_numbered_from_one_after_the_embeddings():
    features = Features(logits="z", embeddings="e", hidden_states=("one", None, "three"))
    read = [features.layer("hidden_states", number) for number in (0, 1, 3)]
    assert read == ["e", "one", "three"] and features.layer("logits", 7) == "z"
    for number in (2, 4):
        with pytest.raises(UserError, match=rf"layer {number} of hidden_states; .*\[1, 3\]"):
            features.layer("hidden_states", number)


class Named(keras.Model):
    """Returns a dict."""

    def call(self, inputs, training=False):
        return {"logits": inputs["padding_mask"] * 2}


def test_any_model_that_returns_logits_will_do():
    inputs = {"padding_mask": np.ones((1, 2), "float32")}
    features = features_of(Named(), inputs, ("logits",), False)
    assert np.array(features.logits).tolist() == [[2, 2]] and features.mask is inputs["padding_mask"]
    with pytest.raises(UserError, match="pooled"):
        features_of(Named(), inputs, ("logits", "pooled"), False)


def test_a_dict_without_logits_is_refused():
    class Other(keras.Model):
        def call(self, inputs, training=False):
            return {"scores": inputs, "others": inputs}

    with pytest.raises(UserError, match="scores"):
        features_of(Other(), np.ones((1, 2), "float32"), ("logits",), False)
