"""metrics.json as types: what `c3 evaluate` measured. All values are percentages unless said otherwise. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from ...common.parsing import STRICT, to_json

METRICS_SCHEMA = 2  # measuring again is cheap, so older metrics are not migrated
# Name -> value: mAP, weighted mAP, F1@K, P@K, R@K, in gzsl H; classes and images are counts. None: cannot be measured.
Values = Mapping[str, int | float | None]


@dataclass(frozen=True)
class Balance:
    """Recall at K over the seen and over the unseen labels of GZSL, their harmonic mean, and F1@K of all labels."""

    seen: float
    unseen: float
    harmonic: float
    f1: float


@dataclass(frozen=True)
class Calibration:
    """GZSL as it is (`plain`) and with `offset` taken off the seen scores (`shifted`).

    Runs of `folds` chose the offset on classes that they held back; 0 in files of an older c3, which chose it by labels
    of unseen classes.
    """

    k: int
    offset: float
    plain: Balance
    shifted: Balance
    folds: int = 0


@dataclass(frozen=True)
class Bins:
    """Known labels by their probability, in bins of equal width: how many, their mean probability, the share positive.

    Probabilities and shares are fractions, 0 where a bin is empty.
    """

    labels: tuple[int, ...]
    predicted: tuple[float, ...]
    positive: tuple[float, ...]

    @property
    def error(self) -> float:
        """Return the expected calibration error, 0..1: the mean distance of both, every label counted once."""
        return self._error(0)

    @property
    def likely_error(self) -> float | None:
        """Return the same without the lowest bin, which holds nearly all labels; None where no label is above it."""
        return self._error(1) if any(self.labels[1:]) else None

    def _error(self, first: int) -> float:
        bins = list(zip(self.labels, self.predicted, self.positive, strict=True))[first:]
        return sum(n * abs(p - share) for n, p, share in bins) / sum(n for n, _, _ in bins)


@dataclass(frozen=True)
class Reliability:
    """The known labels of a split by probability: `before`, a score read without a map, and `after`, with its map."""

    before: Bins
    after: Bins


@dataclass(frozen=True)
class ProtocolResults:
    """What one protocol measured, by task: zsl, gzsl, seen, and zsl-leak-free where the store names leaks.

    `intervals` are (low, high) by task and metric. `random` and `frequency` are floors: the expectation of random
    scores, and the same classes for every image, the most frequent in training first.
    """

    tasks: Mapping[str, Values | None]
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    random: Mapping[str, Values | None]
    frequency: Mapping[str, Values | None]
    calibrated: Calibration | None

    def value(self, task: str, metric: str) -> float | None:
        """Return a metric of a task, or None where it could not be measured."""
        return (self.tasks.get(task) or {}).get(metric)

    def interval(self, task: str, metric: str) -> tuple[float, float] | None:
        """Return the ends of a confidence interval, or None where there is none."""
        return self.intervals.get(task, {}).get(metric)


@dataclass(frozen=True)
class Bootstrap:
    """How intervals were drawn: the number of resamples, their seed, and the share of them inside an interval."""

    resamples: int
    seed: int
    level: float


@dataclass(frozen=True)
class RowCounts:
    """How many rows of the split were scored, and how many were masked, by status."""

    used: int
    masked: Mapping[str, int]


@dataclass(frozen=True)
class Metrics:
    """The content of metrics.json.

    `store_digest`, `dataset` and `store` (its address) say what was scored. `ms_per_image` is the time of the model
    alone; `gflops` (10^9 operations an image) counts the head and all class scores. `ties` is the rule for equal
    scores. `reliability` is that of `seen` and `unseen` classes, empty where scores have no probabilities.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    split: str
    store_digest: Annotated[str, Field(alias="cache")]
    dataset: str
    store: Annotated[str, Field(alias="path")]
    device: str
    seconds: float
    ms_per_image: float
    gflops: float
    rows: RowCounts
    images: int
    ties: str
    bootstrap: Bootstrap
    protocols: Mapping[str, ProtocolResults]
    reliability: Mapping[str, Reliability] = field(default_factory=dict)

    @property
    def first(self) -> ProtocolResults:
        """Return the results of the first protocol, which the data set's published numbers follow."""
        return next(iter(self.protocols.values()))

    def record(self) -> dict[str, Any]:
        """Return the content of metrics.json, which `read_metrics` reads back."""
        content = to_json(self, defaults=True)
        if not self.reliability:
            del content["reliability"]
        return {"schema": METRICS_SCHEMA, **content}
