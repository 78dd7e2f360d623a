"""Evidence + protocol -> numbers: those measured, and the floors that scores reach without looking at an image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..common.average_precision import Ties, random_average_precision
from ..train.run_folder import Values
from .evidence import Evidence, merge
from .metrics import micro_top_k, random_variance
from .protocol import TASKS, Protocol, Task, tasks_of
from .truth import Truth


@dataclass(frozen=True)
class Measured:
    """The numbers of one protocol.

    `tasks` has for zsl, gzsl and seen (and zsl-leak-free, where the store names leaks) a dict of mAP, weighted mAP,
    F1@K, P@K, R@K (percent), classes (in the mean) and images, in gzsl also H, the harmonic mean of mAP over seen and
    over unseen classes; None where the task cannot be measured. `average_precision` is (classes,) float64, a fraction,
    over the images of the class's own task (zsl or seen), NaN without a positive.
    """

    tasks: dict[str, Values | None]
    average_precision: np.ndarray


def measure(evidence: Evidence, protocol: Protocol, ties: Ties = "grouped") -> Measured:
    """Measure every task of a protocol; F1@K is None where a task has fewer than K classes."""
    truth = evidence.truth
    results: dict[str, Values | None] = dict.fromkeys(TASKS)
    by_class = np.full(truth.classes, np.nan)
    known: dict[bytes, np.ndarray] = {}  # tasks with the same images share the AP of a class
    for task in tasks_of(protocol, truth):
        key = task.images.tobytes()
        if key not in known:
            known[key] = evidence.average_precision(task.images, protocol.absent(truth), ties)
        values = _mean_precision(protocol, task, truth, known[key])
        found = top_k_found(evidence, task, protocol.ks)
        hits = {k: float(count[task.images].sum()) for k, count in found.items()}
        results[task.name] = {**values, **_top_k(protocol, task, truth, hits)}
        if task.name in ("zsl", "seen"):
            by_class[task.classes] = known[key][task.classes]
    return Measured(results, by_class)


def random_floor(protocol: Protocol, truth: Truth) -> dict[str, Values | None]:
    """Return the expectation of random scores, as `Measured.tasks`: the floor that a method has to beat.

    Nothing is drawn. The expectations are exact, but for H: that of a harmonic mean is below the harmonic mean of the
    expectations, and is expanded to second order (`expected_harmonic`). With unknown labels masked, mAP is close to
    the classes' mean share of positives, which on Open Images is high.
    """

    def found(task: Task) -> dict[int, float]:
        total = truth.positives_of_images(task.classes)[task.images].sum()
        return {k: total * k / task.candidates for k in protocol.ks if k <= task.candidates}

    return _floor(protocol, truth, random_average_precision, found, random_variance)


def frequency_floor(protocol: Protocol, truth: Truth, frequency: np.ndarray) -> dict[str, Values | None]:
    """Return what the number of positive training labels of each class reaches as its score for every image.

    frequency (classes,) is 0 for unseen classes, whose labels are not read. Equal scores rank at random, so the
    numbers are expectations; AP of a constant is the share of positives among the known labels.
    """

    def found(task: Task) -> dict[int, float]:
        positives, counts = truth.positives(task.images)[task.classes], frequency[task.classes]
        return {k: _expected_hits(positives, counts, k) for k in protocol.ks if k <= task.candidates}

    def share(positives: np.ndarray, known: np.ndarray) -> np.ndarray:
        return np.where(positives > 0, positives / np.maximum(known, 1), np.nan)

    return _floor(protocol, truth, share, found)


def mean_over_classes(protocol: Protocol, averaged: np.ndarray, ap: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Return the macro mean of ap over the averaged classes: ap and positives (classes, ...) -> (...), a fraction.

    A class without a positive is left out where the protocol averages classes with a positive, and else counts 0.
    """
    if protocol.average == "weighted":
        return weighted_mean(averaged, ap, positives)
    kept = np.nan_to_num(ap[averaged])
    if protocol.classes == "with_positive":
        return np.asarray(kept.sum(axis=0) / np.maximum((positives[averaged] > 0).sum(axis=0), 1))
    return np.asarray(kept.mean(axis=0))


