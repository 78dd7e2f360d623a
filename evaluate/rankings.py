"""Rankings of several classes whose average precision is computed under many weights of the images at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

GROUP = 1 << 10  # thresholds of a group: small enough that what is computed of it stays in the cache of a core
EXACT = 1 << 24  # whole numbers up to which float32 counts exactly
STEP = 32  # rows that are summed by one product; the thresholds of a group are filled up to a multiple


@dataclass(frozen=True)
class Rankings:
    """The rankings of some classes, each cut into thresholds at the distinct scores of its positives, highest first.

    classes (n,) int are their numbers; the thresholds of ranking i are edges[i]..edges[i + 1]. every and hits
    (thresholds, images) float32 sparse say which images, and which positive ones, reach a threshold but not the one
    before it; empty rows follow the last.
    """

    classes: np.ndarray
    edges: np.ndarray
    every: csr_array
    hits: csr_array

    def average_precision(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the average precision (ties grouped) of every ranking, and the weight of its positives.

        weights (images, resamples) are counts, whose sums are exact in their dtype. Both results are (n, resamples)
        float64; precision is NaN where the positives weigh nothing. With all weights 1 it is `average_precision`.
        """
        own = np.asarray(self.hits @ weights)
        hits, every = _running_sums(own), _running_sums(np.asarray(self.every @ weights))
        for start, stop in reversed(list(pairwise(self.edges[1:].tolist()))):
            hits[start:stop] -= hits[start - 1]
            every[start:stop] -= every[start - 1]
        precision = np.divide(hits, np.maximum(every, 1, out=every), dtype=np.float64)
        precision *= own
        positives = hits[self.edges[1:] - 1].astype(np.float64)
        with np.errstate(invalid="ignore"):
            found = np.add.reduceat(precision, self.edges[:-1], axis=0) / positives
        return np.where(positives > 0, found, np.nan), positives


def rankings(each: Iterable[tuple[int, np.ndarray, np.ndarray, np.ndarray]], images: int) -> Iterator[Rankings]:
    """Yield (class, positive, scores, image) of every class in groups; classes without a positive are left out.

    positive (n,) bool, scores (n,) float, image (n,) int below `images`, the row of the weights.
    """
    parts: list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]] = []
    size = 0
    for number, positive, scores, image in each:
        if not positive.any():
            continue
        found = np.unique(scores[positive])
        place = len(found) - np.searchsorted(found, scores, side="right")  # of the highest threshold that is reached
        reached = place < len(found)
        parts.append((number, len(found), place[reached], image[reached], positive[reached]))
        size += len(found)
        if size >= GROUP or (len(parts) + 1) * images > EXACT:  # sums over a group stay exact
            yield _group(parts, images)
            parts, size = [], 0
    if parts:
        yield _group(parts, images)


def _running_sums(values: np.ndarray) -> np.ndarray:
    """Return the sum of values (n, columns) up to each row, n a multiple of STEP.

    numpy's cumsum waits for every addition before the next one; a product with a triangle of ones does not.
    """
    sums: np.ndarray = np.tri(STEP, dtype=values.dtype) @ values.reshape(-1, STEP, values.shape[1])
    sums[1:] += np.cumsum(sums[:-1, -1], axis=0)[:, None]
    return sums.reshape(values.shape)


def _group(parts: list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]], images: int) -> Rankings:
    classes, sizes, places, numbers, positives = zip(*parts, strict=True)
    edges = np.concatenate([[0], np.cumsum(sizes)])
    threshold = np.concatenate([place + edge for place, edge in zip(places, edges[:-1], strict=True)])
    image, positive = np.concatenate(numbers), np.concatenate(positives)
    shape = -(-int(edges[-1]) // STEP) * STEP, images

    def matrix(chosen: np.ndarray | slice) -> csr_array:
        cells = threshold[chosen], image[chosen]
        return csr_array((np.ones(len(cells[0]), np.float32), cells), shape)

    return Rankings(np.array(classes), edges, matrix(slice(None)), matrix(positive))
