"""Calibrated GZSL: seen classes are held back by an offset that is chosen on the validation split, never on test."""

from __future__ import annotations

import numpy as np

from ..train.run_folder import Balance, Calibration
from .evidence import Evidence, merge
from .measure import harmonic

OFFSETS = 61  # candidates: quantiles of the lead of an image's best seen class over its best unseen one


def choose_offset(evidence: Evidence, k: int) -> float | None:
    """Return the offset that gives the best harmonic mean of recall at K on seen and unseen labels (Chao et al. 2016).

    None where the split lacks positive labels of either kind. The smallest such offset in absolute value is kept.
    """
    if not _can_balance(evidence):
        return None
    lead = evidence.pools["seen"].scores[:, 0] - evidence.pools["unseen"].scores[:, 0]
    tried = np.unique(np.append(np.quantile(lead, np.linspace(0, 1, OFFSETS)), 0.0))
    tried = tried[np.argsort(np.abs(tried), kind="stable")]
    return float(max(tried, key=lambda offset: balance(evidence, k, offset).harmonic))  # the first of equals


def balance(evidence: Evidence, k: int, offset: float) -> Balance:
    """Return what GZSL finds when `offset` is taken off the score of every seen class, over all images."""
    truth = evidence.truth
    ranked = merge([evidence.pools["unseen"], evidence.pools["seen"]], shift=offset)
    hits, seen = ranked.hits[:, :k], truth.seen[ranked.classes[:, :k]]
    of_seen, of_unseen = (int(truth.positives_of_images(part).sum()) for part in (truth.seen, ~truth.seen))
    recall_seen = 100 * np.count_nonzero(hits & seen) / of_seen
    recall_unseen = 100 * np.count_nonzero(hits & ~seen) / of_unseen
    f1 = 200 * np.count_nonzero(hits) / (hits.size + of_seen + of_unseen)
    return Balance(recall_seen, recall_unseen, float(harmonic(recall_seen, recall_unseen)), f1)


def calibrated(test: Evidence, validation: Evidence | None, k: int) -> Calibration | None:
    """Return GZSL without and with the offset that the validation split chooses; None where either cannot tell.

    `k` is the first K of the protocol.
    """
    size = test.pools["unseen"].classes.shape[1] + test.pools["seen"].classes.shape[1]
    if validation is None or not _can_balance(test) or k > size:
        return None
    offset = choose_offset(validation, k)
    if offset is None:
        return None
    return Calibration(k, offset, plain=balance(test, k, 0.0), shifted=balance(test, k, offset))


def _can_balance(evidence: Evidence) -> bool:
    truth = evidence.truth
    return all(truth.positives_of_images(part).any() for part in (truth.seen, ~truth.seen))
