"""Protocols as data: which images and classes enter a published number, and what a class without a positive counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..common.errors import unknown_name
from .truth import Truth

TASKS = ("zsl", "gzsl", "seen")
LEAK_FREE = "zsl-leak-free"


@dataclass(frozen=True)
class Protocol:
    """One way of averaging.

    `classes` are those in the mean of AP: all, those with a known label, or those with a positive; a class in the mean
    without a positive counts 0. `images` are all, or those with a positive among the classes of the task. `ks` are the
    K of F1@K, which chooses among all classes of the task. `unknown` says what an unlisted label is to AP: always
    negative, or masked where the store says that it is unknown. `average` is what mAP means: every class alike
    (macro), or weighted by its positives.
    """

    name: str
    classes: Literal["all", "annotated", "with_positive"]
    images: Literal["all", "with_positive"]
    ks: tuple[int, ...]
    unknown: Literal["negative", "masked"]
    note: str
    average: Literal["macro", "weighted"] = "macro"

    def absent(self, truth: Truth) -> int:
        """Return the value of an unlisted label under this protocol."""
        return -1 if self.unknown == "negative" else truth.absent


@dataclass(frozen=True)
class Task:
    """One task of a protocol: which classes are ranked, on which images, and which of them enter the mean.

    classes and averaged are (classes,) bool, images is (images,) bool. `pools` are the sets that F1@K chooses from
    together, and `candidates` is their size.
    """

    name: str
    classes: np.ndarray
    averaged: np.ndarray
    images: np.ndarray
    pools: tuple[str, ...]
    candidates: int


NUSWIDE = Protocol(
    "nuswide", "all", "all", (3, 5), "negative",
    "every test image counts, an unlisted label is negative, and mAP is the mean over all classes.",
)  # fmt: skip
NUSWIDE_81 = Protocol(
    "nuswide-81", "all", "all", (3, 5), "negative",
    "the 81 human-labelled concepts are trained on and asked for, every test image counts, an unlisted label is "
    "negative, and mAP is the mean over all 81.",
)  # fmt: skip
OPENIMAGES_LESA = Protocol(
    "openimages-lesa", "all", "all", (10, 20), "masked",
    "AP sees human-verified labels only, every test image counts, and mAP is the mean over all classes, where a class "
    "without a positive counts 0; perfect scores therefore stay well below 100 in GZSL.",
)  # fmt: skip
OPENIMAGES_BIAM = Protocol(
    "openimages-biam", "annotated", "with_positive", (10, 20), "masked",
    "AP sees human-verified labels only, an image counts where it has a positive label of the task, and mAP is the "
    "mean over the classes with a verified label; F1 still chooses among all classes.",
)  # fmt: skip
COCO = Protocol(
    "coco", "all", "all", (3, 5), "negative",
    "every image counts, even without a label, an unlisted label is negative, and mAP is the mean over all classes.",
)  # fmt: skip
TABLE = Protocol(
    "table", "with_positive", "all", (3, 5), "masked",
    "every image counts, unknown labels are left out of AP, and mAP is the mean over the classes with a positive.",
)  # fmt: skip

PROTOCOLS = {p.name: p for p in (NUSWIDE, NUSWIDE_81, OPENIMAGES_LESA, OPENIMAGES_BIAM, COCO, TABLE)}
OF_DATASET = {
    "nuswide": (NUSWIDE,),
    "nuswide-81": (NUSWIDE_81,),
    "openimages": (OPENIMAGES_LESA, OPENIMAGES_BIAM),
    "coco": (COCO,),
}


def protocols_for(dataset: str, names: Sequence[str] = ()) -> tuple[Protocol, ...]:
    """Return the named protocols; without names those of the published numbers on the data set, else `table`."""
    for name in names:
        if name not in PROTOCOLS:
            raise unknown_name("protocol", name, PROTOCOLS)
    return tuple(PROTOCOLS[name] for name in names) or OF_DATASET.get(dataset, (TABLE,))


def tasks_of(protocol: Protocol, truth: Truth) -> Iterator[Task]:
    """Yield the tasks that can be measured: zsl (unseen classes), gzsl (all), seen, and zsl without leaky classes.

    A task needs a class and a positive label of its own, gzsl both unseen and seen ones. The leak-free task exists
    where the store names leaks. Which classes are averaged depends on the images of the task.
    """
    unseen, every = ~truth.seen, np.ones_like(truth.seen)
    members = {"zsl": (unseen, ("unseen",)), "gzsl": (every, ("unseen", "seen")), "seen": (truth.seen, ("seen",))}
    if truth.leaky.any():
        members[LEAK_FREE] = unseen & ~truth.leaky, (LEAK_FREE,)
    positive = truth.positives(np.ones(len(truth), bool)) > 0
    both = positive[truth.seen].any() and positive[unseen].any()
    for name, (classes, pools) in members.items():
        if not positive[classes].any() or (name == "gzsl" and not both):
            continue
        images = np.ones(len(truth), bool)
        if protocol.images == "with_positive":
            images = truth.positives_of_images(classes) > 0
        averaged = classes
        if protocol.classes == "annotated":
            averaged = classes & (truth.known(images, protocol.absent(truth)) > 0)
        elif protocol.classes == "with_positive":
            averaged = classes & (truth.positives(images) > 0)
        if name == "seen" and protocol.classes == "annotated":
            # BiAM's script drops unannotated classes before F1 here, though not in GZSL
            yield Task(name, averaged, averaged, images, (f"seen of {protocol.name}",), int(averaged.sum()))
        else:
            yield Task(name, classes, averaged, images, pools, int(classes.sum()))


def pools_of(protocols: Sequence[Protocol], truth: Truth) -> dict[str, np.ndarray]:
    """Return pool name -> (n,) class indices, for every pool that a task of the protocols chooses from."""
    pools = {"unseen": ~truth.seen, "seen": truth.seen}
    for protocol in protocols:
        pools |= {task.pools[0]: task.classes for task in tasks_of(protocol, truth) if len(task.pools) == 1}
    return {name: np.flatnonzero(classes) for name, classes in pools.items()}
