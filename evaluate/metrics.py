"""F1@K, and average precision resampled. Pure numpy; nothing is mutated.

Every value here is a fraction in 0..1, not a percentage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from ..common.average_precision import random_average_precision
from ..common.errors import C3Error


@dataclass(frozen=True)
class TopK:
    """Micro-averaged precision, recall and F1 of each image's K best classes; recall is NaN without a positive."""

    precision: float
    recall: float
    f1: float


def resampled_average_precision(
    positive: np.ndarray, scores: np.ndarray, image: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the average precision (ties grouped) of one ranking under many weights of its images.

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
        return np.asarray(summed[::-1].cumsum(axis=0, dtype=np.float64)[::-1])

    every, hits = at_least(np.flatnonzero(segment >= 0)), at_least(np.flatnonzero(positive))
    own = -np.diff(hits, axis=0, append=0.0)  # the weight of the positives at each threshold itself
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(hits[0] > 0, (own * hits / np.maximum(every, 1)).sum(axis=0) / hits[0], np.nan))


def random_variance(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the variance of the average precision of random scores without ties, for every class.

    positives and known are those of `random_average_precision`. Returns (classes,) float64, NaN where a class has no
    positive. P AP is the sum over ranks r of I_r (1 + N_r) / r, where I_r says that rank r holds a positive and N_r
    counts those above it. Its square is a sum over pairs of ranks r <= t, whose expectations are polynomials in the
    chances p_k = P (P - 1) .. (P - k + 1) / (n (n - 1) .. (n - k + 1)) that k given ranks hold positives.
    """
    r = np.arange(1.0, known.max(initial=0) + 1)
    before = np.cumsum(1 / r) - 1 / r  # the harmonic number of r - 1
    terms = (
        1 / r**2,
        3 * (r - 1) / r**2 + 4 * before / r,
        (r - 1) * (r - 2) / r**2 + 2 * (3 * (r - 1) + (r - 5) * before) / r,
        2 * (r - 3) * (r - 1 - before) / r,
    )
    chance, square = np.ones(len(known)), np.zeros(len(known))
    for taken, term in enumerate(terms):
        chance = chance * np.maximum(positives - taken, 0) / np.maximum(known - taken, 1)
        square += chance * np.concatenate([[0.0], np.cumsum(term)])[known]
    mean = random_average_precision(positives, known)
    return np.asarray(np.maximum(square / np.maximum(positives, 1) ** 2 - mean**2, 0.0))  # NaN stays NaN


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the K best classes of every row, best first: scores (rows, classes) -> (rows, k) int64 class indices.

    Equal scores go to the lowest class index first. Nothing is sorted but the few scores that can be among the K: the
    columns are dealt into groups, and at least K scores are as good as the K-th best of the groups' maxima.
    Raises C3Error for K above the number of classes.
    """
    rows, classes = scores.shape
    if not 1 <= k <= classes:
        raise C3Error(f"F1@K: expected K from 1 to {classes}, the number of classes; found K = {k}")
    groups = min(classes, max(8 * k, 64))
    dealt = scores[:, : classes - classes % groups].reshape(rows, -1, groups)
    bound = np.partition(dealt.max(axis=1), -k, axis=1)[:, -k, None]
    row, column = np.divmod(np.flatnonzero(scores >= bound), classes)  # several times faster than nonzero in 2-d
    order = np.lexsort((column, -scores[row, column], row))
    counts = np.bincount(row, minlength=rows)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    return column[order][place < k].reshape(rows, k)


def micro_top_k(found: float, predicted: int, positives: int) -> TopK:
    """Return precision, recall and F1 over all images: `found` of `predicted` labels are among the `positives`.

    F1@K of two images with K = 2: of four predicted labels two are right, and three labels are true.

    >>> labels = np.array([[1, 1, 0, 0], [0, 0, 0, 1]])
    >>> best = top_k(np.array([[0.9, 0.2, 0.8, 0.1], [0.3, 0.1, 0.2, 0.9]]), k=2)
    >>> best.tolist()
    [[0, 2], [3, 0]]
    >>> found = np.take_along_axis(labels, best, axis=1).sum()
    >>> micro_top_k(float(found), predicted=best.size, positives=int(labels.sum()))
    TopK(precision=0.5, recall=0.6666666666666666, f1=0.5714285714285714)
    """
    precision = found / predicted if predicted else float("nan")
    recall = found / positives if positives else float("nan")
    return TopK(precision, recall, 2 * found / (predicted + positives) if predicted + positives else float("nan"))
