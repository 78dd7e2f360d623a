"""Runs -> figure 7: whether probabilities are what they say, before and after calibration. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...common.errors import C3Error
from ...train.run_folder import PROBABILITIES, Bins, Reliability, Run, evaluate_command, read_metrics
from .summary import best_on_validation

SPLITS = ("val", "test")
BIN_COLUMNS = ("split", "classes", "map", "bin", "labels", "probability", "positive")
ERROR_COLUMNS = ("run", "split", "classes", "raw scores", "probabilities", "likely labels")
Lines = list[Sequence[object]]


@dataclass(frozen=True)
class Diagram:
    """The reliability of one run by split and kind of classes, and the calibration errors of all runs."""

    run: Run
    panels: Mapping[str, Mapping[str, Reliability]]
    runs: Sequence[Run]

    def tables(self) -> dict[str, tuple[Sequence[str], Lines]]:
        """Return what is drawn, and the errors of every run, as fractions: name ending -> columns and lines."""
        drawn: Lines = [
            [split, kind, name, number, *values]
            for split, found in self.panels.items()
            for kind, own in found.items()
            for name, bins in (("raw", own.before), ("probability", own.after))
            for number, values in enumerate(zip(bins.labels, bins.predicted, bins.positive, strict=True))
        ]
        errors: Lines = [
            [run.id, split, kind, own.before.error, own.after.error, own.after.likely_error]
            for run in self.runs
            for split, found in _by_split(run).items()
            for kind, own in found.items()
        ]
        return {"": (BIN_COLUMNS, drawn), "-errors": (ERROR_COLUMNS, errors)}


def diagram(runs: Sequence[Run]) -> Diagram:
    """Return figure 7 of the run that is best on val, among those whose probabilities were measured on a split.

    Raises C3Error without any.
    """
    calibrated = [run for run in runs if _by_split(run)]
    if not calibrated:
        if unmeasured := [run for run in runs if (run.path / PROBABILITIES).exists()]:
            raise C3Error(
                f"{unmeasured[0].path} has probabilities that were not measured; measure them: "
                f"{evaluate_command(unmeasured[0].path)}"
            )
        raise C3Error(
            f"no run has probabilities, which need at least 20 labelled val images: {evaluate_command(runs[0].path)}"
        )
    run = best_on_validation(calibrated)[0]
    return Diagram(run, _by_split(run), calibrated)


def occupied(bins: Bins, least: int) -> np.ndarray:
    """Return (2, bins) mean probability and share of positives of the bins with `least` labels or more."""
    return np.array([bins.predicted, bins.positive])[:, np.array(bins.labels) >= least]


def _by_split(run: Run) -> dict[str, Mapping[str, Reliability]]:
    measured = {split: run.metrics if split == "test" else read_metrics(run.path, split) for split in SPLITS}
    return {split: found.reliability for split, found in measured.items() if found and found.reliability}
