"""Scores of a run -> probabilities, by the maps that `c3 evaluate` fitted on validation. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import expit

from ..common.errors import C3Error
from ..common.unicode_forms import clean_name
from ..train.run_folder import (
    CLASSES,
    PROBABILITIES,
    ProbabilityMaps,
    Run,
    SharedMap,
    evaluate_command,
    read_classes,
    read_probabilities,
)
from .calibrate import fold_command


@dataclass(frozen=True)
class Probabilities:
    """Turn scores into probabilities: `of(["sky", "tram"], scores)`.

    p_c(s) = 1 / (1 + exp(-(a_c f(s) + b_c))). f is the map that all classes share; a_c and b_c are those of a class
    that was seen in training, and one pair stands for every other class and word. p never falls where s rises.
    """

    maps: ProbabilityMaps

    def of(self, names: Sequence[str], scores: np.ndarray) -> np.ndarray:
        """Return probabilities (..., names) float64 of scores (..., names)."""
        other = (self.maps.other.slope, self.maps.other.intercept)
        lines = np.array([self._own.get(clean_name(name), other) for name in names]).reshape(len(names), 2)
        return np.asarray(expit(lines[:, 0] * log_odds(self.maps.shared, scores) + lines[:, 1]))

    @cached_property
    def _own(self) -> dict[str, tuple[float, float]]:
        return {clean_name(one.name): (one.slope, one.intercept) for one in self.maps.classes}

    def lacks_folds(self, kinds: Sequence[str]) -> bool:
        """Return whether words of these kinds (seen, unseen, new) need runs of folds that the run does not have."""
        return not self.maps.other.folds and any(kind != "seen" for kind in kinds)

    def without(self, scores: np.ndarray) -> np.ndarray:
        """Return scores (any shape) read as probabilities without a map, float64: what calibration starts from."""
        return np.asarray(expit(scores) if self.maps.reading == "logistic" else np.clip(scores, 0.0, 1.0), float)


def probabilities_of(run: Run) -> Probabilities | None:
    """Return the probabilities of a run, or None where it has none: an older run, or a small validation split.

    Raises C3Error where their file is damaged, or has other classes than the seen ones of the run.
    """
    maps = read_probabilities(run.path)
    if maps is None:
        return None
    if not (run.path / CLASSES).exists():  # of an older c3, whose runs can be measured but tag nothing
        return Probabilities(maps)
    classes = read_classes(run)
    seen = {clean_name(name) for name, trained in zip(classes.names, classes.seen, strict=True) if trained}
    found = {clean_name(one.name) for one in maps.classes}
    if wrong := sorted(seen ^ found):
        raise C3Error(
            f"{run.path / PROBABILITIES} does not belong to {run.id}: expected its {len(seen)} seen classes, found "
            f"{len(found)}, {'without' if wrong[0] in seen else 'with'} {wrong[0]!r}; write it again: "
            f"{evaluate_command(run.path)}"
        )
    return Probabilities(maps)


def lack_of(run: Run, probabilities: Probabilities | None, kinds: Sequence[str], threshold: float | None = None) -> str:
    """Return what a user of probabilities has to know, in one line, or nothing.

    `kinds` (seen, unseen, new) are those of the words that are asked for; `threshold` is the number that labels have to
    reach, if one was given.
    """
    if probabilities is None:
        return (
            f"{run.path} has no calibrated probabilities: what is shown are scores, which have no fixed scale; c3 "
            f"evaluate --run {run.path} writes them where the store has enough labelled val images"
        ) + ("" if threshold is None else f"; the threshold {threshold} is taken as a score")
    if not probabilities.lacks_folds(kinds):
        return ""
    return (
        f"{run.path} has no runs of folds: words that it was not trained on have the probabilities of trained ones, "
        f"which can be far off for them; train folds of it, then evaluate it again: {fold_command(run)}; c3 "
        f"evaluate --run {run.path}"
    )


def log_odds(shared: SharedMap, scores: np.ndarray) -> np.ndarray:
    """Return f(s), float64, of scores of any shape."""
    at, value = np.array(shared.scores), np.array(shared.logits)
    if shared.kind == "isotonic":
        return np.asarray(np.interp(scores, at, value))
    slope = (value[1] - value[0]) / (at[1] - at[0])
    return np.asarray(value[0] + slope * (np.asarray(scores, float) - at[0]))