def weighted_mean(averaged: np.ndarray, ap: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Return the mean of ap weighted by the positives of each class: (classes, ...) -> (...), a fraction."""
    weight = positives[averaged]
    return np.asarray((np.nan_to_num(ap[averaged]) * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1))


def harmonic(first: np.ndarray | float, second: np.ndarray | float) -> np.ndarray | float:
    """Return the harmonic mean of two values, 0 where both are 0."""
    return 2 * first * second / np.maximum(first + second, np.finfo(float).tiny)


def expected_harmonic(first: float, second: float, variances: tuple[float, float]) -> float:
    """Return the expectation of the harmonic mean of two independent values with these means and variances.

    H is expanded to second order: E[H] = H(a, b) - 2 (b^2 var a + a^2 var b) / (a + b)^3. Variances are in the square
    of the unit of the values.
    """
    spread = second**2 * variances[0] + first**2 * variances[1]
    return float(harmonic(first, second)) - 2 * spread / max(first + second, np.finfo(float).tiny) ** 3


def top_k_found(evidence: Evidence, task: Task, ks: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Return K -> (images,) number of positives among the K best classes, for every K that the task allows."""
    hits = np.cumsum(merge([evidence.pools[name] for name in task.pools]).hits, axis=1)
    return {k: hits[:, k - 1] for k in ks if k <= task.candidates}


def _mean_precision(
    protocol: Protocol, task: Task, truth: Truth, ap: np.ndarray, variance: np.ndarray | None = None
) -> Values:
    """Return mAP, weighted mAP and H; `ap` may be an expectation, and `variance` is that of every class's AP then."""
    positives = truth.positives(task.images)

    def mean(classes: np.ndarray) -> float:
        return 100 * float(mean_over_classes(protocol, task.averaged & classes, ap, positives))

    def variance_of_mean(classes: np.ndarray) -> float:
        if variance is None:
            return 0.0
        share = _shares(protocol, task.averaged & classes, positives)
        return 100**2 * float((share**2 * np.nan_to_num(variance)).sum())

    values: dict[str, int | float | None] = {
        "mAP": mean(task.classes),
        "weighted mAP": 100 * float(weighted_mean(task.averaged, ap, positives)),
    }
    if task.name == "gzsl":
        parts = truth.seen, ~truth.seen
        spread = variance_of_mean(parts[0]), variance_of_mean(parts[1])
        values["H"] = expected_harmonic(mean(parts[0]), mean(parts[1]), spread)
    return {**values, "classes": int(task.averaged.sum()), "images": int(task.images.sum())}


def _shares(protocol: Protocol, averaged: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Return (classes,) the share of each class in `mean_over_classes`."""
    if protocol.average == "weighted":
        share = np.where(averaged, positives, 0)
    else:
        share = averaged & (positives > 0) if protocol.classes == "with_positive" else averaged
    return np.asarray(share / max(share.sum(), 1))


def _top_k(protocol: Protocol, task: Task, truth: Truth, found: Mapping[int, float]) -> Values:
    """Return F1@K, P@K and R@K; `found` is the number of labels found at each K that the task allows."""
    images = int(task.images.sum())
    positives = int(truth.positives_of_images(task.classes)[task.images].sum())
    values: dict[str, float | None] = {}
    for k in protocol.ks:
        top = micro_top_k(found[k], k * images, positives) if k in found else None
        for name, part in (("F1", "f1"), ("P", "precision"), ("R", "recall")):
            values[f"{name}@{k}"] = None if top is None else 100 * getattr(top, part)
    return values


def _floor(
    protocol: Protocol,
    truth: Truth,
    precision: Callable[[np.ndarray, np.ndarray], np.ndarray],
    found: Callable[[Task], dict[int, float]],
    variance: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> dict[str, Values | None]:
    results: dict[str, Values | None] = dict.fromkeys(TASKS)
    for task in tasks_of(protocol, truth):
        labels = truth.positives(task.images), truth.known(task.images, protocol.absent(truth))
        values = _mean_precision(protocol, task, truth, precision(*labels), variance(*labels) if variance else None)
        results[task.name] = {**values, **_top_k(protocol, task, truth, found(task))}
    return results


def _expected_hits(positives: np.ndarray, frequency: np.ndarray, k: int) -> float:
    """Count the positives that the K most frequent classes find in every image; ties are drawn at random."""
    lowest = np.partition(frequency, -k)[-k]
    above, equal = frequency > lowest, frequency == lowest
    room = k - np.count_nonzero(above)
    return float(positives[above].sum() + positives[equal].sum() * room / np.count_nonzero(equal))
