"""The runs of a sweep: measured on test and on val, and summed up by what chooses among them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import C3Error
from ..train.run_folder import Metrics, Run, read_metrics, report_command
from .calibrate import fold_offsets
from .names import NOT_FOR_CHOOSING
from .protocol import protocols_for
from .run import EvaluateOptions, evaluate

LOG = logging.getLogger(__name__)
FIGURE_4 = {"groups", "lambda_reg"}  # the settings of its curves
TASKS = ("seen", "zsl", "gzsl")  # in the order of the summary


def evaluate_sweep(run: Run) -> Run:
    """Measure a run of a sweep on test and, for the choice of settings, on val, where it is not measured yet.

    A run of a fold is measured on val alone.
    """
    if run.record.of_fold:
        if read_metrics(run.path, "val") is None:
            evaluate(run.path, "val", device=run.record.device, options=EvaluateOptions(resamples=0))
        return run
    if run.metrics is None or _lacks_offset_of_folds(run, run.metrics):
        run = evaluate(run.path, device=run.record.device)
    if "val" in run.record.features.splits and read_metrics(run.path, "val") is None:
        try:
            evaluate(run.path, "val", device=run.record.device)
        except C3Error as error:
            LOG.warning("%s is not measured on val: %s", run.path, error)
    return run


def _lacks_offset_of_folds(run: Run, metrics: Metrics) -> bool:
    """Return whether the folds beside a run choose another offset than the one it was measured with, or a first one."""
    found = fold_offsets(run, {protocol.name: protocol.ks[0] for protocol in protocols_for(run.dataset)})
    measured = {name: results.calibrated for name, results in metrics.protocols.items()}
    return any(
        (part := measured[name]) is None or part.offset != chosen.offset
        for name, chosen in found.items()
        if name in measured
    )


def sweep_summary(runs: Sequence[Run], names: Sequence[str]) -> str:
    """Return a line for each run: the settings `names` that were varied, and mAP on val by task.

    The seen classes come first: they may choose settings. Labels of unseen classes may not.
    """
    lines = [[*names, *(f"val {task.upper()} mAP" for task in TASKS), "run"]]
    for run in runs:
        metrics = read_metrics(run.path, "val")
        found = [metrics.first.value(task, "mAP") if metrics else None for task in TASKS]
        shown = ["-" if value is None else f"{value:.2f}" for value in found]
        settings = {"method": run.method, **run.record.settings}
        lines.append([*(str(settings.get(name, "-")) for name in names), *shown, str(run.path)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    root = runs[0].path.parent if runs else Path("runs")
    told = f"Test metrics are in each run folder: {report_command(root)} prints them"
    if FIGURE_4 & set(names):
        told += f", and {report_command(root, '--figures 4')} draws them"
    of_folds = runs and all(run.record.of_fold for run in runs)
    notes = [] if of_folds else [f"val ZSL and GZSL mAP: {NOT_FOR_CHOOSING}.", f"{told}."]
    return "\n".join([*table, *notes])
