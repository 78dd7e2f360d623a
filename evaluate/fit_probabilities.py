"""Fit the maps from scores to probabilities on the seen classes of validation. No label of an unseen class is read."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from ..train.run_folder import (
    ClassMap,
    Kind,
    OtherMap,
    ProbabilityMaps,
    Reading,
    Reliability,
    Run,
    SharedMap,
    read_probabilities,
    write_probabilities,
)
from .calibrate import Division, division, runs_of_folds
from .evidence import Evidence
from .probabilities import Probabilities, log_odds
from .reliability import binned

LOG = logging.getLogger(__name__)
LEAST = 20  # images with a positive, and images with a negative label, that a fit needs
PARTS = 5  # of the images, of which each is left out once
PAIRS = 2_000_000  # labels that the shared map is fitted on; those of NUS-WIDE would be 10^7
SLOPE, INTERCEPT = 0.5, 2.0  # deviations of the priors of a class: log odds = (1 +- SLOPE) shared + (0 +- INTERCEPT)
STEP, ROUNDS, CLOSE = 2.0, 100, 1e-7  # of Newton's method: the largest step, most steps, and when it stops


@dataclass(frozen=True)
class Known:
    """Known labels, one after another: class number and image (n,) int, positive (n,) bool, scores (n,) float64."""

    group: np.ndarray
    image: np.ndarray
    positive: np.ndarray
    scores: np.ndarray

    def take(self, kept: np.ndarray) -> Known:
        """Return the labels of `kept` (n,) bool."""
        return Known(self.group[kept], self.image[kept], self.positive[kept], self.scores[kept])


def fit_probabilities(run: Run, evidence: Evidence, folds: int = 0) -> Reliability | None:
    """Fit the maps of a run on `evidence`, its validation split, and write probabilities.json.

    Platt's map or an isotonic one is shared by all classes: the one with the smaller calibration error on images that
    were left out. A seen class has a line upon it, drawn towards the shared map by priors: the fewer positives it has,
    the more. All other classes have the mean of the lines that runs of folds chose on the classes that they held back,
    or else the shared map. `folds` is the number of folds where the run is one of them: then its pretend-unseen classes
    choose such a line. Returns the reliability of seen classes on images left out; None, said in one line, where too
    few images have a known label.
    """
    truth = evidence.truth
    seen = np.flatnonzero(truth.seen)
    known = known_labels(evidence, seen, _some(len(truth), len(seen)))
    enough = [len(np.unique(known.image[known.positive == kind])) for kind in (True, False)]
    if min(enough) < LEAST or known.scores.min() == known.scores.max():
        LOG.info("%s: scores are not turned into probabilities: of seen classes, val has %d images with a positive and "
                 "%d with a negative label, and %d of each are needed", run.path, *enough, LEAST)  # fmt: skip
        return None
    held = {kind: _held_out(known, fit, len(seen)) for kind, fit in SHARED.items()}
    errors = {kind: binned(held[kind], known.positive).error for kind in SHARED}
    shared = min(SHARED, key=lambda kind: errors[kind])
    kept = SHARED[shared](known)
    whole = known_labels(evidence, seen, np.ones(len(truth), bool))
    positives = np.bincount(whole.group, whole.positive, len(seen)).astype(int).tolist()
    maps = ProbabilityMaps(
        images=len(np.unique(whole.image)),
        positives=sum(positives),
        errors=errors,
        reading=min(READINGS, key=lambda reading: _brier(READINGS[reading](known.scores), known.positive)),
        shared=kept,
        other=_of_held_back(evidence, kept, folds) if folds else _of_folds(run),
        classes=tuple(
            ClassMap(truth.names[c], count, *line)
            for c, count, line in zip(
                seen.tolist(), positives, class_lines(whole, kept, len(seen)).tolist(), strict=True
            )
        ),
    )
    write_probabilities(run.path, maps)
    before = Probabilities(maps).without(known.scores)
    return Reliability(binned(before, known.positive), binned(held[shared], known.positive))


def known_labels(evidence: Evidence, classes: np.ndarray, images: np.ndarray) -> Known:
    """Return the known labels of classes (n,) on the images (images,) bool, class by class."""
    found = [evidence.ranking(c, images, evidence.truth.absent) for c in classes.tolist()]
    positive, scores, image = (np.concatenate([np.zeros(0, kind), *part]) for kind, part in
                               zip((bool, np.float64, np.int64), zip(*found, strict=True), strict=True))  # fmt: skip
    group = np.repeat(np.arange(len(found)), [len(part[0]) for part in found])
    return Known(group, image, positive, scores)


def platt(known: Known) -> SharedMap:
    """Return the logistic regression of positive on score (Platt 1999): log odds are a line in the score."""
    from sklearn.linear_model import LogisticRegression

    low, high = float(known.scores.min()), float(known.scores.max())
    unit = (known.scores - low) / (high - low)
    line = LogisticRegression(C=1e6).fit(unit[:, None], known.positive)
    slope, intercept = max(float(line.coef_[0, 0]), 0.0), float(line.intercept_[0])
    return SharedMap("platt", (low, high), (intercept, intercept + slope))


def isotonic(known: Known) -> SharedMap:
    """Return the isotonic regression of positive on score (Zadrozny, Elkan 2002), kept off 0 and 1 as Platt's is."""
    from sklearn.isotonic import IsotonicRegression

    positives = int(known.positive.sum())
    low, high = 1 / (len(known.positive) - positives + 2), (positives + 1) / (positives + 2)
    found = IsotonicRegression(y_min=low, y_max=high).fit(known.scores, known.positive)
    scores, share = (tuple(part.tolist()) for part in (found.X_thresholds_, logit(found.y_thresholds_)))
    return SharedMap("isotonic", scores, share)


