"""Rows for objects instead of images: each annotated box, with some context around it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from ..catalog.specs import BoxedSpec
from ..store.tables import Rows, SparseLabels

LOG = logging.getLogger(__name__)
STEP = 1 << 20  # boxes at a time, to bound memory


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one split.

    `row` (boxes,) is the row of the image, `column` (boxes,) the class, `corners` (boxes, 4) are x0, y0, x1, y1 as
    shares of the image.
    """

    row: np.ndarray
    column: np.ndarray
    corners: np.ndarray


def box_split(images: Rows, boxes: ImageBoxes, spec: BoxedSpec) -> Rows:
    """Return one row per box, ordered by image, then from left to right and from top to bottom.

    The only positive label of a row is the class of its box. Its negatives are the classes verified to be absent from
    the whole image: without them a loss over verified labels has nothing to rank against. Repeated boxes are one row.
    """
    width, height = (boxes.corners[:, 2:] - boxes.corners[:, :2]).T
    large = np.flatnonzero(np.minimum(width, height) >= spec.box_min_side)
    chosen = large[np.lexsort((boxes.column[large], *boxes.corners[large].T[::-1], boxes.row[large]))]
    row, column, corners = boxes.row[chosen], boxes.column[chosen], boxes.corners[chosen]
    again = (row[1:] == row[:-1]) & (column[1:] == column[:-1]) & (corners[1:] == corners[:-1]).all(axis=1)
    kept = np.concatenate([np.ones(min(len(row), 1), bool), ~again])
    row, column, corners = row[kept], column[kept], corners[kept]
    LOG.info(
        "boxes: %s rows; left out: %s smaller than %g of a side, %s repeated, %s images without a box",
        f"{len(row):,}", f"{len(boxes.row) - len(large):,}", spec.box_min_side, f"{int((~kept).sum()):,}",
        f"{len(images) - len(np.unique(row)):,}",
    )  # fmt: skip
    labels = _own_and_absent(images.labels, row, column)
    crops = with_margin(corners, spec.box_margin)
    return Rows(images.image_id[row], crops, labels, images.path[row])


def with_margin(corners: np.ndarray, margin: float) -> np.ndarray:
    """Grow corners (boxes, 4) by a share `margin` of width and height on every side, clipped to the image; float32."""
    size = np.tile(corners[:, 2:] - corners[:, :2], 2)
    return np.clip(corners + margin * size * np.array([-1, -1, 1, 1], np.float32), 0, 1).astype(np.float32)


def _own_and_absent(image_labels: SparseLabels, row: np.ndarray, column: np.ndarray) -> SparseLabels:
    """Return the labels of boxes that lie in images `row` and show classes `column`, both (boxes,)."""
    pieces = []
    for start in range(0, len(row), STEP):
        own = column[start : start + STEP]
        image = image_labels.take(row[start : start + STEP])
        box = np.repeat(np.arange(len(own)), np.diff(image.indptr))
        absent = (image.value < 0) & (image.indices != own[box])
        pieces.append(
            SparseLabels.from_pairs(
                len(own),
                np.concatenate([np.arange(len(own)), box[absent]]),
                np.concatenate([own, image.indices[absent]]),
                np.concatenate([np.ones(len(own), np.int8), image.value[absent]]),
            )
        )
    return SparseLabels.join(pieces)
