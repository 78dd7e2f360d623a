"""Average precision and F1@K against scikit-learn, brute force and values worked out by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from c3.errors import C3Error
from c3.evaluate import metrics
from c3.evaluate.metrics import (
    average_precision,
    class_average_precision,
    f1_at_k,
    random_average_precision,
    random_f1_at_k,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

# few distinct scores, so that most rankings have ties
RANKING = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30)
MATRIX = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=60, deadline=None)
@given(RANKING)
def test_average_precision_is_sklearns_with_ties(ranking):
    positive = np.array([label for label, _ in ranking])
    scores = np.array([score for _, score in ranking], np.float32)
    if positive.any():
        assert average_precision(positive, scores) == pytest.approx(average_precision_score(positive, scores))
    else:
        assert np.isnan(average_precision(positive, scores))


def test_constant_scores_give_the_share_of_positives():
    positive = np.array([True, False, False, True, False])
    assert average_precision(positive, np.zeros(5)) == pytest.approx(0.4)


def test_all_positive_gives_one():
    assert average_precision(np.ones(4, bool), np.array([3.0, 1.0, 1.0, 2.0])) == 1.0


@pytest.mark.parametrize(("positive", "stable"), [([True, False], 1.0), ([False, True], 0.5)])
def test_stable_ties_follow_the_rows_and_grouped_ties_do_not(positive, stable):
    labels, scores = np.array(positive), np.zeros(2)
    assert average_precision(labels, scores, ties="stable") == stable
    assert average_precision(labels, scores, ties="grouped") == 0.5


@settings(max_examples=20, deadline=None)
@given(MATRIX)
def test_the_two_rules_agree_without_ties(rng):
    positive, scores = np.append(rng.random(20) < 0.3, True), rng.permutation(21).astype(np.float32)
    assert average_precision(positive, scores, "stable") == pytest.approx(average_precision(positive, scores))


@settings(max_examples=20, deadline=None)
@given(MATRIX)
def test_unknown_labels_are_masked_and_a_class_without_positive_is_nan(rng):
    labels = rng.integers(-1, 2, (25, 6)).astype(np.int8)
    labels[labels[:, 2] == 1, 2] = 0
    scores = rng.integers(0, 4, labels.shape).astype(np.float32)
    before = labels.copy(), scores.copy()
    result = class_average_precision(labels, scores)
    assert np.isnan(result[2])
    for index in (0, 1, 3, 4, 5):
        known = labels[:, index] != 0
        expected = average_precision_score(labels[known, index] == 1, scores[known, index])
        assert result[index] == pytest.approx(expected)
    assert all(np.array_equal(old, new) for old, new in zip(before, (labels, scores), strict=True))


def test_blocks_do_not_change_the_values(monkeypatch):
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(-1, 2, (9, 7)).astype(np.int8), rng.random((9, 7))
    whole = class_average_precision(labels, scores), f1_at_k(labels, scores, 3)
    monkeypatch.setattr(metrics, "CLASS_BLOCK", 2)
    monkeypatch.setattr(metrics, "CELL_BLOCK", 14)
    np.testing.assert_array_equal(class_average_precision(labels, scores), whole[0])
    assert f1_at_k(labels, scores, 3) == whole[1]


def test_f1_by_hand_with_an_image_that_has_no_positive():
    labels = np.array([[1, 1, -1, -1], [-1, -1, -1, -1], [1, 1, 1, -1]], np.int8)
    scores = np.array([[0.9, 0.1, 0.8, 0.0], [0.1, 0.2, 0.3, 0.4], [0.9, 0.8, 0.1, 0.7]])
    result = f1_at_k(labels, scores, 2)
    # found: 1 of image 0, none of image 1, 2 of image 2; 3 x 2 predictions; 5 positives
    assert (result.precision, result.recall) == (pytest.approx(3 / 6), pytest.approx(3 / 5))
    assert result.f1 == pytest.approx(6 / 11)


def test_an_unknown_label_in_the_top_k_is_a_false_positive():
    assert f1_at_k(np.array([[1, 0, -1]], np.int8), np.array([[2.0, 3.0, 1.0]]), 2).precision == 0.5


def test_equal_scores_go_to_the_lowest_class():
    scores = np.array([[1.0, 5.0, 1.0, 1.0]])
    found = [f1_at_k(np.eye(4, dtype=np.int8)[[index]], scores, 2).recall for index in range(4)]
    assert found == [1.0, 1.0, 0.0, 0.0]


@settings(max_examples=30, deadline=None)
@given(MATRIX, st.integers(1, 6))
def test_f1_is_what_a_stable_sort_gives(rng, k):
    labels = rng.integers(-1, 2, (8, 6)).astype(np.int8)
    labels[0, 0] = 1
    scores = rng.integers(0, 4, labels.shape).astype(np.float32)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    found = (np.take_along_axis(labels, best, axis=1) == 1).sum()
    precision, recall = found / (8 * k), found / (labels == 1).sum()
    result = f1_at_k(labels, scores, k)
    assert (result.precision, result.recall) == (pytest.approx(precision), pytest.approx(recall))
    expected = 2 * precision * recall / (precision + recall) if found else 0.0
    assert result.f1 == pytest.approx(expected)


def test_random_average_precision_is_the_mean_over_all_orders():
    labels = np.array([[1, 1, 1, -1], [-1, 1, 0, -1], [1, 1, 0, 0], [-1, 1, 0, -1], [0, 1, 0, 0]], np.int8)
    orders = [class_average_precision(labels, np.array([order] * 4, float).T) for order in permutations(range(5))]
    np.testing.assert_allclose(random_average_precision(labels), np.mean(orders, axis=0))


def test_random_f1_is_the_mean_over_all_orders():
    labels = np.array([[1, 1, -1, 0], [-1, -1, -1, 1], [-1, -1, 0, -1]], np.int8)
    orders = [f1_at_k(labels, np.array([order] * 3, float), 3) for order in permutations(range(4))]
    expected = random_f1_at_k(labels, 3)
    assert expected.f1 == pytest.approx(np.mean([result.f1 for result in orders]))
    assert expected.precision == pytest.approx(np.mean([result.precision for result in orders]))
    assert expected.recall == pytest.approx(np.mean([result.recall for result in orders]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("measure", [class_average_precision, lambda labels, scores: f1_at_k(labels, scores, 1)])
def test_a_score_that_is_not_finite_is_refused_by_row_and_class(bad, measure):
    scores = np.zeros((4, 3), np.float32)
    scores[2, 1] = bad
    with pytest.raises(C3Error, match=f"row 2 for class 1 is {bad}"):
        measure(np.ones((4, 3), np.int8), scores)


@pytest.mark.parametrize("k", [0, 4])
def test_a_k_that_no_image_can_have_is_refused(k):
    with pytest.raises(C3Error, match=f"from 1 to 3, the number of classes; found K = {k}"):
        f1_at_k(np.ones((2, 3), np.int8), np.zeros((2, 3)), k)


def test_arrays_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"found \(2, 3\) and \(3, 2\)"):
        class_average_precision(np.ones((2, 3), np.int8), np.zeros((3, 2)))
    with pytest.raises(ValueError, match="one length"):
        average_precision(np.ones(2, bool), np.zeros(3))
