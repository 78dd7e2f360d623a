"""F1@K, and what random scores reach. Pure numpy; nothing is mutated.

Every value here is a fraction in 0..1, not a percentage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..common.average_precision import random_average_precision
from ..common.errors import C3Error


@dataclass(frozen=True)
class TopK:
    """Micro-averaged precision, recall and F1 of each image's K best classes; recall is NaN without a positive."""

    precision: float
    recall: float
    f1: float


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
