"""Runs -> groups: the runs of one method, store and configuration that differ in seed and draw alone make one row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import mean, stdev
from typing import Any

from ...train.names import METHODS
from ...train.recipes import LoopOptions
from ...train.run_folder import Run

Pair = tuple[int | None, int]  # the draw of the hidden classes (None: the store's own split) and the seed of a run
REPEATED = ("seed", "hide_seed")  # settings that make another run of the same row
IMAGE_TEXT_METHODS = ("clip", "clip-adapter")
SHOWN_RUNS = 3  # of a row in the notes; more are counted


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
    """One row of a table: runs of one method that differ in seed and draw alone, and what sets them apart.

    `apart` has the settings that another group of the same method has otherwise; it is empty for an only group.
    `addition` is the one setting in which it differs from the method's own row, where it is an ablation of it.
    """

    method: str
    runs: tuple[Run, ...]
    apart: Mapping[str, Any] = field(default_factory=dict)
    addition: str = ""

    @property
    def backbone(self) -> str | None:
        """Return the backbone of the features, or None without a run."""
        return self.runs[0].record.features.backbone if self.runs else None

    @property
    def drawn(self) -> bool:
        """Return whether the hidden classes were drawn, and are not those that the store hides."""
        return bool(self.runs) and draw_of(self.runs[0]) is not None

    @property
    def image_text(self) -> bool:
        """Return whether pairs of images and texts trained the backbone or the method before."""
        backbone = (self.backbone or "").lower()
        return self.method in IMAGE_TEXT_METHODS or any(name in backbone for name in ("clip", "siglip"))

    @property
    def by_pair(self) -> dict[Pair, Run]:
        """Return the runs by draw and seed."""
        return {(draw_of(run), run.seed): run for run in self.runs}

    def label(self, title: str) -> str:
        """Return the name of the row: the title of the method, the addition and, in brackets, what sets it apart."""
        title += f", {self.addition}" if self.addition else ""
        settings = in_words(self.apart)
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
        """Return where the row comes from: runs, seeds, draws, store, backbone and weights."""
        made = self.runs[0].record.features
        reads = ", ".join(self.runs[0].record.reads)
        features = f"{reads} of features {made.digest} ({made.backbone}, weights {made.weights_title})"
        return f"{self._repeats()}; {features}"

    def _repeats(self) -> str:
        shown = ", ".join(run.id for run in self.runs[:SHOWN_RUNS])
        others = len(self.runs) - SHOWN_RUNS
        runs = f"runs {shown}" + (f" and {others} more" if others > 0 else "")
        seeds = sorted({run.seed for run in self.runs})
        if not self.drawn:
            return f"{runs}; seeds {', '.join(map(str, seeds))}"
        draws = {draw_of(run) for run in self.runs}
        return f"{counted(len(self.runs), 'run')}: {counted(len(seeds), 'seed')}, {hidden(len(draws))}; {runs}"


def draw_of(run: Run) -> int | None:
    """Return the seed that drew the hidden classes of a run, or None for the store's own split."""
    draw = run.record.settings.get("hide_seed")
    return None if draw is None else int(draw)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 run`, `3 runs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def hidden(draws: int) -> str:
    """Return a number of draws in words."""
    return f"{counted(draws, 'draw')} of the hidden classes"


def spans(numbers: list[int]) -> str:
    """Write numbers in ascending order, neighbours as a span.

    >>> spans([0, 1, 2, 5])
    '0 to 2, 5'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts)


def in_words(settings: Mapping[str, Any]) -> str:
    """Write names and values in a line: `groups 3, lr 0.001`."""
    return ", ".join(f"{key} {value}" for key, value in settings.items())


def group_runs(runs: Sequence[Run]) -> tuple[list[Group], list[Run]]:
    """Group runs, oldest first, by method, store and configuration without seed and draw.

    Runs on the store's own split and runs on drawn splits are never one group. Returns the groups in order of their
    first run, and the runs that a later one with the same seed and draw replaces: counting both would pass a repetition
    off as a second seed.
    """
    members: dict[str, dict[Pair, Run]] = {}
    replaced: list[Run] = []
    for run in completed(runs):
        pair = draw_of(run), run.seed
        drawn = pair[0] is not None
        key = json.dumps([run.method, run.record.first_features, settings_of(run), drawn], sort_keys=True)
        pairs = members.setdefault(key, {})
        if pair in pairs:
            replaced.append(pairs[pair])
        pairs[pair] = run
    rows = (sorted(pairs.items(), key=lambda item: (item[0][0] or 0, item[0][1])) for pairs in members.values())
    groups = [Group(pairs[0][1].method, tuple(run for _, run in pairs)) for pairs in rows]
    return set_apart(groups), replaced


def completed(runs: Sequence[Run]) -> list[Run]:
    """Return the runs, where those of an older c3 have the defaults of the settings that only later runs record.

    A new setting leaves everything as it was by default. Without this, runs of both versions would be two rows.
    """
    recorded: dict[str, set[str]] = {}
    for run in runs:
        recorded.setdefault(run.method, set()).update(run.record.settings)
    lacking = [recorded[run.method].difference(run.record.settings, LoopOptions().off_names) for run in runs]
    return [_with_defaults(run, names) if names else run for run, names in zip(runs, lacking, strict=True)]


def _with_defaults(run: Run, names: set[str]) -> Run:
    if run.method not in METHODS:
        return run
    from ...train.registry import method_class  # imports torch, which few reports need

    options = {**asdict(LoopOptions()), **asdict(method_class(run.method).Options())}
    defaults = {name: value for name, value in options.items() if name in names}
    return replace(run, record=replace(run.record, settings={**run.record.settings, **defaults}))


def set_apart(groups: Sequence[Group]) -> list[Group]:
    """Return the groups with what sets each of them apart from the others of its method."""
    apart = []
    for group in groups:
        rivals = [settings_of(other.runs[0]) for other in groups if _kind(other) == _kind(group)]
        apart.append(replace(group, apart=_apart(settings_of(group.runs[0]), rivals)))
    return apart


def _kind(group: Group) -> tuple[str, str]:
    return group.method, group.addition


def settings_of(run: Run) -> dict[str, Any]:
    """Return what decides the row of a run beside its method: settings, processes, backbone, weights and store."""
    made = run.record.features
    # several processes make other batches; every seed of a tuned backbone has a store of its own, all began on one
    apart = {"ranks": run.record.ranks, "backbone": made.backbone, "weights": made.weights_title,
             "features": run.record.first_features[:8]}  # fmt: skip
    return {key: value for key, value in run.record.settings.items() if key not in REPEATED} | apart


def _apart(settings: dict[str, Any], rivals: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the settings that differ among rivals; the digest of the store only where nothing else differs."""
    keys = dict.fromkeys(key for rival in rivals for key in rival)
    differing = [key for key in keys if any(rival.get(key) != settings.get(key) for rival in rivals)]
    readable = [key for key in differing if key != "features"]
    told = {json.dumps([rival.get(key) for key in readable]) for rival in rivals}
    chosen = readable if len(told) == len(rivals) else differing
    return {key: settings.get(key, "unset") for key in chosen}
