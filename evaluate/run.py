"""FRONT DOOR of evaluation: measure a run, compare two, print the paper's tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import C3Error
from ..extract.cache import FeatureCache, Status
from ..train.runs import METRICS, Run, list_runs, open_run, read_metrics
from .bootstrap import Resampling
from .compare import differences, table_of
from .evidence import Evidence
from .metrics import Ties, require_ties
from .protocol import Protocol, protocols_for
from .record import Evaluation, summary, write_evaluation
from .render import Table, render, require_format
from .score import open_store, score
from .tables import build, protocols_in

LOG = logging.getLogger("c3")
__all__ = [
    "EvaluateOptions", "Resampling", "compare", "evaluate", "evaluate_sweep", "measured_runs", "report",
    "report_tables", "summary", "sweep_summary",
]  # fmt: skip


@dataclass(frozen=True)
class EvaluateOptions:
    """How `c3 evaluate` measures: named protocols (those of the data set when empty), ties, bootstrap resamples."""

    protocols: tuple[str, ...] = ()
    ties: Ties = "grouped"
    resamples: int = 1000


def evaluate(
    run_path: str | Path,
    split: str = "test",
    cache: str | Path | None = None,
    device: str = "auto",
    options: EvaluateOptions = EvaluateOptions(),
) -> Run:
    """Measure a finished run on one split of its feature store, or of another store with features of the same kind.

    `cache` is where the store is now, or the other store. Writes metrics.json and per_class.csv into the run folder
    (with a suffix for another split or store), and thresholds.csv where the run's own store has a labelled validation
    split; returns the run with these metrics. Raises C3Error, before anything is written, when the run is not finished,
    or its store is missing, not complete or of another kind, or has no usable row or no positive label in the split.
    """
    require_ties(options.ties)
    started = time.monotonic()
    run = open_run(run_path)
    run.require_finished()
    store = open_store(run, cache)
    _warn_of_trained_classes(run, store)
    protocols = protocols_for(store.config["dataset"], options.protocols)
    evaluation = Evaluation(
        store=store,
        split=split,
        scored=score(run, store, split, protocols, device),
        validation=_validation(run, store, split, protocols, device),
        protocols=protocols,
        ties=options.ties,
        resampling=Resampling(options.resamples),
    )
    return replace(run, metrics=write_evaluation(run, evaluation, time.monotonic() - started))


def evaluate_sweep(run: Run) -> Run:
    """Measure a run of a sweep on test and, to choose settings by, on val; what is measured already stays."""
    if run.metrics is None:
        run = evaluate(run.path, device=run.record["device"])
    if "val" in run.record["cache"]["splits"] and read_metrics(run.path, "val") is None:
        try:
            evaluate(run.path, "val", device=run.record["device"])
        except C3Error as error:
            LOG.warning("%s is not measured on val: %s", run.path, error)
    return run


def sweep_summary(runs: Sequence[Run], names: Sequence[str]) -> str:
    """A line a run: the settings `names` that were varied, and mAP on val, by which settings are chosen."""
    lines = [[*names, "val ZSL mAP", "val GZSL mAP", "run"]]
    for run in runs:
        metrics = read_metrics(run.path, "val")
        tasks = next(iter(metrics["protocols"].values()))["tasks"] if metrics else {}
        shown = [f"{values['mAP']:.2f}" if (values := tasks.get(task)) else "-" for task in ("zsl", "gzsl")]
        lines.append([*(str(run.record["config"].get(name, "-")) for name in names), *shown, str(run.path)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*table, "Test metrics are in each run folder: c3 report --figures 4 draws them."])


def compare(
    first: str | Path,
    second: str | Path,
    split: str = "test",
    cache: str | Path | None = None,
    device: str = "auto",
    resampling: Resampling = Resampling(),
) -> str:
    """The difference of two finished runs on the same images, with paired bootstrap intervals, as text.

    Both are scored again, each on its own store or both on `cache`. Raises C3Error when their images, labels or classes
    differ, and for what `evaluate` refuses.
    """
    runs = open_run(first), open_run(second)
    for run in runs:
        run.require_finished()
    if runs[0].dataset != runs[1].dataset and cache is None:
        raise C3Error(
            f"{runs[0].path} is a run on {runs[0].dataset}, {runs[1].path} on {runs[1].dataset}; compare runs of one "
            "data set, or score both on one store with --cache"
        )
    stores = [open_store(run, cache) for run in runs]
    protocols = protocols_for(stores[0].config["dataset"])
    evidence = [score(run, store, split, protocols, device).evidence for run, store in zip(runs, stores, strict=True)]
    found = [item for protocol in protocols for item in differences(*evidence, protocol, resampling)]
    return table_of(runs, found, resampling)


def report(tables: Sequence[int] = (1, 2, 3, 4, 5), runs_root: str | Path = "runs", format: str = "text") -> str:
    """The asked tables of the paper, from every run below `runs_root`, as one text.

    `format` is text, markdown, csv, latex or json. Needs no torch, unless a finished run that belongs in a table was
    never evaluated: that is done first, and a run that cannot be evaluated is named in the notes. Raises C3Error for an
    unknown table or format.
    """
    require_format(format)
    return render(report_tables(tables, runs_root), format)


def report_tables(tables: Sequence[int], runs_root: str | Path) -> list[Table]:
    """The asked tables before they are rendered: one for every data set with runs and every protocol of it."""
    runs, problems = measured_runs(runs_root, tables)
    return [table for number in tables for table in build(number, runs, problems)]


def measured_runs(runs_root: str | Path, tables: Sequence[int]) -> tuple[list[Run], dict[str, str]]:
    """Every run below a folder, oldest first, evaluated where a table asks for it; and why some could not be, by id."""
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


def _warn_of_trained_classes(run: Run, store: FeatureCache) -> None:
    """Another store may call a class unseen that the run was trained on: its score is then no zero-shot score."""
    own = run.record["cache"]["path"]
    if store.digest == run.record["cache"]["digest"]:
        return
    try:
        classes = FeatureCache.open(own).classes
    except C3Error:
        LOG.warning(
            "%s cannot be opened: whether %s was trained on classes that %s calls unseen cannot be told",
            own,
            run.id,
            store.location,
        )
        return
    trained = {name for name, seen in zip(classes.names, classes.seen, strict=True) if seen}
    known = [
        name for name, seen in zip(store.classes.names, store.classes.seen, strict=True) if not seen and name in trained
    ]
    if known:
        LOG.warning(
            "%s was trained on %d classes that %s calls unseen: %s",
            run.id,
            len(known),
            store.location,
            ", ".join(known),
        )


def _validation(
    run: Run, store: FeatureCache, split: str, protocols: Sequence[Protocol], device: str
) -> Evidence | None:
    """The evidence by which thresholds and the offset of calibrated GZSL are chosen, when test is measured.

    None where the validation split has no usable image with a label of a seen class.
    """
    if split != "test" or "val" not in store.splits:
        return None
    labels = store.labels("val").take(np.flatnonzero(store.status("val") == Status.OK))
    if not store.classes.seen[labels.indices[labels.value > 0]].any():
        return None
    return score(run, store, "val", protocols, device).evidence
