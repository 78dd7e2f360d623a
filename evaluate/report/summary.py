"""Runs of one data set -> the first screen of the page: what was measured, and what leads by how much. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...train.run_folder import Run, read_per_class
from . import series
from .block import TITLES
from .groups import Group, counted

TASKS = {"zsl": "ZSL", "gzsl": "GZSL"}


@dataclass(frozen=True)
class Reached:
    """mAP in percent, mean over seeds, with the 95 % interval over images where one was drawn (else None)."""

    mean: float
    low: float | None
    high: float | None

    @property
    def text(self) -> str:
        """Return `20.3 (18.9 to 21.7)`."""
        return f"{self.mean:.1f}" + ("" if self.low is None else f" ({self.low:.1f} to {self.high:.1f})")


@dataclass(frozen=True)
class Line:
    """One method: its title, and what it reached by task (None where it cannot be measured)."""

    title: str
    reached: dict[str, Reached | None]


@dataclass(frozen=True)
class Summary:
    """The first screen of one data set: facts by name, a sentence for each task, and the methods, best ZSL first."""

    facts: tuple[tuple[str, str], ...]
    leads: tuple[str, ...]
    lines: tuple[Line, ...]

    @property
    def scale(self) -> float:
        """Return the largest value to draw, in percent."""
        found = [one for line in self.lines for one in line.reached.values() if one]
        return max((one.mean if one.high is None else max(one.mean, one.high) for one in found), default=1.0) or 1.0


def summary(runs: Sequence[Run]) -> Summary:
    """Return the first screen of measured runs of one data set; a method stands by its `series.leading` group."""
    groups = series.leading(runs)
    protocol = next(iter(runs[0].metrics.protocols)) if runs[0].metrics else ""
    lines = [
        Line(TITLES.get(method, method), {task: _reached(group, protocol, task) for task in TASKS})
        for method, group in groups.items()
    ]
    lines += _floors(runs, protocol)
    lines.sort(key=lambda line: max((one.mean for one in line.reached.values() if one), default=0.0), reverse=True)
    lines.sort(key=lambda line: one.mean if (one := line.reached["zsl"]) else -1.0, reverse=True)
    methods = [line for line in lines if line.title != RANDOM]
    return Summary(_facts(runs, protocol), tuple(filter(None, (_lead(methods, task) for task in TASKS))), tuple(lines))


def best_on_validation(runs: Sequence[Run]) -> tuple[Run, str]:
    """Return the run with the best mAP over the seen classes of `val`, and a sentence that says how it was chosen.

    Labels of unseen classes and of the test split decide nothing. Where no run has a score on `val`, the run that
    `series.chosen_run` names stands in.
    """
    scored = [(run.record.seen.mAP, run) for run in runs if run.record.seen]
    if not scored:
        return series.chosen_run(runs), "No run was scored on val, so this is the first run of its method."
    value, run = max(scored, key=lambda pair: pair[0])
    which = "only run" if len(scored) == 1 else f"best of {len(scored)} runs"
    return run, f"The {which} scored on val: mAP over seen classes {100 * value:.1f}."


RANDOM = "random scores"


def _reached(group: Group, protocol: str, task: str) -> Reached | None:
    found = group.summary(protocol, task, "mAP")
    if found.mean != found.mean:
        return None
    return Reached(found.mean, *((None, None) if found.low != found.low else (found.low, found.high)))


def _floors(runs: Sequence[Run], protocol: str) -> list[Line]:
    """Return what random scores reach, where it is the same for all runs."""
    found = {
        tuple((task, (run.metrics.protocols[protocol].random.get(task) or {}).get("mAP")) for task in TASKS)
        for run in runs
        if run.metrics and protocol in run.metrics.protocols
    }
    if len(found) != 1:
        return []
    return [Line(RANDOM, {task: None if value is None else Reached(value, None, None) for task, value in found.pop()})]


def _lead(lines: Sequence[Line], task: str) -> str:
    """Say which method leads a task and by how much, and whether the intervals of the first two overlap."""
    found = [(one, line.title) for line in lines if (one := line.reached[task])]
    ranked = sorted(found, key=lambda pair: pair[0].mean, reverse=True)
    if not ranked:
        return ""
    (first, title), *others = ranked
    if not others:
        return f"{TASKS[task]} mAP: {title} reaches {first.text}; no other method was measured."
    second, other = others[0]
    ahead = f"{first.mean - second.mean:.1f} points ahead of {other}, {second.text}"
    said = f"{TASKS[task]} mAP: {title} leads with {first.text}, {ahead}"
    if first.low is None or second.high is None:
        return f"{said}."
    return f"{said}; the intervals {'overlap' if first.low <= second.high else 'do not overlap'}."


def _facts(runs: Sequence[Run], protocol: str) -> tuple[tuple[str, str], ...]:
    classes = read_per_class(runs[0].path)
    seen = sum(line.seen for line in classes)
    images = sorted({run.metrics.images for run in runs if run.metrics})
    stores = [run.record.features for run in runs]
    rows = dict.fromkeys(", ".join(f"{split} {count:,}" for split, count in store.splits.items()) for store in stores)
    methods = len({run.method for run in runs})
    made = dict.fromkeys(f"{store.backbone}, weights {store.weights_title}" for store in stores)
    return (
        ("measured on", f"{' or '.join(f'{count:,}' for count in images)} images of the split test"),
        ("rows", "; ".join(rows)),
        ("classes", f"{seen:,} seen and {len(classes) - seen:,} unseen"),
        ("features", "; ".join(made)),
        ("compared", f"{counted(len(runs), 'run')}, {counted(methods, 'method')}, protocol {protocol}"),
    )
