"""FRONT DOOR of the report: the paper's tables from every run below a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from ...common.errors import C3Error, unknown_name
from ...train.run_folder import METRICS, RECORD, Run, list_runs, report_command
from ..run import evaluate
from .block import Shown
from .render import Table, render, require_format
from .tables import build, protocols_in, require_table
from .text import WIDTH

LOG = logging.getLogger(__name__)


def report(
    tables: Sequence[int] = (1, 2, 3, 4, 5),
    runs_root: str | Path = "runs",
    format: str = "text",
    shown: Shown = Shown(),
    width: int = WIDTH,
) -> str:
    """Return tables of the paper, from every run below `runs_root`, as one text.

    `format` is text (of `width` columns), markdown, csv, latex or json. Needs no torch, unless a finished run that
    belongs in a table was never evaluated: that is done first, and a run that cannot be evaluated is named in the
    notes. Raises C3Error for an unknown table, format or method, and where there is nothing to show.
    """
    require_format(format)
    return render(report_tables(tables, runs_root, shown), format, width)


def report_tables(tables: Sequence[int], runs_root: str | Path, shown: Shown = Shown()) -> list[Table]:
    """Return the tables before they are rendered: one for every data set with runs, its protocols and its splits.

    A table of which no run is part is left out, unless the paper's values are asked for.
    """
    for number in tables:
        require_table(number)
    runs, problems = measured_runs(runs_root, tables)
    if not runs and not shown.published:
        raise C3Error(f"{_no_run(runs_root)}; the paper's values alone: c3 report --published")
    methods = dict.fromkeys(run.method for run in runs)
    if shown.against and shown.against not in methods:
        raise unknown_name(f"method of --against in {runs_root}", shown.against, methods)
    found = [table for number in tables for table in build(number, runs, problems, shown)]
    if not found:
        of_folds = all(run.record.of_fold for run in runs)
        shows = report_command(Path(runs_root))
        others = "no table shows runs of folds" if of_folds else f"the tables that have runs: {shows}"
        raise C3Error(
            f"none of the {len(runs)} runs in {runs_root} is part of table {', '.join(map(str, tables))}; {others}; "
            "the paper's values: add --published"
        )
    return found


def _no_run(root: str | Path) -> str:
    if not Path(root).is_dir():
        return (
            f"the folder of runs {root} does not exist; say where they are with --runs, or train: c3 train --cache "
            "features.zarr"
        )
    if (Path(root) / RECORD).exists():
        holder = Path(root).absolute().parent
        return f"{root} is a run, and --runs takes the folder that holds it: {report_command(holder)}"
    return f"{root} holds no run; train one with: c3 train --cache features.zarr --runs {quote(str(root))}"


def measured_runs(runs_root: str | Path, tables: Sequence[int]) -> tuple[list[Run], dict[str, str]]:
    """Return every run below a folder, oldest first, evaluated where a table needs it, and why some could not be.

    Runs of folds are in no table.
    """
    runs, problems = [], {}
    for run in list_runs(runs_root):
        wanted = not run.record.of_fold and any(protocols_in(number, run.dataset) for number in tables)
        if wanted and run.finished and run.metrics is None:
            LOG.warning("%s has no %s of this version yet: evaluating it first", run.path, METRICS)
            try:
                run = evaluate(run.path)
            except C3Error as error:
                problems[run.id] = f"evaluation failed: {error}"
        runs.append(run)
    return runs, problems
