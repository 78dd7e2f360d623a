"""Two runs on the same images: the difference of every metric, with a paired bootstrap interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..common.errors import C3Error
from ..train.run_folder import Run
from .bootstrap import Resampling, bootstrap, interval
from .evidence import Evidence
from .measure import measure
from .protocol import Protocol
from .truth import Truth


@dataclass(frozen=True)
class Difference:
    """One metric of two runs, in percent, and the confidence interval of the second less the first."""

    protocol: str
    task: str
    metric: str
    first: float
    second: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """Return the second less the first."""
        return self.second - self.first


def differences(first: Evidence, second: Evidence, protocol: Protocol, resampling: Resampling) -> Iterator[Difference]:
    """Yield every metric of every task under one protocol; both runs are resampled alike, image by image.

    Raises C3Error where the two were not measured on the same images, classes and labels.
    """
    _require_same_images(first, second)
    drawn = bootstrap(first, protocol, resampling), bootstrap(second, protocol, resampling)
    tasks = measure(first, protocol).tasks, measure(second, protocol).tasks
    for task, metrics in drawn[0].items():
        for metric, values in metrics.items():
            before, after = ((part[task] or {})[metric] for part in tasks)
            if before is None or after is None:
                continue
            ends = interval(after - before, drawn[1][task][metric] - values, resampling.level)
            yield Difference(protocol.name, task, metric, before, after, *ends)


def table_of(runs: tuple[Run, Run], found: list[Difference], resampling: Resampling) -> str:
    """Return the differences as text, with a star where the interval excludes 0."""
    lines = [
        f"first:  {runs[0].path}",
        f"second: {runs[1].path}",
        "",
        f"{'protocol':<16} {'task':<14} {'metric':<13} {'first':>7} {'second':>7} {'second - first':>15}  interval",
    ]
    for item in found:
        star = "*" if item.low > 0 or item.high < 0 else " "
        lines.append(
            f"{item.protocol:<16} {item.task.upper():<14} {item.metric:<13} {item.first:7.2f} {item.second:7.2f} "
            f"{item.difference:+14.2f}{star}  [{item.low:+.2f}, {item.high:+.2f}]"
        )
    lines += [
        "",
        f"Values are percentages. Intervals are {100 * resampling.level:.0f} % paired bootstrap intervals over images "
        f"({resampling.resamples:,} resamples, seed {resampling.seed});",
        "*: the interval excludes 0. It describes these two trained models; another seed gives another model.",
    ]
    return "\n".join(lines)


def _counted(truth: Truth) -> str:
    return f"{int(truth.seen.sum()):,} seen and {int((~truth.seen).sum()):,} unseen"


def _require_same_images(first: Evidence, second: Evidence) -> None:
    one, two = first.truth, second.truth
    if one.names != two.names or not np.array_equal(one.seen, two.seen):
        raise C3Error(
            f"the two runs are measured on different classes ({_counted(one)}, and {_counted(two)}); compare runs of "
            "one data set and class split, and of methods that both score unseen classes or both do not"
        )
    same = len(one) == len(two) and np.array_equal(one.ids, two.ids)
    if not same or not all(
        np.array_equal(getattr(one.labels, part), getattr(two.labels, part)) for part in ("indptr", "indices", "value")
    ):
        raise C3Error(
            f"the two runs are measured on different images or labels ({len(one)} and {len(two)} images); "
            "compare runs of one data set and split"
        )
