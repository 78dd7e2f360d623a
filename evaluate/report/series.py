"""Runs -> the numbers behind figures 4 and 5 and the training curves. No torch, no matplotlib."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from ...common.errors import C3Error
from ...train.run_folder import LogLine, Run, read_log
from .block import TITLES
from .groups import Group, group_runs

VARIED = {"groups": 7, "lambda_reg": 0.4}  # the settings of figure 4, and what the paper keeps them at
TASKS = {"zsl": "ZSL", "gzsl": "GZSL"}


@dataclass(frozen=True)
class Curve:
    """mAP (percent) over one setting, the other kept: x, mean over seeds and deviation (0 for one seed), by task."""

    setting: str
    kept: dict[str, float]
    x: tuple[float, ...]
    values: dict[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True)
class Cost:
    """What one method reaches (mAP in percent by task) and costs: milliseconds and GFLOPs to score an image."""

    title: str
    values: dict[str, float]
    ms: float
    gflops: float
    device: str


@dataclass(frozen=True)
class Training:
    """The log of one run, under the title of its method."""

    run: str
    title: str
    lines: tuple[LogLine, ...]


def measured(runs: Sequence[Run]) -> list[Run]:
    """Return the finished runs that were evaluated."""
    return [run for run in runs if run.finished and run.metrics is not None]


def curves(runs: Sequence[Run]) -> tuple[Curve, ...]:
    """Return figure 4: mAP over g and over lambda of the largest family of C3 runs alike but for the seed.

    The other setting is kept where the curve has most points (the paper's value among equals). Raises C3Error when no
    setting takes two values.
    """
    families: dict[str, list[Run]] = defaultdict(list)
    for run in measured(runs):
        settings = run.record.settings
        if VARIED.keys() <= settings.keys():
            rest = {name: value for name, value in settings.items() if name not in (*VARIED, "seed")}
            families[json.dumps([run.method, run.record.features.digest, rest], sort_keys=True)].append(run)
    largest = max(families.values(), key=_points, default=[])
    found = tuple(curve for setting in VARIED if (curve := _curve(setting, largest)))
    if not found:
        store, root = (runs[0].record.features.path, runs[0].path.parent) if runs else ("features.zarr", Path("runs"))
        raise C3Error(
            f"it needs C3 runs that differ in g or lambda only; make them with: c3 sweep --cache {shlex.quote(store)} "
            f"--method c3 --runs {shlex.quote(str(root))} --groups 1 3 5 7 9 --lambda 0 0.2 0.4 0.6 0.8"
        )
    return found


def leading(runs: Sequence[Run]) -> dict[str, Group]:
    """Return the configuration that stands for each method: most seeds, then most epochs, then the oldest.

    Never the best one, which would be a choice by test scores. Runs on drawn splits stand for a method only where no
    run is on a store's own split.
    """
    groups, _ = group_runs(measured(runs))
    groups = [group for group in groups if not group.drawn] or groups
    chosen: dict[str, Group] = {}
    for group in groups:
        if group.method not in chosen or _size(group) > _size(chosen[group.method]):
            chosen[group.method] = group
    return chosen


def costs(runs: Sequence[Run]) -> tuple[Cost, ...]:
    """Return figure 5: every method by its `leading` configuration, cheapest first."""
    found = []
    for group in leading(runs).values():
        metrics = [run.metrics for run in group.runs if run.metrics]
        protocol = next(iter(metrics[0].protocols))
        values = {task: group.summary(protocol, task, "mAP").mean for task in TASKS}
        ms, gflops = mean(part.ms_per_image for part in metrics), mean(part.gflops for part in metrics)
        found.append(Cost(TITLES.get(group.method, group.method), values, ms, gflops, metrics[0].device))
    if not found:
        raise C3Error("it needs an evaluated run; make one with: c3 train and c3 evaluate")
    return tuple(sorted(found, key=lambda cost: cost.ms))


def chosen_run(runs: Sequence[Run]) -> Run:
    """Return the run that figures 1, 3 and 6 show: the first seed of c3, else of c3-released, else of any method."""
    order = {"c3": 0, "c3-released": 1}
    groups = leading(runs)
    return groups[min(groups, key=lambda method: order.get(method, len(order)))].runs[0]


def rivals(runs: Sequence[Run]) -> list[Run]:
    """Return the runs that figure 6b compares: the first seed of every zero-shot method on the store of `chosen_run`.

    The chosen run comes first, BiAM second, as in the paper.
    """
    first = chosen_run(runs)
    same = [run for run in runs if run.record.features.digest == first.record.features.digest]
    others = [group.runs[0] for method, group in leading(same).items() if method != first.method]
    others = [run for run in others if run.zero_shot]
    return [first, *sorted(others, key=lambda run: run.method != "biam")] if first.zero_shot else [first]


def training(runs: Sequence[Run]) -> tuple[Training, ...]:
    """Return the training log of every run that has one."""
    logs = ((run, read_log(run.path)) for run in runs)
    return tuple(Training(run.id, TITLES.get(run.method, run.method), lines) for run, lines in logs if lines)


def _size(group: Group) -> tuple[int, float]:
    return len(group.runs), group.runs[0].record.number("epochs")


def _points(family: Sequence[Run]) -> int:
    return len({tuple(run.record.number(name) for name in VARIED) for run in family})


def _curve(setting: str, family: Sequence[Run]) -> Curve | None:
    (other,) = VARIED.keys() - {setting}
    lines: dict[float, dict[float, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in family:
        lines[run.record.number(other)][run.record.number(setting)].append(run)
    kept = max(lines, key=lambda value: (len(lines[value]), -abs(value - VARIED[other])), default=0.0)
    line = dict(sorted(lines[kept].items()))
    if len(line) < 2:
        return None
    shown = {}
    for task in TASKS:
        found = [[run.metrics.first.value(task, "mAP") for run in runs if run.metrics] for runs in line.values()]
        reached = [[value for value in values if value is not None] for values in found]
        if all(reached):
            shown[task] = tuple((mean(v), stdev(v) if len(v) > 1 else 0.0) for v in reached)
    return Curve(setting, {other: kept}, tuple(line), shown) if shown else None
