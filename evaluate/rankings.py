"""Rankings of several classes whose average precision is computed under many weights of the images at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

GROUP = 1 << 10  # thresholds of a group: small enough that what is computed of it stays in the cache of a core


@dataclass(frozen=True)
class Rankings:
    """The rankings of some classes, each cut into thresholds at the distinct scores of its positives, highest first.

    classes (n,) int are their numbers; the thresholds of ranking i are edges[i]..edges[i + 1]. every and hits
    (thresholds, images) float32 sparse say which images, and which positive ones, reach a threshold but not the one
    before it.
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
        own, every = np.asarray(self.hits @ weights), np.asarray(self.every @ weights)
        hits = np.empty_like(own)
        for start, stop in pairwise(self.edges):
            np.cumsum(own[start:stop], axis=0, out=hits[start:stop])
            np.cumsum(every[start:stop], axis=0, out=every[start:stop])
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
        if size >= GROUP:
            yield _group(parts, images)
            parts, size = [], 0
    if parts:
        yield _group(parts, images)


def _group(parts: list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray]], images: int) -> Rankings:
    classes, sizes, places, numbers, positives = zip(*parts, strict=True)
    edges = np.concatenate([[0], np.cumsum(sizes)])
    threshold = np.concatenate([place + edge for place, edge in zip(places, edges[:-1], strict=True)])
    image, positive = np.concatenate(numbers), np.concatenate(positives)
    shape = int(edges[-1]), images

    def matrix(chosen: np.ndarray | slice) -> csr_array:
        cells = threshold[chosen], image[chosen]
        return csr_array((np.ones(len(cells[0]), np.float32), cells), shape)

    return Rankings(np.array(classes), edges, matrix(slice(None)), matrix(positive))
