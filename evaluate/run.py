"""FRONT DOOR of evaluation: `evaluate` measures a run, `report` prints the tables of the paper."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import C3Error
from ..extract.cache import FeatureCache, Status
from ..train.runs import METRICS, PER_CLASS, Run, list_runs, open_run, write_json, write_text
from .protocol import measure, protocols_for, random_floor
from .render import render, require_format
from .score import scores
from .tables import build, protocols_in

LOG = logging.getLogger("c3")


def evaluate(run_path: str | Path, split: str = "test", cache: str | Path | None = None, device: str = "auto") -> Run:
    """Measure a finished run on one split of its feature store, under every protocol of the data set.

    `cache` says where the store is now, when it has moved since training. Writes metrics.json and per_class.csv into
    the run folder (metrics-SPLIT.json and per_class-SPLIT.csv for a split other than test) and returns the run with
    these metrics. Raises C3Error when the run is not finished, or its store is missing, another one or not complete, or
    has no usable row or no positive label in the split.
    """
    started = time.monotonic()
    run = open_run(run_path)
    if not run.finished:
        raise C3Error(f"{run.path} is not finished (status {run.record['status']}); finish it with c3 train first")
    store = _open_store(run, cache)
    scored = scores(run, store, split, device)
    classes = store.classes
    labels = store.labels(split).take(scored.rows).dense(len(classes), store.absent_label)
    if not (labels == 1).any():
        raise C3Error(f"{store.path}: none of {len(labels)} usable rows of {split} has a positive label to measure by")
    protocols = protocols_for(run.dataset)
    measured = [measure(protocol, labels, scored.values, classes.seen) for protocol in protocols]
    results = {
        protocol.name: {**result.tasks, "random": random_floor(protocol, labels, classes.seen)}
        for protocol, result in zip(protocols, measured, strict=True)
    }
    suffix = "" if split == "test" else f"-{split}"
    _write_per_class(_named(run.path / PER_CLASS, suffix), store, labels, measured[0].average_precision)
    metrics = {
        "split": split,
        "cache": store.digest,
        "device": scored.device,
        "seconds": round(time.monotonic() - started, 3),
        "rows": {"used": len(labels), "masked": _masked(store.status(split))},
        "protocols": results,
    }
    write_json(_named(run.path / METRICS, suffix), metrics)  # last: its presence says that the evaluation is whole
    return replace(run, metrics=metrics)


def summary(run: Run) -> str:
    """The metrics that `evaluate` has just put into a run, a line for every protocol and task, random scores beside."""
    metrics: dict[str, Any] = run.metrics or {}
    lines = [f"{run.path} on {metrics['split']}, {metrics['rows']['used']:,} rows"]
    for protocol, tasks in metrics["protocols"].items():
        for task in ("zsl", "gzsl"):
            if tasks[task] is None:
                continue
            shown = [
                f"{name} {value:.2f}"
                for name, value in tasks[task].items()
                if name == "mAP" or (name.startswith("F1") and value is not None)
            ]
            floor = tasks["random"][task]["mAP"]
            lines.append(f"  {protocol} {task.upper():<4} {', '.join(shown)}; random scores: mAP {floor:.2f}")
    return "\n".join(lines)


def report(tables: Sequence[int] = (1, 2), runs_root: str | Path = "runs", format: str = "text") -> str:
    """The asked tables of the paper, from every run below `runs_root`, as one text.

    `format` is text, markdown, csv or latex. Needs no torch, unless a finished run that belongs in a table was never
    evaluated: that is done first, and a run that cannot be evaluated is named in the notes. Raises C3Error for an
    unknown table or format.
    """
    require_format(format)
    runs, problems = [], {}
    for run in list_runs(runs_root):
        wanted = any(protocols_in(number, run.dataset) for number in tables)
        if wanted and run.finished and run.metrics is None:
            LOG.warning("%s has no %s yet: evaluating it first", run.path, METRICS)
            try:
                run = evaluate(run.path)
            except C3Error as error:
                problems[run.id] = f"evaluation failed: {error}"
        runs.append(run)
    return render([table for number in tables for table in build(number, runs, problems)], format)


def _open_store(run: Run, moved: str | Path | None) -> FeatureCache:
    path = Path(moved or run.record["cache"]["path"])
    hint = f"c3 evaluate --run {run.path} --cache PATH"
    if not path.exists():
        raise C3Error(f"{run.path}: its feature store {path} is missing; say where it is now: {hint}")
    store = FeatureCache.open(path)
    trained = run.record["cache"]["digest"]
    if store.digest != trained:
        raise C3Error(
            f"{path} is not the feature store of {run.path}: expected digest {trained}, found {store.digest}; "
            f"say where the right one is: {hint}"
        )
    store.require_complete()
    return store


def _masked(status: np.ndarray) -> dict[str, int]:
    counts = {kind.name.lower(): int((status == kind).sum()) for kind in Status if kind != Status.OK}
    return {kind: count for kind, count in counts.items() if count}


def _named(path: Path, suffix: str) -> Path:
    return path.with_stem(path.stem + suffix)


def _write_per_class(path: Path, store: FeatureCache, labels: np.ndarray, precision: np.ndarray) -> None:
    def rows() -> Iterable[list[Any]]:
        for index, (name, seen) in enumerate(zip(store.classes.names, store.classes.seen, strict=True)):
            counts = [int((labels[:, index] == value).sum()) for value in (1, -1, 0)]
            ap = "" if np.isnan(precision[index]) else f"{100 * precision[index]:.4f}"
            yield [name, int(seen), *counts, ap]

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["class", "seen", "positives", "negatives", "unknown", "AP"])
    writer.writerows(rows())
    write_text(path, table.getvalue())
