"""Logits of whole splits."""

import numpy as np
import pytest
from helpers import inputs, tiny_bert

from tfdistill.errors import UserError
from tfdistill.models.predict import predict_logits
from tfdistill.text.encoded import Encoded


def encoded() -> Encoded:
    x = inputs(rows=22)
    real = x["padding_mask"] > 0
    return Encoded(x["token_ids"][real], x["segment_ids"][real], np.concatenate([[0], np.cumsum(real.sum(axis=1))]))


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["classification", "token_classification"])
def test_logits_are_in_the_order_of_the_examples(task):
    model, finished = tiny_bert(task=task), []
    logits = predict_logits(model, encoded(), batch_size=8, advance=finished.append)
    x = inputs(rows=22)
    expected = np.array(model(x))
    if task == "token_classification":
        expected, logits = (values[x["padding_mask"] > 0] for values in (expected, logits))
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert sum(finished) == 22


def test_no_examples_are_refused():
    empty = Encoded(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(1, np.int64))
    with pytest.raises(UserError, match="examples"):
        predict_logits(tiny_bert(), empty)
