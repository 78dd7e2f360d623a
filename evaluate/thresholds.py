"""From scores to yes or no: for every class the threshold that is best on the validation split. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..common.errors import C3Error
from ..common.files import write_text
from ..train.run_folder import THRESHOLDS, Run
from .evidence import Evidence

COLUMNS = ("class", "seen", "positives", "threshold", "F1", "source")
CHOSEN, MEDIAN = "val", "median"  # where a threshold comes from


@dataclass(frozen=True)
class Thresholds:
    """A score of at least `of[name]` says yes; a class that is not in it has the threshold `other`."""

    of: dict[str, float]
    other: float

    def take(self, names: Sequence[str]) -> np.ndarray:
        """(names,) float64: the threshold of every name."""
        return np.array([self.of.get(name, self.other) for name in names])


def best_threshold(positive: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The threshold that maximises F1 of `scores >= threshold`, and that F1, a fraction; NaN without a positive.

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


def write_thresholds(run: Run, evidence: Evidence) -> None:
    """Write thresholds.csv: a line a class, chosen on the images of `evidence`, the validation split.

    Seen classes with a positive there have their own threshold, all others the median of these: labels of unseen
    classes choose nothing. Nothing is written where no seen class has a positive.
    """
    truth = evidence.truth
    every = np.ones(len(truth), bool)
    positives = truth.positives(every)
    own = truth.seen & (positives > 0)
    if not own.any():
        return
    found = {c: best_threshold(*evidence.ranking(c, every, truth.absent)[:2]) for c in np.flatnonzero(own).tolist()}
    median = float(np.median([threshold for threshold, _ in found.values()]))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for c, name in enumerate(truth.names):
        chosen = [repr(found[c][0]), f"{found[c][1]:.4f}", CHOSEN] if c in found else [repr(median), "", MEDIAN]
        writer.writerow([name, int(truth.seen[c]), int(positives[c]), *chosen])
    write_text(run.path / THRESHOLDS, table.getvalue())


def read_thresholds(run: Run) -> Thresholds:
    """The thresholds of a run. Raises C3Error where it has none, or the file is damaged."""
    path = run.path / THRESHOLDS
    if not path.exists():
        raise C3Error(
            f"{path} is missing: thresholds are chosen on the validation split by c3 evaluate --run {run.path}; where "
            "the store has no labelled val images, give a number"
        )
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        of = {line["class"]: float(line["threshold"]) for line in lines}
        chosen = [float(line["threshold"]) for line in lines if line["source"] == CHOSEN]
        if not chosen or not np.isfinite(list(of.values())).all():
            raise ValueError("no finite thresholds")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise C3Error(f"{path} is damaged ({error}); write it again: c3 evaluate --run {run.path}") from error
    return Thresholds(of, float(np.median(chosen)))
