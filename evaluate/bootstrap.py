"""Confidence intervals: every metric of a protocol again under resampled images, in vectorised blocks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.lookahead import look_ahead
from .evidence import Evidence
from .measure import harmonic, mean_over_classes, top_k_found, weighted_mean
from .protocol import Protocol, Task, tasks_of
from .rankings import EXACT, Rankings, rankings

BLOCK_CELLS = 1 << 24  # weights held at once: images x resamples of a block, 64 MB
HELD_LABELS = 1 << 24  # known labels up to which sorted rankings are kept for the next block: 16 bytes a label


@dataclass(frozen=True)
class Resampling:
    """How often the images are drawn again (with replacement, as many as the split has), and the seed of the draws."""

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95

    def weights(self, images: int) -> Iterator[np.ndarray]:
        """Yield (images, block) counts: how often each image is in each resample. A pure function of the seed.

        They are float32, in which sums of them are exact; float64 for more than 2^24 images.
        """
        rng = np.random.default_rng([self.seed, images])
        step = max(1, BLOCK_CELLS // images)
        for start in range(0, self.resamples, step):
            count = min(step, self.resamples - start)
            block = np.empty((images, count), np.float32 if images <= EXACT else np.float64)
            for column in range(count):
                block[:, column] = np.bincount(rng.integers(0, images, images), minlength=images)
            yield block


Draws = dict[str, dict[str, np.ndarray]]


def bootstrap(evidence: Evidence, protocol: Protocol, resampling: Resampling) -> Draws:
    """Return task -> metric -> (resamples,) values in percent, for mAP, weighted mAP, H and F1@K.

    Ties are grouped. The draws depend on the number of images and the seed alone, so two runs measured on the same
    images are drawn alike and can be compared pair by pair.
    """
    tasks = list(tasks_of(protocol, evidence.truth))
    found = {task.name: top_k_found(evidence, task, protocol.ks) for task in tasks}
    precision = _ClassPrecision(evidence, protocol, tasks)
    blocks = [
        {task.name: values for task, values in _resampled(evidence, protocol, tasks, found, precision, weights)}
        for weights in resampling.weights(len(evidence.truth))
    ]
    return {
        task.name: {name: np.concatenate([block[task.name][name] for block in blocks]) for name in blocks[0][task.name]}
        for task in tasks
    }


def interval(value: float, draws: np.ndarray, level: float) -> tuple[float, float]:
    """Return the interval around a measured value that holds `level` of the resamples, centred on that value.

    A resample repeats images, and a positive that is repeated shares its rank with its copies: that lifts the AP of
    rare classes in nearly every resample. The spread of the resamples is informative, their mean is biased. The
    interval is for the mean of the metric over samples of this many images, not for its value on all images there are.
    """
    ends = np.nanpercentile(draws - np.nanmean(draws), [50 * (1 - level), 50 * (1 + level)])
    return value + float(ends[0]), value + float(ends[1])


def intervals(tasks: Mapping[str, Any], draws: Draws, level: float) -> dict[str, dict[str, tuple[float, float]]]:
    """Return task -> metric -> (low, high) around the measured values of `tasks`."""
    return {
        task: {name: interval(tasks[task][name], values, level) for name, values in metrics.items()}
        for task, metrics in draws.items()
    }


class _ClassPrecision:
    """Average precision of the classes that the tasks of a protocol average, resampled.

    Tasks with the same images share the AP of a class. Rankings are sorted once, or for every block of resamples where
    they are too many to keep.
    """

    def __init__(self, evidence: Evidence, protocol: Protocol, tasks: list[Task]) -> None:
        self._evidence, self._absent = evidence, protocol.absent(evidence.truth)
        self._tasks: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        for task in tasks:
            _, averaged = self._tasks.get(task.images.tobytes(), (task.images, np.zeros_like(task.averaged)))
            self._tasks[task.images.tobytes()] = task.images, averaged | task.averaged
        known = sum(evidence.truth.known(images, self._absent).sum() for images, _ in self._tasks.values())
        self._kept = {key: list(self._rankings(key)) for key in self._tasks} if known <= HELD_LABELS else {}

    def resampled(self, weights: np.ndarray) -> dict[bytes, tuple[np.ndarray, np.ndarray]]:
        """Return images of a task, as bytes -> (classes, resamples) average precision and number of positives."""
        found, threads = {}, os.cpu_count() or 1
        with ThreadPoolExecutor(threads) as workers:  # sums and products leave the interpreter lock

            def start(group: Rankings) -> Future[tuple[np.ndarray, np.ndarray, np.ndarray]]:
                return workers.submit(lambda: (group.classes, *group.average_precision(weights)))

            for key in self._tasks:
                shape = self._evidence.truth.classes, weights.shape[1]
                ap, positives = np.full(shape, np.nan), np.zeros(shape)
                for classes, *values in look_ahead(start, self._kept.get(key) or self._rankings(key), threads):
                    ap[classes], positives[classes] = values
                found[key] = ap, positives
        return found

    def _rankings(self, key: bytes) -> Iterator[Rankings]:
        images, averaged = self._tasks[key]
        chosen = np.flatnonzero(averaged).tolist()
        each = ((index, *self._evidence.ranking(index, images, self._absent)) for index in chosen)
        return rankings(each, len(self._evidence.truth))


def _resampled(
    evidence: Evidence,
    protocol: Protocol,
    tasks: list[Task],
    found: dict[str, dict[int, np.ndarray]],
    precision: _ClassPrecision,
    weights: np.ndarray,
) -> Iterator[tuple[Task, dict[str, np.ndarray]]]:
    truth = evidence.truth
    known = precision.resampled(weights)
    for task in tasks:
        ap, positives = known[task.images.tobytes()]

        def mean(
            classes: np.ndarray, task: Task = task, ap: np.ndarray = ap, positives: np.ndarray = positives
        ) -> np.ndarray:
            return mean_over_classes(protocol, task.averaged & classes, ap, positives)

        def drawn(counts: np.ndarray, task: Task = task) -> np.ndarray:
            return np.asarray((counts * task.images).astype(weights.dtype) @ weights)

        values = {"mAP": mean(task.classes), "weighted mAP": weighted_mean(task.averaged, ap, positives)}
        if task.name == "gzsl":
            values["H"] = np.asarray(harmonic(mean(truth.seen), mean(~truth.seen)))
        labels, images = drawn(truth.positives_of_images(task.classes)), drawn(np.ones(len(truth)))
        for k, hits in found[task.name].items():
            values[f"F1@{k}"] = 2 * drawn(hits) / (k * images + labels)
        yield task, {name: 100 * value for name, value in values.items()}
