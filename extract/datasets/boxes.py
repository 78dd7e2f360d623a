"""Rows that are objects instead of images: each annotated box with some context around it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ...errors import C3Error
from ..catalog import DatasetSpec
from ..manifest import Split
from ..rows import Rows, SparseLabels

LOG = logging.getLogger("c3")


@dataclass(frozen=True)
class BoxOptions:
    """`box_margin` is the context added on every side, as a share of the box's side (clipped at the image's edge).

    `box_min_side` is the smallest side that a box may have, as a share of the image's side; smaller boxes make no row.
    """

    box_margin: float = 0.1
    box_min_side: float = 0.05

    @classmethod
    def of(cls, spec: DatasetSpec) -> BoxOptions:
        """The settings of a catalog entry."""
        chosen = {name: spec.options[name] for name in cls.__dataclass_fields__ if name in spec.options}
        for name, value in chosen.items():
            if not isinstance(value, int | float) or not 0 <= value < 1:
                raise C3Error(f"data set {spec.name} in {spec.catalog}: {name} must be in 0..1, found {value!r}")
        return cls(**chosen)


@dataclass(frozen=True)
class ImageBoxes:
    """Boxes of one split: `row` (boxes,) of the image, `column` (boxes,) class, `corners` (boxes, 4) x0, y0, x1, y1."""

    row: np.ndarray
    column: np.ndarray
    corners: np.ndarray


def box_split(images: Split, boxes: ImageBoxes, options: BoxOptions) -> Split:
    """A row for every box, image by image, then from left to right and from top to bottom.

    A row has its box's class as the one positive, and the classes that are verified to be absent from the whole image
    as negatives: without these a loss over verified labels would have nothing to rank against. A box listed twice is
    one row.
    """
    x0, y0, x1, y1 = boxes.corners.T
    large = np.minimum(x1 - x0, y1 - y0) >= options.box_min_side
    row, column, corners = boxes.row[large], boxes.column[large], boxes.corners[large]
    order = np.lexsort((column, *corners.T[::-1], row))
    row, column, corners = row[order], column[order], corners[order]
    repeated = np.zeros(len(row), bool)
    repeated[1:] = (row[1:] == row[:-1]) & (column[1:] == column[:-1]) & (corners[1:] == corners[:-1]).all(axis=1)
    row, column, corners = row[~repeated], column[~repeated], corners[~repeated]
    LOG.info(
        "boxes: %s rows; left out: %s smaller than %g of a side, %s listed twice, %s images without a box",
        f"{len(row):,}", f"{int((~large).sum()):,}", options.box_min_side, f"{int(repeated.sum()):,}",
        f"{len(images) - len(np.unique(row)):,}",
    )  # fmt: skip
    taken = images.take(row)
    labels = _own_and_absent(taken.rows.labels, column)
    return Split(Rows(taken.rows.image_id, with_margin(corners, options.box_margin), labels), taken.path)


def with_margin(corners: np.ndarray, margin: float) -> np.ndarray:
    """Corners (boxes, 4) grown by `margin` of their width and height on every side, inside the image; float32."""
    size = np.tile(corners[:, 2:] - corners[:, :2], 2)
    return np.clip(corners + margin * size * np.float32([-1, -1, 1, 1]), 0, 1).astype(np.float32)


def _own_and_absent(image_labels: SparseLabels, column: np.ndarray) -> SparseLabels:
    row = np.repeat(np.arange(len(column)), np.diff(image_labels.indptr))
    absent = (image_labels.value < 0) & (image_labels.indices != column[row])
    return SparseLabels.from_pairs(
        len(column),
        np.concatenate([np.arange(len(column)), row[absent]]),
        np.concatenate([column, image_labels.indices[absent]]),
        np.concatenate([np.ones(len(column), np.int8), image_labels.value[absent]]),
    )
