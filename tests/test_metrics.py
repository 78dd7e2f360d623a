"""Average precision, top K and their expectations against scikit-learn, brute force and values worked out by hand."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from c3.common.average_precision import (
    SORTED_DIRECTLY,
    average_precision,
    count_at_least,
    random_average_precision,
)
from c3.common.errors import C3Error
from c3.evaluate.metrics import micro_top_k, random_variance, top_k
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

# few distinct scores, so that most rankings have ties
RANKING = st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=30)
SEED = st.integers(0, 2**32 - 1).map(np.random.default_rng)


@settings(max_examples=60, deadline=None)
@given(RANKING)
def test_average_precision_is_sklearns_with_ties(ranking: list[tuple[bool, int]]) -> None:
    positive = np.array([label for label, _ in ranking])
    scores = np.array([score for _, score in ranking], np.float32)
    if positive.any():
        assert average_precision(positive, scores) == pytest.approx(
            average_precision_score(positive, scores), abs=1e-12
        )
    else:
        assert np.isnan(average_precision(positive, scores))


@pytest.mark.parametrize(
    ("positive", "scores"),
    [
        pytest.param([True, False, False, True, False], [0.0] * 5, id="constant"),
        pytest.param([True] * 4, [3.0, 1.0, 1.0, 2.0], id="all positive"),
        pytest.param([True], [0.5], id="one row"),
        pytest.param([False, True, True], [1.0, 1.0, 0.0], id="tie of a positive and a negative"),
        pytest.param([False, False, True], [3e38, -3e38, 0.0], id="a range beyond float32"),
    ],
)
def test_average_precision_is_sklearns_in_special_cases(positive: list[bool], scores: list[float]) -> None:
    positive, scores = np.array(positive), np.array(scores, np.float32)
    assert average_precision(positive, scores) == pytest.approx(average_precision_score(positive, scores))


@settings(max_examples=20, deadline=None)
@given(SEED, st.sampled_from(["uniform", "normal", "tied", "outlier", "constant"]))
def test_large_rankings_use_buckets_and_stay_exact(rng: np.random.Generator, kind: str) -> None:
    count = 3 * SORTED_DIRECTLY
    scores = rng.normal(size=count).astype(np.float32)
    if kind == "uniform":
        scores = rng.random(count, np.float32)
    elif kind == "tied":
        scores = rng.integers(0, 50, count).astype(np.float32)
    elif kind == "outlier":
        scores[7] = 1e30
    elif kind == "constant":
        scores[:] = 2.5
    positive = rng.random(count) < 0.01
    positive[7] = True
    thresholds = np.sort(scores[positive])
    expected = (scores[None, :] >= thresholds[:, None]).sum(axis=1)
    np.testing.assert_array_equal(count_at_least(scores, thresholds), expected)
    assert average_precision(positive, scores) == pytest.approx(average_precision_score(positive, scores), abs=1e-9)


@pytest.mark.parametrize(("positive", "stable"), [([True, False], 1.0), ([False, True], 0.5)])
def test_stable_ties_follow_the_rows_and_grouped_ties_do_not(positive: list[bool], stable: float) -> None:
    labels, scores = np.array(positive), np.zeros(2)
    assert average_precision(labels, scores, ties="stable") == stable
    assert average_precision(labels, scores, ties="grouped") == 0.5


@settings(max_examples=20, deadline=None)
@given(SEED)
def test_the_two_rules_agree_without_ties(rng: np.random.Generator) -> None:
    positive, scores = np.append(rng.random(20) < 0.3, True), rng.permutation(21).astype(np.float32)
    assert average_precision(positive, scores, "stable") == pytest.approx(average_precision(positive, scores))


@settings(max_examples=40, deadline=None)
@given(SEED, st.integers(1, 7))
def test_top_k_is_what_a_stable_sort_gives(rng: np.random.Generator, k: int) -> None:
    scores = rng.integers(0, 4, (8, 7)).astype(np.float32)
    before = scores.copy()
    np.testing.assert_array_equal(top_k(scores, k), np.argsort(-scores, axis=1, kind="stable")[:, :k])
    np.testing.assert_array_equal(scores, before)


def test_random_average_precision_has_the_mean_and_the_variance_of_all_orders() -> None:
    positive = np.zeros((6, 6), bool)
    positive[0, [0, 2]] = positive[1, :5] = positive[2, 1] = positive[3, 2:] = positive[4, 0] = True
    known = np.array([5, 5, 3, 6, 1, 5])
    means, variances = (of(positive.sum(axis=1), known) for of in (random_average_precision, random_variance))
    for row, count, mean, variance in zip(positive[:5], known, means, variances, strict=False):
        orders = [average_precision(row[:count], np.array(order, float)) for order in permutations(range(count))]
        assert mean == pytest.approx(np.mean(orders))
        assert variance == pytest.approx(np.var(orders), abs=1e-12)
    assert np.isnan(means[5]) and np.isnan(variances[5])


@pytest.mark.parametrize(
    ("what", "precision", "recall", "f1"),
    [
        # The percentages that were published with per-class files: P, R at K and the F1 that follows.
        pytest.param("LESA at 3", 25.54, 40.83, 31.43, id="LESA F1@3"),
        pytest.param("LESA at 5", 19.79, 52.72, 28.78, id="LESA F1@5"),
        pytest.param("C3 at 3", 29.75, 37.00, 32.98, id="C3 F1@3"),
    ],
)
def test_f1_follows_from_published_precision_and_recall(what: str, precision: float, recall: float, f1: float) -> None:
    predicted, positives = 100_000, round(100_000 * precision / recall)
    top = micro_top_k(predicted * precision / 100, predicted, positives)
    assert (100 * top.precision, 100 * top.recall) == (pytest.approx(precision), pytest.approx(recall, abs=0.005))
    assert 100 * top.f1 == pytest.approx(f1, abs=0.01)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(C3Error, match="score 1 of a ranking is not a finite number"):
        average_precision(np.array([True, False]), np.array([0.0, bad]))


@pytest.mark.parametrize("k", [0, 4])
def test_a_k_that_no_image_can_have_is_refused(k: int) -> None:
    with pytest.raises(C3Error, match=f"from 1 to 3, the number of classes; found K = {k}"):
        top_k(np.zeros((2, 3)), k)


def test_an_unknown_rule_of_ties_is_refused() -> None:
    with pytest.raises(C3Error, match="expected grouped or stable, found 'random'"):
        average_precision(np.array([True]), np.array([1.0]), ties="random")


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        average_precision(np.ones(2, bool), np.zeros(3))
