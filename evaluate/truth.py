"""The labels that a split is measured by: one sparse row an image, read by class. numpy only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from shlex import quote

import numpy as np

from ..common.errors import C3Error
from ..extract.store.cache import FeatureCache, Status
from ..extract.store.tables import SparseLabels


@dataclass(frozen=True)
class ClassLabels:
    """The listed labels of one class: image (n,) in ascending order, positive (n,) bool, entry (n,) of the rows."""

    image: np.ndarray
    positive: np.ndarray
    entry: np.ndarray


@dataclass(frozen=True)
class Truth:
    """Labels of the images that can be measured, with the classes they speak of.

    ids (images,) text, labels one row an image, absent -1 or 0 (what an unlisted label means), names (classes,), seen
    (classes,) bool, leaky (classes,) bool: unseen classes that are near-duplicates of a seen one. of_row (used rows,)
    is the image of every usable row of the split, in row order: rows of one image are its crops, and are neighbours.
    """

    ids: np.ndarray
    labels: SparseLabels
    absent: int
    names: tuple[str, ...]
    seen: np.ndarray
    leaky: np.ndarray
    of_row: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def of_seen(self) -> Truth:
        """Return the same images with the seen classes only."""
        kept = np.flatnonzero(self.seen)
        return replace(
            self,
            labels=self.labels.keep_classes(self.seen),
            names=tuple(self.names[index] for index in kept),
            seen=self.seen[kept],
            leaky=self.leaky[kept],
        )

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.names)

    @cached_property
    def image(self) -> np.ndarray:
        """Return (entries,) the image of every listed label."""
        return self.labels.row

    @cached_property
    def _by_class(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.labels.indices, kind="stable")
        return order, np.searchsorted(self.labels.indices[order], np.arange(self.classes + 1))

    def of_class(self, index: int) -> ClassLabels:
        """Return the listed labels of one class."""
        order, edges = self._by_class
        entry = order[edges[index] : edges[index + 1]]
        return ClassLabels(self.image[entry], self.labels.value[entry] > 0, entry)

    def positives(self, images: np.ndarray) -> np.ndarray:
        """Return (classes,) how many of the images (images,) bool have each class."""
        return self._count(images, self.labels.value > 0)

    def known(self, images: np.ndarray, absent: int) -> np.ndarray:
        """Return (classes,) how many of the images have a known label of each class, where unlisted means `absent`."""
        if absent == -1:
            return np.full(self.classes, np.count_nonzero(images))
        return self._count(images, np.ones(len(self.labels.value), bool))

    def positives_of_images(self, classes: np.ndarray) -> np.ndarray:
        """Return (images,) how many of the classes (classes,) bool each image has."""
        wanted = (self.labels.value > 0) & classes[self.labels.indices]
        return np.bincount(self.image[wanted], minlength=len(self))

    def is_positive(self, start: int, stop: int) -> np.ndarray:
        """Return (stop - start, classes) bool: the positive labels of images start..stop."""
        return self.labels.take(np.arange(start, stop)).dense(self.classes, absent=0) > 0

    def _count(self, images: np.ndarray, entries: np.ndarray) -> np.ndarray:
        return np.bincount(self.labels.indices[entries & images[self.image]], minlength=self.classes)


def read_truth(cache: FeatureCache, split: str) -> Truth:
    """Return the truth of the usable rows of a split (status OK); the crops of one image are one row of it.

    Raises C3Error when no row is usable, no image has a positive label, or crops of an image differ in their labels.
    """
    rows = cache.rows(split)
    used = np.flatnonzero(cache.status(split) == Status.OK)
    if not len(used):
        what = f"none of {rows} rows of {split} is usable" if rows else f"split {split} is empty"
        raise C3Error(f"{cache.location}: {what}; see: c3 inspect {quote(cache.location)}")
    ids = cache.image_ids(split)[used]
    starts = np.append(True, ids[1:] != ids[:-1])
    first, of_row = np.flatnonzero(starts), np.cumsum(starts) - 1
    listed = cache.labels(split).take(used)
    labels = listed.take(first)
    if len(first) < len(used):
        _require_equal_crops(cache, ids, listed, labels.take(of_row))
    if not (labels.value > 0).any():
        raise C3Error(
            f"{cache.location}: none of {len(used)} usable rows of {split} has a positive label to measure by; "
            "choose a split that is labelled with --split"
        )
    return Truth(
        ids=ids[first],
        labels=labels,
        absent=cache.absent_label,
        names=cache.classes.names,
        seen=cache.classes.seen,
        leaky=_leaky(cache),
        of_row=of_row,
    )


def _require_equal_crops(cache: FeatureCache, ids: np.ndarray, listed: SparseLabels, expected: SparseLabels) -> None:
    lengths = np.diff(listed.indptr) != np.diff(expected.indptr)
    if not lengths.any():
        different = (listed.indices != expected.indices) | (listed.value != expected.value)
        lengths = np.bincount(listed.row[different], minlength=len(ids))
    if lengths.any():
        image = ids[np.flatnonzero(lengths)[0]]
        raise C3Error(
            f"{cache.location}: the crops of image {image} have different labels; an image has one set of labels"
        )


def _leaky(cache: FeatureCache) -> np.ndarray:
    """Return (classes,) bool: the unseen classes that the store names as near-duplicates of seen ones."""
    leaks = cache.notes.leaks or {}
    return np.asarray([name in leaks for name in cache.classes.names] & ~cache.classes.seen)
