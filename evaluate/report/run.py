"""FRONT DOOR of the report: the paper's tables from every run below a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from ...common.errors import C3Error
from ...train.run_folder import METRICS, Run, list_runs
from ..run import evaluate
from .render import Table, render, require_format
from .tables import build, protocols_in

LOG = logging.getLogger(__name__)


def report(tables: Sequence[int] = (1, 2, 3, 4, 5), runs_root: str | Path = "runs", format: str = "text") -> str:
    """Return tables of the paper, from every run below `runs_root`, as one text.

    `format` is text, markdown, csv, latex or json. Needs no torch, unless a finished run that belongs in a table was
    never evaluated: that is done first, and a run that cannot be evaluated is named in the notes. Raises C3Error for an
    unknown table or format.
    """
    require_format(format)
    return render(report_tables(tables, runs_root), format)


def report_tables(tables: Sequence[int], runs_root: str | Path) -> list[Table]:
    """Return the tables before they are rendered: one for every data set with runs and every protocol of it."""
    runs, problems = measured_runs(runs_root, tables)
    return [table for number in tables for table in build(number, runs, problems)]


def measured_runs(runs_root: str | Path, tables: Sequence[int]) -> tuple[list[Run], dict[str, str]]:
    """Return every run below a folder, oldest first, evaluated where a table needs it, and why some could not be."""
    runs, problems = [], {}
    for run in list_runs(runs_root):
        wanted = any(protocols_in(number, run.dataset) for number in tables)
        if wanted and run.finished and run.metrics is None:
            LOG.warning("%s has no %s of this version yet: evaluating it first", run.path, METRICS)
            try:
                run = evaluate(run.path)
            except C3Error as error:
                problems[run.id] = f"evaluation failed: {error}"
        runs.append(run)
    return runs, problems
