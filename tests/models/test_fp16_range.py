"""The check of fp16's range."""

import numpy as np
import pytest
from helpers import inputs, tiny_bert

from tfdistill.errors import UserError
from tfdistill.models.fp16_range import check_range, largest_values


def test_the_largest_value_of_each_feature_is_found_and_logged():
    model = tiny_bert()
    model.head.bias.assign([0.0, -300.0, 5.0])
    largest = largest_values(model, inputs())
    assert {"embeddings", "hidden_states 1", "hidden_states 2", "attention_scores 2", "logits"} <= largest.keys()
    assert largest["logits"] == pytest.approx(300, rel=0.1)
    states = model.features(inputs(), ("hidden_states",)).hidden_states
    assert largest["hidden_states 1"] == pytest.approx(np.abs(states[0]).max(), rel=1e-5)
    log = check_range(model, "student", inputs())
    assert log == {"fp16_largest": largest["logits"], "fp16_largest_in": "logits"}


def test_an_overflow_names_the_feature():
    model = tiny_bert()
    model.head.bias.assign([0.0, np.inf, 0.0])
    with pytest.raises(UserError, match="logits of the student"):
        check_range(model, "student", inputs())
