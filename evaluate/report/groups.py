"""Runs -> groups: the runs of one method, store and configuration that differ only in their seed make one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ...train.run_folder import Run


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation of n runs, in percent; NaN without a run, and sd without a second one.

    low and high are the mean ends of the runs' own confidence intervals over images.
    """

    mean: float = float("nan")
    sd: float = float("nan")
    n: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")


NOTHING = Summary()


@dataclass(frozen=True)
class Group:
    """One row of a table: runs of one method that differ in their seed alone, and the settings that set them apart.

    `apart` has the settings that another group of the same method has otherwise; it is empty for an only group.
    """

    method: str
    runs: tuple[Run, ...]
    apart: Mapping[str, Any]

    @property
    def backbone(self) -> str | None:
        """Return the backbone of the features, or None without a run."""
        return self.runs[0].record.features.backbone if self.runs else None

    def label(self, title: str) -> str:
        """Return the name of the row: the title of the method and, in brackets, what sets it apart."""
        settings = ", ".join(f"{key} {value}" for key, value in self.apart.items())
        return f"{title} ({settings})" if settings else title

    def summary(self, protocol: str, task: str, metric: str) -> Summary:
        """Return mean and spread of one metric over the runs that could measure it."""
        values: list[float] = []
        ends: list[tuple[float, float]] = []
        for run in self.runs:
            results = run.metrics.protocols[protocol] if run.metrics else None
            value = results.value(task, metric) if results else None
            if results and value is not None:
                values.append(value)
                ends.append(results.interval(task, metric) or (float("nan"), float("nan")))
        if not values:
            return NOTHING
        low, high = map(mean, zip(*ends, strict=True))
        return Summary(mean(values), stdev(values) if len(values) > 1 else float("nan"), len(values), low, high)

    def origin(self) -> str:
        """Return where the row comes from: runs, seeds, store, backbone and weights."""
        made = self.runs[0].record.features
        runs, seeds = ", ".join(run.id for run in self.runs), ", ".join(str(run.seed) for run in self.runs)
        reads = ", ".join(self.runs[0].record.reads)
        features = f"{reads} of features {made.digest} ({made.backbone}, weights {made.weights_title})"
        return f"runs {runs}; seeds {seeds}; {features}"


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[Run]]:
    """Group runs, oldest first, by method, store and configuration without the seed.

    Returns the groups in order of their first run, and the runs that a later one with the same seed replaces: counting
    both would pass a repetition off as a second seed.
    """
    members: dict[str, dict[int, Run]] = {}
    replaced: list[Run] = []
    for run in runs:
        key = json.dumps([run.method, run.record.first_features, _settings(run)], sort_keys=True)
        seeds = members.setdefault(key, {})
        if run.seed in seeds:
            replaced.append(seeds[run.seed])
        seeds[run.seed] = run
    rows = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in members.values()]
    groups = []
    for row in rows:
        rivals = [_settings(other[0]) for other in rows if other[0].method == row[0].method]
        groups.append(Group(row[0].method, row, _apart(_settings(row[0]), rivals)))
    return groups, replaced


def _settings(run: Run) -> dict[str, Any]:
    made = run.record.features
    # several processes make other batches; every seed of a tuned backbone has a store of its own, all began on one
    apart = {"ranks": run.record.ranks, "backbone": made.backbone, "weights": made.weights_title,
             "features": run.record.first_features[:8]}  # fmt: skip
    return {key: value for key, value in run.record.settings.items() if key != "seed"} | apart


def _apart(settings: dict[str, Any], rivals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings that differ among rivals; the digest of the store only where nothing else differs."""
    keys = dict.fromkeys(key for rival in rivals for key in rival)
    differing = [key for key in keys if any(rival.get(key) != settings.get(key) for rival in rivals)]
    readable = [key for key in differing if key != "features"]
    told = {json.dumps([rival.get(key) for key in readable]) for rival in rivals}
    chosen = readable if len(told) == len(rivals) else differing
    return {key: settings.get(key, "unset") for key in chosen}
