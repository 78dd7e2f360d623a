"""Confidence intervals: every metric of a protocol again under resampled images, in vectorised blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .evidence import Evidence
from .measure import harmonic, mean_over_classes, top_k_found, weighted_mean
from .metrics import resampled_average_precision
from .protocol import Protocol, Task, tasks_of

BLOCK_CELLS = 1 << 24  # weights held at once: images x resamples of a block, 64 MB


@dataclass(frozen=True)
class Resampling:
    """How often the images are drawn again (with replacement, as many as the split has), and the seed of the draws."""

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95

    def weights(self, images: int) -> Iterator[np.ndarray]:
        """Yield (images, block) float32: how often each image is in each resample. A pure function of the seed."""
        rng = np.random.default_rng([self.seed, images])
        step = max(1, BLOCK_CELLS // images)
        for start in range(0, self.resamples, step):
            count = min(step, self.resamples - start)
            block = np.empty((images, count), np.float32)
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
    blocks = [
        {task.name: values for task, values in _resampled(evidence, protocol, tasks, found, weights)}
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


def _resampled(
    evidence: Evidence,
    protocol: Protocol,
    tasks: list[Task],
    found: dict[str, dict[int, np.ndarray]],
    weights: np.ndarray,
) -> Iterator[tuple[Task, dict[str, np.ndarray]]]:
    truth = evidence.truth
    known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for task in tasks:
        key = task.images.tobytes()
        if key not in known:
            known[key] = _class_precision(evidence, protocol, task.images, weights)
        ap, positives = known[key]

        def mean(
            classes: np.ndarray, task: Task = task, ap: np.ndarray = ap, positives: np.ndarray = positives
        ) -> np.ndarray:
            return mean_over_classes(protocol, task.averaged & classes, ap, positives)

        values = {"mAP": mean(task.classes), "weighted mAP": weighted_mean(task.averaged, ap, positives)}
        if task.name == "gzsl":
            values["H"] = np.asarray(harmonic(mean(truth.seen), mean(~truth.seen)))
        drawn = weights[task.images]
        labels = truth.positives_of_images(task.classes)[task.images].astype(np.float32) @ drawn
        for k, hits in found[task.name].items():
            values[f"F1@{k}"] = 2 * (hits[task.images].astype(np.float32) @ drawn) / (k * drawn.sum(axis=0) + labels)
        yield task, {name: 100 * value for name, value in values.items()}


def _class_precision(
    evidence: Evidence, protocol: Protocol, images: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (classes, resamples) average precision and number of positives of every class."""
    truth = evidence.truth
    shape = truth.classes, weights.shape[1]
    ap, positives = np.full(shape, np.nan), np.zeros(shape)
    for index in range(truth.classes):
        positive, scores, image = evidence.ranking(index, images, protocol.absent(truth))
        if positive.any():
            ap[index] = resampled_average_precision(positive, scores, image, weights)
            positives[index] = weights[image[positive]].sum(axis=0)
    return ap, positives
