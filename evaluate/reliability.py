"""Whether probabilities are what they say: known labels in bins by their probability (Naeini, Cooper, Hauskrecht 2015).

The distance of the mean probability of a bin from its share of positives, weighted by labels, is the expected
calibration error. No torch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..train.run_folder import Bins, Reliability
from .evidence import Evidence
from .probabilities import Probabilities

BINS = 15  # as in Guo et al. (ICML 2017)


def binned(probability: np.ndarray, positive: np.ndarray) -> Bins:
    """Return labels by probability: probability (n,) float in 0..1, positive (n,) bool."""
    return _bins(_sums(probability, positive))


def reliability(evidence: Evidence, probabilities: Probabilities) -> dict[str, Reliability]:
    """Return the reliability of the `seen` and of the `unseen` classes of a split, those that have a known label."""
    truth = evidence.truth
    found = {}
    for name, classes in (("seen", np.flatnonzero(truth.seen)), ("unseen", np.flatnonzero(~truth.seen))):
        before = _of_classes(evidence, classes, lambda _, scores: probabilities.without(scores))
        after = _of_classes(evidence, classes, lambda c, scores: probabilities.of([truth.names[c]], scores[:, None]))
        if any(after.labels):
            found[name] = Reliability(before, after)
    return found


def _of_classes(evidence: Evidence, classes: np.ndarray, read: Callable[[int, np.ndarray], np.ndarray]) -> Bins:
    """Return the bins of all known labels of some classes, of which one after another is held in memory."""
    truth, sums = evidence.truth, np.zeros((3, BINS))
    every = np.ones(len(truth), bool)
    for c in classes.tolist():
        positive, scores, _ = evidence.ranking(c, every, truth.absent)
        sums += _sums(read(c, scores).ravel(), positive)
    return _bins(sums)


def _sums(probability: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Return (3, BINS): the labels of every bin, the sum of their probabilities, and their positives."""
    bins = np.minimum((probability * BINS).astype(np.int64), BINS - 1)
    return np.stack([np.bincount(bins, weights, BINS) for weights in (None, probability, positive)])


def _bins(sums: np.ndarray) -> Bins:
    labels = sums[0]
    predicted, positive = (tuple((part / np.maximum(labels, 1)).tolist()) for part in sums[1:])
    return Bins(tuple(labels.astype(int).tolist()), predicted, positive)
