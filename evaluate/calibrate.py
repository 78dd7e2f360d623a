"""Calibrated GZSL: seen classes are held back by an offset that runs of folds choose on their pretend-unseen classes.

No label of an unseen class chooses it, on any split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from shlex import quote
from statistics import mean

import numpy as np

from ..train.run_folder import FOLDS, Balance, Calibration, Metrics, Run, Setting, list_runs, read_metrics
from .evidence import Evidence, merge
from .measure import harmonic

OFFSETS = 61  # candidates: quantiles of the lead of an image's best seen class over its best unseen one
VARIED = ("seed", "folds", "fold", "held_images")  # the settings in which the folds of a run may differ from it

Division = tuple[int, float]  # number of folds, share of the images of train that each holds back


@dataclass(frozen=True)
class FoldOffset:
    """The mean over runs of the offset that each chose on the classes it held back, and their number of folds."""

    offset: float
    folds: int


def fold_offsets(run: Run, k: Mapping[str, int]) -> dict[str, FoldOffset]:
    """Return protocol -> offset, from the runs of folds beside a run with its method, store and other settings.

    `k` is the first K by protocol. Where there are several divisions, that into most folds counts, then the one that
    holds back most images; a protocol is absent unless every fold was trained and measured on val under it.
    """
    found: dict[Division, dict[str, dict[int, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for fold in runs_of_folds(run):
        if metrics := read_metrics(fold.path, "val"):
            for name, offset in _offsets(metrics, k).items():
                found[division(fold)][name][int(fold.record.number("fold"))].append(offset)
    return {
        name: FoldOffset(mean(offset for offsets in by_fold.values() for offset in offsets), folds)
        for folds, held in sorted(found)
        for name, by_fold in found[folds, held].items()
        if len(by_fold) == folds
    }


def division(fold: Run) -> Division:
    """Return the number of folds that the run of a fold belongs to, and the share of images that it holds back."""
    held = fold.record.settings.get("held_images", 0)
    return int(fold.record.number("folds")), float(held)


def runs_of_folds(run: Run) -> Iterator[Run]:
    """Yield the finished runs of folds beside a run, with its method, store and other settings."""
    for fold in list_runs(run.path.parent / FOLDS):
        if fold.finished and _family(fold) == _family(run):
            yield fold


def fold_command(run: Run) -> str:
    """Return the command that trains and measures the runs of folds of a run, with its store, method and settings."""
    return run.on_store("sweep --select-only", f"--runs {quote(str(run.path.parent))}")


def _family(run: Run) -> tuple[str, str, dict[str, Setting]]:
    settings = {name: value for name, value in run.record.settings.items() if name not in VARIED}
    return run.method, run.record.features.digest, settings


def _offsets(metrics: Metrics, k: Mapping[str, int]) -> dict[str, float]:
    calibrated = {name: results.calibrated for name, results in metrics.protocols.items()}
    return {name: part.offset for name, part in calibrated.items() if part and part.k == k.get(name)}


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


def calibrated(evidence: Evidence, chosen: FoldOffset | None, k: int) -> Calibration | None:
    """Return GZSL without and with an offset; None without one, and where a split cannot tell seen from unseen.

    `k` is the first K of the protocol.
    """
    size = evidence.pools["unseen"].classes.shape[1] + evidence.pools["seen"].classes.shape[1]
    if chosen is None or not _can_balance(evidence) or k > size:
        return None
    plain, shifted = (balance(evidence, k, offset) for offset in (0.0, chosen.offset))
    return Calibration(k, chosen.offset, plain, shifted, chosen.folds)


def of_fold(evidence: Evidence, k: int, folds: int) -> Calibration | None:
    """Return the calibration that the run of a fold chooses for itself, on the classes that it held back."""
    offset = choose_offset(evidence, k)
    return None if offset is None else calibrated(evidence, FoldOffset(offset, folds), k)


def _can_balance(evidence: Evidence) -> bool:
    truth = evidence.truth
    return all(truth.positives_of_images(part).any() for part in (truth.seen, ~truth.seen))
