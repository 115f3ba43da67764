"""The format of a batch."""

import numpy as np

from tfdistill.distill.batch import cached_features, part, split_batch, unpack

X = {"token_ids": np.arange(10).reshape(5, 2)}


def test_a_batch_is_a_tuple_or_a_dict():
    assert unpack((X, 1, 2)) == (X, 1, 2) and unpack((X,)) == (X, None, None)
    inputs, labels, weights = unpack({"student": X, "teacher": 0, "labels": 1})
    assert (inputs, labels, weights) == ({"student": X, "teacher": 0}, 1, None)
    assert (part(inputs, "teacher"), part(inputs, "student")) == (0, X)
    assert part({"student": X}, "teacher") is X and part(X, "teacher") is X


def test_some_layers_of_a_cached_feature_leave_gaps():
    cached = cached_features({"student": X, "teacher_features": {"logits": 1, "hidden_states": {"2": "b", "4": "d"}}})
    assert cached == {"logits": 1, "hidden_states": (None, "b", None, "d")} and cached_features(X) == {}


def test_parts_of_a_batch_hold_every_example_once():
    parts = split_batch((X, np.arange(5), None), 2)
    assert [part[1].tolist() for part in parts] == [[0, 1], [2, 3, 4]] and parts[0][2] is None
