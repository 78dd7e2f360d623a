"""Protocols as data: which images and classes enter a published number, and what a class without a positive counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np

from .metrics import TopK, class_average_precision, f1_at_k, random_average_precision, random_f1_at_k

TASKS = ("zsl", "gzsl", "seen")


@dataclass(frozen=True)
class Protocol:
    """One way of averaging.

    `classes` are those in the mean of AP: all, those with a known label, or those with a positive; a class in the mean
    without a positive counts 0. `images` are all, or those with a positive among the classes of the task. `ks` are the
    K of F1@K, which chooses among all classes of the task.
    """

    name: str
    classes: Literal["all", "annotated", "with_positive"]
    images: Literal["all", "with_positive"]
    ks: tuple[int, ...]
    note: str


@dataclass(frozen=True)
class Measured:
    """The numbers of one protocol.

    `tasks` has for zsl, gzsl and seen a dict of mAP, F1@K, P@K, R@K (percent), classes (in the mean) and images, or
    None where the task cannot be measured. `average_precision` is (classes,) float64, a fraction, over the images of
    the class's own task (zsl or seen), NaN without a positive.
    """

    tasks: dict[str, dict[str, Any] | None]
    average_precision: np.ndarray


NUSWIDE = Protocol(
    "nuswide", "all", "all", (3, 5),
    "every test image counts, a label that nobody gave is negative, and mAP is the mean over all classes.",
)  # fmt: skip
OPENIMAGES_LESA = Protocol(
    "openimages-lesa", "all", "all", (10, 20),
    "AP sees human-verified labels only, every test image counts, and mAP is the mean over all classes, where a class "
    "without a positive counts 0; perfect scores therefore stay well below 100 in GZSL.",
)  # fmt: skip
OPENIMAGES_BIAM = Protocol(
    "openimages-biam", "annotated", "with_positive", (10, 20),
    "AP sees human-verified labels only, an image counts where it has a positive label of the task, and mAP is the "
    "mean over the classes with a verified label; F1 still chooses among all classes.",
)  # fmt: skip
TABLE = Protocol(
    "table", "with_positive", "all", (3, 5),
    "every image counts, unknown labels are left out of AP, and mAP is the mean over the classes with a positive.",
)  # fmt: skip

PROTOCOLS = {"nuswide": (NUSWIDE,), "openimages": (OPENIMAGES_LESA, OPENIMAGES_BIAM)}


def protocols_for(dataset: str) -> tuple[Protocol, ...]:
    """The protocols that a data set's published numbers follow; `table` for any other data set."""
    return PROTOCOLS.get(dataset, (TABLE,))


def measure(protocol: Protocol, labels: np.ndarray, scores: np.ndarray, seen: np.ndarray) -> Measured:
    """Measure zsl (unseen classes), gzsl (all) and seen under one protocol.

    labels (rows, classes) int8 in {-1, 0, +1}, scores (rows, classes) float32, seen (classes,) bool. A task is None
    without a class or a positive label of its own, gzsl also where one of the others is; F1@K is None where the task
    has fewer than K classes. Raises C3Error for a score that is not finite.
    """
    tasks: dict[str, dict[str, Any] | None] = dict.fromkeys(TASKS)
    precision = np.full(labels.shape[1], np.nan)
    # with the same images everywhere, a class has one AP in all of its tasks
    shared = class_average_precision(labels, scores) if protocol.images == "all" else None
    for task, rows, classes in _parts(protocol, labels, seen):
        part, part_scores = _cut(labels, rows, classes), _cut(scores, rows, classes)
        ap = class_average_precision(part, part_scores) if shared is None else shared[classes]
        tasks[task] = _summary(protocol, part, ap, partial(f1_at_k, part, part_scores))
        if task != "gzsl":
            precision[classes] = ap
    return Measured(tasks, precision)


def random_floor(protocol: Protocol, labels: np.ndarray, seen: np.ndarray) -> dict[str, dict[str, Any] | None]:
    """What random scores reach in the mean, as `Measured.tasks`: the number that a method has to beat.

    labels (rows, classes) int8, seen (classes,) bool. The expectation is exact and needs no draw; with unknown labels
    masked it is close to each class's share of positives, which on Open Images is high.
    """
    tasks: dict[str, dict[str, Any] | None] = dict.fromkeys(TASKS)
    for task, rows, classes in _parts(protocol, labels, seen):
        part = _cut(labels, rows, classes)
        tasks[task] = _summary(protocol, part, random_average_precision(part), partial(random_f1_at_k, part))
    return tasks


def _parts(protocol: Protocol, labels: np.ndarray, seen: np.ndarray) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The row and class indices of every task that can be measured."""
    positive = (labels == 1).any(axis=0)
    both = positive[seen].any() and positive[~seen].any()
    for task, members in zip(TASKS, (~seen, np.ones_like(seen), seen), strict=True):
        if not positive[members].any() or (task == "gzsl" and not both):
            continue
        classes = np.flatnonzero(members)
        rows = np.arange(len(labels))
        if protocol.images == "with_positive":
            rows = np.flatnonzero((_cut(labels, rows, classes) == 1).any(axis=1))
        if task == "seen" and protocol.classes == "annotated":
            # BiAM's script drops unannotated classes before F1 here, though not in GZSL
            classes = classes[(_cut(labels, rows, classes) != 0).any(axis=0)]
        yield task, rows, classes


def _cut(array: np.ndarray, rows: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """The rows and classes of a matrix, without a copy where nothing is left out: Open Images scores fill 4 GB."""
    if array.shape == (len(rows), len(classes)):
        return array
    return array[:, classes] if len(rows) == len(array) else array[np.ix_(rows, classes)]


def _summary(protocol: Protocol, labels: np.ndarray, ap: np.ndarray, top_k: Callable[[int], TopK]) -> dict[str, Any]:
    averaged = np.ones(len(ap), bool)
    if protocol.classes == "annotated":
        averaged = (labels != 0).any(axis=0)
    elif protocol.classes == "with_positive":
        averaged = (labels == 1).any(axis=0)
    result: dict[str, Any] = {"mAP": 100 * float(np.mean(np.nan_to_num(ap[averaged])))}
    for k in protocol.ks:
        top = top_k(k) if k <= len(ap) else None
        result[f"F1@{k}"] = None if top is None else 100 * top.f1
        result[f"P@{k}"] = None if top is None else 100 * top.precision
        result[f"R@{k}"] = None if top is None else 100 * top.recall
    return result | {"classes": int(averaged.sum()), "images": len(labels)}
