"""Average precision, the one definition that validation and evaluation share. Pure numpy; nothing is mutated."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from .errors import C3Error

Ties = Literal["grouped", "stable"]
TIES: tuple[Ties, ...] = get_args(Ties)
BUCKETS = 1 << 16  # of count_at_least: about the number of scores in a column of NUS-WIDE
SORTED_DIRECTLY = 1 << 13  # scores below which a plain sort is faster than buckets


def average_precision(positive: np.ndarray, scores: np.ndarray, ties: Ties = "grouped") -> float:
    """Return the average precision of one ranking, a fraction; NaN where nothing is positive.

    positive (n,) bool, scores (n,) float. `grouped` takes equal scores as one threshold, so the order of the rows does
    not matter (scikit-learn, LESA, C3): AP is the mean over the positives of the precision among the scores that are
    at least theirs. `stable` ranks equal scores by row (BiAM, MKT); the two agree without ties.
    Raises C3Error for a score that is not finite and for another rule of ties.

    >>> positive = np.array([True, False, True, False])
    >>> average_precision(positive, np.array([0.9, 0.8, 0.7, 0.1]))  # the mean of 1/1 and 2/3
    0.8333333333333333
    >>> average_precision(positive, np.array([0.5, 0.5, 0.5, 0.1]))  # three share a rank, two of them positive
    0.6666666666666666
    >>> average_precision(positive, np.array([0.5, 0.5, 0.5, 0.1]), ties="stable")
    0.8333333333333333
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


def mean_average_precision(group: np.ndarray, positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the mean of the average precision of all groups that have a positive.

    group (entries,) int numbers from 0 to 65,535, positive (entries,) bool, scores (entries,) float; ties are grouped.
    """
    order = np.argsort(group.astype(np.uint16), kind="stable")  # 16 bits: numpy then sorts by radix
    group, positive, scores = group[order], positive[order], scores[order]
    edges = [*np.flatnonzero(np.diff(group, prepend=-1)), len(group)]
    parts = [slice(start, stop) for start, stop in pairwise(edges)]
    return float(np.mean([average_precision(positive[part], scores[part]) for part in parts if positive[part].any()]))


def random_average_precision(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the average precision that random scores without ties reach in the mean, for every class.

    positives (classes,) and known (classes,) int: labels that are +1, and that are +1 or -1. Returns (classes,)
    float64, NaN where a class has no positive. With P positives among n every order is equally likely, and a positive
    at rank r finds (r - 1)(P - 1)/(n - 1) others above it in the mean; summing over ranks gives
    (H_n + (n - H_n)(P - 1)/(n - 1)) / n, where H_n is the n-th harmonic number.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, known.max(initial=0) + 1))])[known]
    others = (positives - 1) / np.maximum(known - 1, 1)
    expected = (harmonic + (known - harmonic) * others) / np.maximum(known, 1)
    return np.asarray(np.where(positives > 0, expected, np.nan))


def count_at_least(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Count the scores that are at least each threshold: scores (n,), thresholds (t,) among them -> (t,) int64, exact.

    Scores are dealt into buckets in one pass, and only those that share a bucket with a threshold are sorted: several
    times faster than sorting them all, and never slower than that by more than the pass.
    """
    low, high = scores.min(), scores.max()
    with np.errstate(over="ignore", divide="ignore"):
        scale = scores.dtype.type(BUCKETS - 1) / (high - low)
    if len(scores) < SORTED_DIRECTLY or not (np.isfinite(scale) and scale > 0):
        return np.asarray(len(scores) - np.searchsorted(np.sort(scores), thresholds))
    # subtracting, scaling and truncating keep the order, so a higher bucket means a higher score
    bucket = ((scores - low) * scale).astype(np.int32)
    wanted = ((thresholds - low) * scale).astype(np.int32)
    counts = np.bincount(bucket, minlength=BUCKETS + 1)
    shared = np.zeros(len(counts), bool)
    shared[wanted] = True
    close = np.sort(scores[shared[bucket]])
    above, close_above = (np.append(part[::-1].cumsum()[::-1], 0)[wanted + 1] for part in (counts, counts * shared))
    return np.asarray(above + (len(close) - np.searchsorted(close, thresholds)) - close_above)


def require_ties(ties: str) -> None:
    """Refuse an unknown rule of ties."""
    if ties not in TIES:
        raise C3Error(f"ties: expected {' or '.join(TIES)}, found {ties!r}")
