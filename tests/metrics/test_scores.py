from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tfdistill.errors import UserError
from tfdistill.metrics.scores import (
    accuracy,
    confusion_matrix,
    exact_match,
    expected_calibration_error,
    f1,
    macro_f1,
    matthews,
    mse,
    multilabel_f1,
    pearson,
    score,
    softmax,
    spearman,
)

LABELS = [0, 1, 2, 1]
LOGITS = [[3.0, 1, 0], [0, 2, 1], [5, 0, 1], [0, 1, 4]]  # predictions 0, 1, 0, 2


def test_softmax():
    np.testing.assert_allclose(softmax([[0.0, np.log(3.0)]]), [[0.25, 0.75]], rtol=1e-12)
    np.testing.assert_allclose(softmax([[1000.0, 1000.0], [-1000.0, 0.0]]), [[0.5, 0.5], [0.0, 1.0]], atol=1e-12)


def test_accuracy():
    assert accuracy(LABELS, LOGITS) == 0.5
    assert accuracy([0, 1], [[1.0, 1.0], [1.0, 1.0]]) == 0.5  # the first wins a tie
    assert accuracy(np.array([1], np.int32), np.array([[0, 1]], np.float16)) == 1.0


def test_confusion_matrix():
    matrix = confusion_matrix(LABELS, LOGITS)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0]]


def test_expected_calibration_error():
    # Two bins, (0, .5] and (.5, 1]: the second has confidences .9, .8, .6 and hits 1, 0, 1; the first .5 and a miss.
    probabilities = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]
    expected = 3 / 4 * abs(2 / 3 - 2.3 / 3) + 1 / 4 * 0.5
    assert expected_calibration_error([0, 0, 0, 1], probabilities, bins=2) == pytest.approx(expected)
    assert expected_calibration_error([0, 1], [[1.0, 0.0], [0.0, 1.0]]) == 0.0
    assert expected_calibration_error([1, 0], [[1.0, 0.0], [0.0, 1.0]]) == 1.0
    assert expected_calibration_error([0, 1, 1, 0, 1], [[0.6, 0.4]] * 5, bins=1) == pytest.approx(0.2)


def test_mse():
    assert mse([1.0, 2, 3], [1.0, 4, 0]) == pytest.approx(13 / 3)
    assert mse([1.0, 2, 3], [[1.0], [4], [0]]) == pytest.approx(13 / 3)


