"""Average precision and F1@K, measured and expected by chance. Pure numpy; nothing is mutated.

Labels are int8: +1 present, -1 absent, 0 unknown. Every value here is a fraction in 0..1, not a percentage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import C3Error

Ties = Literal["grouped", "stable"]
CLASS_BLOCK = 64  # classes copied to contiguous memory at once: a column of a wide matrix is slow to walk
CELL_BLOCK = 1 << 22  # scores ranked at once, so that the top K of a wide matrix needs no copy of it


@dataclass(frozen=True)
class TopK:
    """Micro-averaged precision, recall and F1 of each image's K best classes; recall is NaN without a positive."""

    precision: float
    recall: float
    f1: float


def average_precision(positive: np.ndarray, scores: np.ndarray, ties: Ties = "grouped") -> float:
    """The average precision of one ranking; NaN where nothing is positive.

    positive (n,) bool, scores (n,) float. `grouped` takes equal scores as one threshold, so the order of the rows does
    not matter (scikit-learn, LESA, C3). `stable` ranks equal scores by row (BiAM, MKT); the two agree without ties.
    Raises C3Error naming the row of a NaN or infinite score.
    """
    if positive.shape != scores.shape or scores.ndim != 1:
        raise ValueError(f"expected two arrays of one length, found {positive.shape} and {scores.shape}")
    _require_finite(scores[:, None])
    return _average_precision(positive, scores, ties)


def class_average_precision(labels: np.ndarray, scores: np.ndarray, ties: Ties = "grouped") -> np.ndarray:
    """The average precision of every class over the images whose label for it is known.

    labels (n, classes) int8, scores (n, classes) float. Returns (classes,) float64, NaN where a class has no positive.
    Raises C3Error naming the row and the class of a NaN or infinite score.
    """
    _require_matching(labels, scores)
    _require_finite(scores)
    result = np.full(labels.shape[1], np.nan)
    for start in range(0, labels.shape[1], CLASS_BLOCK):
        block = slice(start, start + CLASS_BLOCK)
        columns = zip(np.ascontiguousarray(labels[:, block].T), np.ascontiguousarray(scores[:, block].T), strict=True)
        for index, (label, score) in enumerate(columns, start):
            known = label != 0
            result[index] = _average_precision(label[known] == 1, score[known], ties)
    return result


def random_average_precision(labels: np.ndarray) -> np.ndarray:
    """The average precision that random scores without ties reach in the mean, for every class.

    labels (n, classes) int8. Returns (classes,) float64, NaN where a class has no positive. With P positives among n
    known labels every order is equally likely, and a positive at rank r finds (r - 1)(P - 1)/(n - 1) others above it in
    the mean; summing over ranks gives (H_n + (n - H_n)(P - 1)/(n - 1)) / n, where H_n is the n-th harmonic number.
    """
    positives = np.count_nonzero(labels == 1, axis=0)
    known = np.count_nonzero(labels, axis=0)
    harmonic = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, len(labels) + 1))])[known]
    others = (positives - 1) / np.maximum(known - 1, 1)
    expected = (harmonic + (known - harmonic) * others) / np.maximum(known, 1)
    return np.where(positives > 0, expected, np.nan)


def f1_at_k(labels: np.ndarray, scores: np.ndarray, k: int) -> TopK:
    """Micro precision, recall and F1 of the K best-scored classes of every image.

    labels (n, classes) int8, scores (n, classes) float. Images without a positive are kept, and an unknown label among
    the K counts as a false positive (LESA, BiAM, C3). Equal scores go to the lowest class index first.
    Raises C3Error for K above the number of classes and for a NaN or infinite score.
    """
    _require_matching(labels, scores)
    _require_finite(scores)
    _require_k(k, labels.shape[1])
    rows = max(1, CELL_BLOCK // labels.shape[1])
    found = 0
    for start in range(0, len(labels), rows):
        block = slice(start, start + rows)
        found += int(np.count_nonzero(_top_k(scores[block], k) & (labels[block] == 1)))
    return _top_k_values(found, k, labels)


def random_f1_at_k(labels: np.ndarray, k: int) -> TopK:
    """The values of `f1_at_k` that random scores reach in the mean: a class is among the K with chance K / classes.

    labels (n, classes) int8. Raises C3Error for K above the number of classes.
    """
    _require_k(k, labels.shape[1])
    return _top_k_values(int(np.count_nonzero(labels == 1)) * k / labels.shape[1], k, labels)


def _average_precision(positive: np.ndarray, scores: np.ndarray, ties: Ties) -> float:
    if not positive.any():
        return float("nan")
    if ties == "stable":
        ranks = np.flatnonzero(positive[np.argsort(-scores, kind="stable")]) + 1
        return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    order = np.argsort(-scores)
    ranked = scores[order]
    thresholds = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # last rank of each group of equal scores
    found = np.cumsum(positive[order])[thresholds]
    return float(np.sum(np.diff(found, prepend=0) * found / (thresholds + 1)) / found[-1])


def _top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """(rows, classes) bool: which classes are among the K best of their row."""
    lowest = np.partition(scores, -k, axis=1)[:, -k, None]  # the K-th best score of each row
    above, equal = scores > lowest, scores == lowest
    room = k - np.count_nonzero(above, axis=1)[:, None]
    return above | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= room))


def _top_k_values(found: float, k: int, labels: np.ndarray) -> TopK:
    predicted, positives = k * len(labels), int(np.count_nonzero(labels == 1))
    recall = found / positives if positives else float("nan")
    return TopK(precision=found / predicted, recall=recall, f1=2 * found / (predicted + positives))


def _require_matching(labels: np.ndarray, scores: np.ndarray) -> None:
    if labels.shape != scores.shape or labels.ndim != 2 or not labels.size:
        raise ValueError(f"expected labels and scores (n, classes), found {labels.shape} and {scores.shape}")


def _require_finite(scores: np.ndarray) -> None:
    # min and max carry NaN and infinity through, and unlike isfinite they need no second array of this size
    if scores.size and not (np.isfinite(scores.min()) and np.isfinite(scores.max())):
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise C3Error(
            f"the score of row {row} for class {column} is {scores[row, column]}; expected a finite number. "
            "A model that diverged gives such scores: train it again with a lower learning rate"
        )


def _require_k(k: int, classes: int) -> None:
    if not 1 <= k <= classes:
        raise C3Error(f"F1@K: expected K from 1 to {classes}, the number of classes; found K = {k}")
