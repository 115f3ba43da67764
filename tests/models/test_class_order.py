"""Class names of outputs, and the order that joins them with other names."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import inputs, tiny_bert, tiny_bilstm
from hypothesis import given
from hypothesis import strategies as st

from tfdistill.errors import UserError
from tfdistill.models.class_order import checked_names, column_order, is_unnamed


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=6, unique=True), st.integers(0, 99))
def test_the_order_finds_every_name(names, seed):
    own = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    assert [own[place] for place in column_order(own, names, "model", "data")] == names


def test_other_classes_are_named():
    with pytest.raises(UserError, match=r"old only in MODEL; new only in DATA"):
        column_order(("a", "old", "b"), ("b", "new", "a"), "MODEL", "DATA")


@pytest.mark.parametrize(
    ("names", "unnamed"),
    [
        (None, True),
        ((), True),
        (("LABEL_0", "LABEL_1"), True),
        (("LABEL_1", "LABEL_0"), False),
        (("LABEL_0", "b"), False),
    ],
)
def test_the_names_that_transformers_gives_are_none(names, unnamed):
    assert is_unnamed(names) is unnamed


@pytest.mark.parametrize("names", [("a", "a"), ("a", " "), ("a", 1), ("a",), "ab"])
def test_names_that_cannot_be_are_one_line(names):
    with pytest.raises(UserError, match="names"):
        checked_names(names, 2, "names")
    with pytest.raises(UserError, match="names"):
        tiny_bert(outputs=2, label_names=names)


@pytest.mark.parametrize("make", [tiny_bert, tiny_bilstm])
@pytest.mark.parametrize("task", ["classification", "multilabel", "token_classification"])
def test_outputs_are_put_in_another_order(make, task, capsys):
    model, x = make(task=task, label_names=("a", "b", "c")), inputs(rows=3)
    before = np.array(model(x))
    model.order_outputs(("c", "a", "b"), "DATA")
    assert model.label_names == ("c", "a", "b") and not model.order_is_assumed
    assert "DATA: c, a, b" in capsys.readouterr().err
    np.testing.assert_array_equal(model(x), before[..., [2, 0, 1]])
    model.order_outputs(["c", "a", "b"], "DATA")
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match=r"b only in .*d only in DATA"):
        model.order_outputs(("c", "a", "d"), "DATA")
    np.testing.assert_array_equal(model(x), before[..., [2, 0, 1]])


def test_outputs_without_names_get_them_with_a_line(capsys):
    model, x = tiny_bert(), inputs(rows=3)
    before = np.array(model(x))
    model.order_outputs(("y", "x", "z"), "DATA")
    assert model.label_names == ("y", "x", "z") and model.order_is_assumed
    assert "DATA: y, x, z" in capsys.readouterr().err
    np.testing.assert_array_equal(model(x), before)
    with pytest.raises(UserError, match="2"):
        tiny_bert().order_outputs(("a", "b"), "DATA")


def test_the_names_of_transformers_are_names_where_the_data_have_them():
    model, x = tiny_bert(), inputs(rows=3)
    before = np.array(model(x))
    model.order_outputs(("LABEL_2", "LABEL_0", "LABEL_1"), "DATA")
    np.testing.assert_array_equal(model(x), before[..., [2, 0, 1]])


def test_heads_without_classes_have_no_order():
    for model in (tiny_bert(outputs=1, task="regression"), tiny_bert(outputs=2, task="question_answering")):
        model.order_outputs(None, "DATA")
        model.order_outputs(("a", "b"), "DATA")
        assert model.label_names is None