def test_correlations():
    assert pearson([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)
    assert pearson([1, 2, 3], [1, 2, 10]) == pytest.approx(0.9122449486)  # 9 / sqrt(2 * 146 / 3)
    assert spearman([1, 2, 3], [1, 2, 10]) == 1.0
    assert spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(0.9486832981)  # ranks 1, 2.5, 2.5, 4: 4.5 / sqrt(22.5)
    assert spearman([1, 2, 3], [[-1.0], [-2], [-30]]) == -1.0
    assert pearson([0, 1], [1e-300, 2e-300]) == pytest.approx(1.0)
    assert pearson([0, 1], [1e300, -1e300]) == pytest.approx(-1.0)
    assert pearson([1, 2, 3], [5, 5, 5]) == spearman([1, 2, 3], [0.1, 0.1, 0.1]) == 0.0


@given(arrays(np.float64, 6, elements=st.integers(0, 4)), arrays(np.float64, 6, elements=st.integers(0, 4)))
def test_spearman_as_scipy(labels, predictions):
    stats = pytest.importorskip("scipy.stats")
    if len(set(labels)) > 1 and len(set(predictions)) > 1:
        assert spearman(labels, predictions) == pytest.approx(stats.spearmanr(labels, predictions).statistic, abs=1e-12)


def test_score():
    scores = score("classification", LABELS, LOGITS)
    assert list(scores) == ["accuracy", "expected_calibration_error"]
    assert scores["accuracy"] == 0.5
    scores = score("regression", [1.0, 2, 3], np.array([[1.0], [2], [10]], np.float32))
    assert list(scores) == ["spearman", "pearson", "mse"]
    assert scores == pytest.approx({"spearman": 1.0, "pearson": 0.9122449486, "mse": 49 / 3})
    assert all(type(value) is float for value in scores.values())
    with pytest.raises(UserError, match="'ranking'"):
        score("ranking", LABELS, LOGITS)


def one_hot(predictions, classes=2):
    return np.eye(classes)[predictions]


def test_f1():
    # Class 1: 3 there, 2 predicted, 1 right.
    assert f1([1, 1, 1, 0, 0], one_hot([1, 0, 0, 1, 0])) == pytest.approx(2 * 1 / (3 + 2))
    assert f1([0, 0], one_hot([0, 0])) == f1([1, 0], one_hot([0, 1])) == 0.0
    assert f1([0, 1, 2, 1], LOGITS) == pytest.approx(2 / 3)  # all other classes are one
    assert macro_f1([0, 0, 1], one_hot([0, 1, 1])) == pytest.approx(2 / 3)
    assert macro_f1([0, 0], one_hot([0, 0], 3)) == 1.0  # classes that occur nowhere do not count


def test_matthews():
    # 2 true positives, 1 true negative, 1 false positive, 1 false negative: (2·1 − 1·1) / sqrt(3·3·2·2)
    assert matthews([1, 1, 0, 0, 1], one_hot([1, 1, 0, 1, 0])) == pytest.approx(1 / 6)
    assert matthews([0, 1], one_hot([0, 1])) == 1.0 and matthews([0, 1], one_hot([1, 0])) == -1.0
    assert matthews([0, 1, 1], one_hot([1, 1, 1])) == matthews([1, 1], one_hot([0, 1])) == 0.0


def test_multilabel_f1():
    labels = [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    logits = [[2.0, 0.5, -1], [-1, 3, -1], [0, -1, -0.1]]  # a logit of 0 is no prediction
    assert multilabel_f1(labels, logits) == pytest.approx(2 * 2 / (3 + 3))
    assert multilabel_f1(labels, logits, "macro") == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert exact_match(labels, logits) == pytest.approx(2 / 3)
    assert multilabel_f1(np.zeros((2, 2)), -np.ones((2, 2))) == 0.0


SETS = arrays(np.int64, (5, 3), elements=st.integers(0, 1))


@pytest.mark.heavy
@given(arrays(np.int64, 8, elements=st.integers(0, 2)), arrays(np.int64, 8, elements=st.integers(0, 2)), SETS, SETS)
def test_as_scikit_learn(labels, predictions, sets, predicted):
    metrics = pytest.importorskip("sklearn.metrics")
    logits = one_hot(predictions, 3)
    options = {"zero_division": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of labels that are all the same
        expected = metrics.matthews_corrcoef(labels, predictions)
    assert matthews(labels, logits) == pytest.approx(expected, abs=1e-12)
    expected = metrics.f1_score(labels, predictions, labels=[1], average="macro", **options)
    assert f1(labels, logits) == pytest.approx(expected)
    assert macro_f1(labels, logits) == pytest.approx(metrics.f1_score(labels, predictions, average="macro", **options))
    for average in ("micro", "macro"):
        expected = metrics.f1_score(sets, predicted, average=average, **options)
        assert multilabel_f1(sets, predicted - 0.5, average) == pytest.approx(expected)
    assert exact_match(sets, predicted - 0.5) == pytest.approx(metrics.accuracy_score(sets, predicted))


@given(arrays(np.float64, 7, elements=st.floats(-1e3, 1e3)), arrays(np.float64, 7, elements=st.floats(-1e3, 1e3)))
def test_pearson_as_scipy(labels, predictions):
    stats = pytest.importorskip("scipy.stats")
    if np.ptp(labels) > 1e-3 and np.ptp(predictions) > 1e-3:
        assert pearson(labels, predictions) == pytest.approx(stats.pearsonr(labels, predictions).statistic, abs=1e-9)


def test_scores_that_a_task_asks_for():
    labels, logits = [1, 0, 1], one_hot([1, 1, 0])
    assert list(score("classification", labels, logits, ("f1", "accuracy"))) == [
        "f1", "accuracy", "expected_calibration_error"
    ]  # fmt: skip
    assert score("classification", labels, logits, ["matthews"])["matthews"] == pytest.approx(-0.5)
    assert list(score("regression", [1.0, 2], [1.0, 2], ("pearson",))) == ["pearson", "spearman", "mse"]
    assert score("multilabel", [[1, 0]], [[1.0, -1]]) == {"micro_f1": 1.0, "macro_f1": 0.5, "exact_match": 1.0}
    with pytest.raises(UserError, match="'f2'"):
        score("classification", labels, logits, ["f2"])


def test_bad_sets():
    for labels, logits, message in (
        ([0, 1], [[1.0, 0.0]], r"shape \(2,\) and .* \(1, 2\); expected \(n, classes\)"),
        ([[2, 0]], [[1.0, 0.0]], "0 and 1"),
        ([[1, 0]], [[np.nan, 0.0]], "example 0"),
        (np.zeros((0, 2)), np.zeros((0, 2)), r"shape \(0, 2\)"),
    ):
        with pytest.raises(UserError, match=message):
            multilabel_f1(labels, logits)
    with pytest.raises(UserError, match="'mean'"):
        multilabel_f1([[1]], [[1.0]], "mean")


@pytest.mark.parametrize("function", [accuracy, confusion_matrix, expected_calibration_error])
@pytest.mark.parametrize(
    ("labels", "logits", "message"),
    [
        ([0, 1], [[1.0, 0.0]], r"shape \(2,\) and .* \(1, 2\); expected \(n,\) and \(n, 2 or more\)"),
        ([[0]], [[1.0, 0.0]], r"shape \(1, 1\)"),
        ([0], [1.0], r"shape \(1,\) and .* \(1,\)"),
        ([0], [[1.0]], r"\(1, 1\); expected"),
        ([], np.zeros((0, 2)), r"shape \(0,\)"),
        (0, 1.0, r"shape \(\)"),
        ([2], [[1.0, 0.0]], "2 to 2.* 0 to 1"),
        ([-1], [[1.0, 0.0]], "-1 to -1"),
        ([0.5], [[1.0, 0.0]], "float64"),
        ([0, 0], [[1.0, 0.0], [np.nan, 0.0]], "example 1 .*NaN"),
        ([0], [[np.inf, 0.0]], "infinite"),
    ],
)
def test_bad_classes(function, labels, logits, message):
    with pytest.raises(UserError, match=message):
        function(labels, logits)


@pytest.mark.parametrize("function", [mse, pearson, spearman])
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([1.0, 2.0], [1.0], r"shape \(2,\) and predictions of shape \(1,\); expected \(n,\) or \(n, 1\)"),
        ([1.0, 2.0], [[1.0, 2.0]], r"shape \(1, 2\)"),
        ([], [], r"shape \(0,\)"),
        (1.0, 1.0, r"shape \(\)"),
        ([1.0, 2.0], [1.0, np.nan], "predictions .*example 1"),
        ([np.inf, 2.0], [1.0, 1.0], "labels .*example 0"),
    ],
)
def test_bad_numbers(function, labels, predictions, message):
    with pytest.raises(UserError, match=message):
        function(labels, predictions)


@pytest.mark.parametrize("labels", [[1.0], [2.0, 2.0]])
def test_no_correlation_with_equal_labels(labels):
    for function in (pearson, spearman):
        with pytest.raises(UserError, match="labels"):
            function(labels, labels)


def test_bad_probabilities():
    with pytest.raises(UserError, match="logits"):
        expected_calibration_error([0], [[3.0, 1.0]])
    with pytest.raises(UserError, match="logits"):
        expected_calibration_error([0], [[2.0, -1.0]])
    with pytest.raises(UserError, match="0 bins"):
        expected_calibration_error([0], [[1.0, 0.0]], bins=0)