SHARED: dict[Kind, Callable[[Known], SharedMap]] = {"platt": platt, "isotonic": isotonic}
READINGS: dict[Reading, Callable[[np.ndarray], np.ndarray]] = {
    "logistic": expit, "clipped": lambda scores: np.clip(scores, 0.0, 1.0),
}  # fmt: skip


def class_lines(known: Known, shared: SharedMap, classes: int) -> np.ndarray:
    """Return (classes, 2) slope and intercept of the log odds of every class over those of the shared map.

    They maximise the likelihood of the labels times normal priors around (1, 0), by Newton's method for all classes at
    once, with slopes of at least 0. A class without a known label has (1, 0).
    """
    z, lines = log_odds(shared, known.scores), np.tile([1.0, 0.0], (classes, 1))

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(known.group, values, classes)

    for _ in range(ROUNDS):
        slope, intercept = lines.T
        p = expit(slope[known.group] * z + intercept[known.group])
        error, weight = p - known.positive, p * (1 - p)
        by_slope, by_intercept = summed(error * z) + (slope - 1) / SLOPE**2, summed(error) + intercept / INTERCEPT**2
        bent = summed(weight * z * z) + 1 / SLOPE**2
        crossed = np.where((slope == 0) & (by_slope > 0), 0.0, summed(weight * z))  # the slope stays at its bound
        flat = summed(weight) + 1 / INTERCEPT**2
        determinant = bent * flat - crossed**2
        step = np.stack([flat * by_slope - crossed * by_intercept, bent * by_intercept - crossed * by_slope], axis=1)
        step /= determinant[:, None]
        step /= np.maximum(np.abs(step).max(axis=1, keepdims=True) / STEP, 1)
        moved = np.column_stack([np.maximum(slope - step[:, 0], 0.0), intercept - step[:, 1]])
        lines, before = moved, lines
        if np.abs(lines - before).max(initial=0) < CLOSE:
            break
    return lines


def _held_out(known: Known, fit: Callable[[Known], SharedMap], classes: int) -> np.ndarray:
    """Return (n,) the probability of every label by maps that were fitted without its image."""
    images = np.unique(known.image)
    part = np.empty(images.max() + 1, np.int64)
    part[images] = np.random.default_rng(0).permutation(len(images)) % PARTS
    out = np.empty(len(known.image))
    for number in range(PARTS):
        left = part[known.image] == number
        others = known.take(~left)
        shared = fit(others)
        slope, intercept = class_lines(others, shared, classes)[known.group[left]].T
        out[left] = expit(slope * log_odds(shared, known.scores[left]) + intercept)
    return out


def _some(images: int, classes: int) -> np.ndarray:
    """Return (images,) bool: all images, or as many drawn ones as have about `PAIRS` labels."""
    kept = np.zeros(images, bool)
    kept[np.random.default_rng(0).permutation(images)[: max(PAIRS // max(classes, 1), 1000)]] = True
    return kept


def _brier(probability: np.ndarray, positive: np.ndarray) -> float:
    return float(np.square(probability - positive).mean())


def _of_held_back(evidence: Evidence, shared: SharedMap, folds: int) -> OtherMap:
    """Return the line of the classes that the run of a fold held back, taken together."""
    truth = evidence.truth
    known = known_labels(evidence, np.flatnonzero(~truth.seen), np.ones(len(truth), bool))
    together = Known(np.zeros_like(known.group), known.image, known.positive, known.scores)
    slope, intercept = class_lines(together, shared, 1)[0].tolist()
    return OtherMap(slope, intercept, folds)


def _of_folds(run: Run) -> OtherMap:
    """Return the mean of the lines of the folds of a run, those of the last division that is complete.

    Most folds are last, then most held images.
    """
    found: dict[Division, dict[int, list[OtherMap]]] = defaultdict(lambda: defaultdict(list))
    for fold in runs_of_folds(run):
        if (maps := read_probabilities(fold.path)) and maps.other.folds:
            found[division(fold)][int(fold.record.number("fold"))].append(maps.other)
    for (folds, _), by_fold in sorted(found.items(), reverse=True):
        if len(by_fold) == folds:
            lines = [line for of_fold in by_fold.values() for line in of_fold]
            slope, intercept = (
                float(np.mean(part)) for part in zip(*((x.slope, x.intercept) for x in lines), strict=True)
            )
            return OtherMap(slope, intercept, folds)
    return OtherMap()
