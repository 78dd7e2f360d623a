"""Average precision and F1@K, measured, resampled and expected by chance. Pure numpy; nothing is mutated.

Every value here is a fraction in 0..1, not a percentage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.sparse import csr_array

from ..common.errors import C3Error

Ties = Literal["grouped", "stable"]
TIES: tuple[str, ...] = get_args(Ties)
BUCKETS = 1 << 16  # of count_at_least: about the number of scores in a column of NUS-WIDE
SORTED_DIRECTLY = 1 << 13  # scores below which a plain sort is faster than buckets


@dataclass(frozen=True)
class TopK:
    """Micro-averaged precision, recall and F1 of each image's K best classes; recall is NaN without a positive."""

    precision: float
    recall: float
    f1: float


def average_precision(positive: np.ndarray, scores: np.ndarray, ties: Ties = "grouped") -> float:
    """The average precision of one ranking; NaN where nothing is positive.

    positive (n,) bool, scores (n,) float. `grouped` takes equal scores as one threshold, so the order of the rows does
    not matter (scikit-learn, LESA, C3): AP is the mean over the positives of the precision among the scores that are
    at least theirs. `stable` ranks equal scores by row (BiAM, MKT); the two agree without ties.
    Raises C3Error for a score that is not finite and for another rule of ties.
    """
    if positive.shape != scores.shape or scores.ndim != 1:
        raise ValueError(f"expected two arrays of one length, found {positive.shape} and {scores.shape}")
    require_ties(ties)
    if scores.size and not (np.isfinite(scores.min()) and np.isfinite(scores.max())):
        raise C3Error(f"score {int(np.argmax(~np.isfinite(scores)))} of a ranking is not a finite number")
    if not positive.any():
        return float("nan")
    if ties == "stable":
        ranks = np.flatnonzero(positive[np.argsort(-scores, kind="stable")]) + 1
        return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    found = np.sort(scores[positive])
    hits = len(found) - np.searchsorted(found, found)
    return float(np.mean(hits / count_at_least(scores, found)))


def count_at_least(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many scores are at least each threshold: scores (n,), thresholds (t,) among them, -> (t,) int64, exact.

    Scores are dealt into buckets in one pass, and only those that share a bucket with a threshold are sorted: several
    times faster than sorting them all, and never slower than that by more than the pass.
    """
    low, high = scores.min(), scores.max()
    with np.errstate(over="ignore", divide="ignore"):
        scale = scores.dtype.type(BUCKETS - 1) / (high - low)
    if len(scores) < SORTED_DIRECTLY or not (np.isfinite(scale) and scale > 0):
        return len(scores) - np.searchsorted(np.sort(scores), thresholds)
    # subtracting, scaling and truncating keep the order, so a higher bucket means a higher score
    bucket = ((scores - low) * scale).astype(np.int32)
    wanted = ((thresholds - low) * scale).astype(np.int32)
    counts = np.bincount(bucket, minlength=BUCKETS + 1)
    shared = np.zeros(len(counts), bool)
    shared[wanted] = True
    close = np.sort(scores[shared[bucket]])
    above, close_above = (np.append(part[::-1].cumsum()[::-1], 0)[wanted + 1] for part in (counts, counts * shared))
    return above + (len(close) - np.searchsorted(close, thresholds)) - close_above


def resampled_average_precision(
    positive: np.ndarray, scores: np.ndarray, image: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Average precision (ties grouped) of one ranking under many weights of its images.

    positive (n,) bool with at least one True, scores (n,) float, image (n,) the row of `weights` that each belongs to,
    weights (images, resamples) float32 counts. Returns (resamples,) float64, NaN where the positives weigh nothing.
    With all weights 1 it is `average_precision`.
    """
    found = np.unique(scores[positive])
    segment = np.searchsorted(found, scores, side="right") - 1  # the highest threshold that a score reaches

    def at_least(chosen: np.ndarray) -> np.ndarray:
        """(thresholds, resamples) the weight of the chosen scores that are at least each threshold."""
        cells = (np.ones(len(chosen), np.float32), (segment[chosen], image[chosen]))
        summed = csr_array(cells, (len(found), len(weights))) @ weights
        return summed[::-1].cumsum(axis=0, dtype=np.float64)[::-1]

    every, hits = at_least(np.flatnonzero(segment >= 0)), at_least(np.flatnonzero(positive))
    own = -np.diff(hits, axis=0, append=0.0)  # the weight of the positives at each threshold itself
    with np.errstate(invalid="ignore"):
        return np.where(hits[0] > 0, (own * hits / np.maximum(every, 1)).sum(axis=0) / hits[0], np.nan)


def random_average_precision(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The average precision that random scores without ties reach in the mean, for every class.

    positives (classes,) and known (classes,) int: labels that are +1, and that are +1 or -1. Returns (classes,)
    float64, NaN where a class has no positive. With P positives among n every order is equally likely, and a positive
    at rank r finds (r - 1)(P - 1)/(n - 1) others above it in the mean; summing over ranks gives
    (H_n + (n - H_n)(P - 1)/(n - 1)) / n, where H_n is the n-th harmonic number.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, known.max(initial=0) + 1))])[known]
    others = (positives - 1) / np.maximum(known - 1, 1)
    expected = (harmonic + (known - harmonic) * others) / np.maximum(known, 1)
    return np.where(positives > 0, expected, np.nan)


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """The K best classes of every row, best first: scores (rows, classes) -> (rows, k) int64 class indices.

    Equal scores go to the lowest class index first. Nothing is sorted but the few scores that can be among the K: the
    columns are dealt into groups, and at least K scores are as good as the K-th best of the groups' maxima.
    Raises C3Error for K above the number of classes.
    """
    rows, classes = scores.shape
    require_k(k, classes)
    groups = min(classes, max(8 * k, 64))
    dealt = scores[:, : classes - classes % groups].reshape(rows, -1, groups)
    bound = np.partition(dealt.max(axis=1), -k, axis=1)[:, -k, None]
    row, column = np.divmod(np.flatnonzero(scores >= bound), classes)  # several times faster than nonzero in 2-d
    order = np.lexsort((column, -scores[row, column], row))
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return column[order][place < k].reshape(rows, k)


def micro_top_k(found: float, predicted: int, positives: int) -> TopK:
    """Precision, recall and F1 over all images: `found` of `predicted` labels are among the `positives`."""
    precision = found / predicted if predicted else float("nan")
    recall = found / positives if positives else float("nan")
    return TopK(precision, recall, 2 * found / (predicted + positives) if predicted + positives else float("nan"))


def require_k(k: int, classes: int) -> None:
    """Refuse a K that no image can have."""
    if not 1 <= k <= classes:
        raise C3Error(f"F1@K: expected K from 1 to {classes}, the number of classes; found K = {k}")


def require_ties(ties: str) -> None:
    """Refuse an unknown rule of ties."""
    if ties not in TIES:
        raise C3Error(f"ties: expected {' or '.join(TIES)}, found {ties!r}")
