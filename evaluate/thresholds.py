"""From scores to yes or no: for every class the threshold that is best on the validation split. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..common.errors import C3Error
from ..common.unicode_forms import clean_name
from ..train.run_folder import THRESHOLDS, ClassThreshold, Run, evaluate_command, read_thresholds, write_thresholds
from .evidence import Evidence

SHRINK = 5  # positives at which a threshold is half its own and half the shared one
CHOSEN, MEDIAN = "val", "median"  # where a threshold comes from


@dataclass(frozen=True)
class Thresholds:
    """A score of at least `of[name]` predicts the class; a class that has no entry has the threshold `other`."""

    of: dict[str, float]
    other: float

    def take(self, names: Sequence[str]) -> np.ndarray:
        """Return (names,) float64: the threshold of every name."""
        of = {clean_name(name): threshold for name, threshold in self.of.items()}
        return np.array([of.get(clean_name(name), self.other) for name in names])


def best_threshold(positive: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Return the threshold that maximises F1 of `scores >= threshold`, and that F1, a fraction; NaN without a positive.

    positive (n,) bool, scores (n,) float, known labels only. F1 = 2 TP / (predicted + positives) can only be best at
    the score of a positive. Of equally good thresholds the highest counts: it says yes least often.
    """
    if not positive.any():
        return float("nan"), float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are accepted together
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + hits[-1])
    best = int(np.argmax(np.where(last, f1, -1.0)))  # the first of equals
    return float(ranked[best]), float(f1[best])


def f1_at(threshold: float, positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the F1, a fraction, of `scores >= threshold`: positive (n,) bool with at least one True, scores (n,)."""
    predicted = scores >= threshold
    return float(2 * (predicted & positive).sum() / (predicted.sum() + positive.sum()))


def choose_thresholds(run: Run, evidence: Evidence) -> None:
    """Write thresholds.csv: a line a class, chosen on the images of `evidence`, the validation split.

    A seen class with n positives there has n / (n + `SHRINK`) of the threshold that is best for it and the rest of the
    shared one, because the best of few positives is an accident. The shared one, which all other classes have, is the
    median of the best ones, each counted n times: labels of unseen classes choose nothing. Nothing is written where no
    seen class has a positive.
    """
    truth = evidence.truth
    every = np.ones(len(truth), bool)
    positives = truth.positives(every)
    own = truth.seen & (positives > 0)
    if not own.any():
        return
    found = {c: best_threshold(*evidence.ranking(c, every, truth.absent)[:2]) for c in np.flatnonzero(own).tolist()}
    shared = float(np.median(np.repeat([threshold for threshold, _ in found.values()], positives[list(found)])))

    def line(c: int, name: str) -> ClassThreshold:
        if c not in found:
            return ClassThreshold(name, bool(truth.seen[c]), int(positives[c]), shared, None, MEDIAN)
        share = positives[c] / (positives[c] + SHRINK)
        threshold = float(share * found[c][0] + (1 - share) * shared)
        f1 = f1_at(threshold, *evidence.ranking(c, every, truth.absent)[:2])
        return ClassThreshold(name, True, int(positives[c]), threshold, f1, CHOSEN)

    write_thresholds(run.path, [line(c, name) for c, name in enumerate(truth.names)])


def thresholds_of(run: Run) -> Thresholds:
    """Return the thresholds of a run. Raises C3Error where it has none, or the file is damaged."""
    lines = read_thresholds(run.path)
    of = {line.name: line.threshold for line in lines}
    chosen = [line.threshold for line in lines if line.source == CHOSEN]
    if not chosen or not np.isfinite(list(of.values())).all():
        raise C3Error(
            f"{run.path / THRESHOLDS} is damaged (no finite thresholds); write it again: {evaluate_command(run.path)}"
        )
    shared = next((line.threshold for line in lines if line.source == MEDIAN), float(np.median(chosen)))
    return Thresholds(of, shared)
