"""Rows for objects instead of images: each annotated box, with some context around it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..catalog.specs import BoxedSpec
from ..store.tables import Rows, SparseLabels
from .orientation import AnnotatedPictures, orientations, turn

LOG = logging.getLogger(__name__)
STEP = 1 << 20  # boxes at a time, to bound memory
ROUNDING = 1e-6  # of a side: a box that is so little outside is not counted as clipped


@dataclass(frozen=True)
class ImageBoxes:
    """The boxes of one split, as the annotation file `where` has them.

    `row` (boxes,) is the row of the image, `column` (boxes,) the class, `corners` (boxes, 4) are x0, y0, x1, y1 as
    shares of the image; they may lie beyond it. `size` (images, 2) is width and height of every image as annotated,
    None where the annotations state none.
    """

    row: np.ndarray
    column: np.ndarray
    corners: np.ndarray
    where: Path
    size: np.ndarray | None = None


def box_split(images: Rows, boxes: ImageBoxes, spec: BoxedSpec) -> Rows:
    """Return one row per box, ordered by image, then from left to right and from top to bottom.

    The only positive label of a row is the class of its box. Its negatives are the classes verified to be absent from
    the whole image: without them a loss over verified labels has nothing to rank against. Boxes are turned upright with
    their images and clipped to them; those without an area, and repeated ones, are left out.
    """
    corners = _upright(images, boxes, spec)
    inside = np.clip(corners, 0, 1).astype(np.float32)
    clipped = int((np.abs(inside - corners) > ROUNDING).any(axis=1).sum())
    width, height = (inside[:, 2:] - inside[:, :2]).T
    empty = (width <= 0) | (height <= 0)
    large = np.flatnonzero(~empty & (np.minimum(width, height) >= spec.box_min_side))
    chosen = large[np.lexsort((boxes.column[large], *inside[large].T[::-1], boxes.row[large]))]
    row, column, corners = boxes.row[chosen], boxes.column[chosen], inside[chosen]
    again = (row[1:] == row[:-1]) & (column[1:] == column[:-1]) & (corners[1:] == corners[:-1]).all(axis=1)
    kept = np.concatenate([np.ones(min(len(row), 1), bool), ~again])
    row, column, corners = row[kept], column[kept], corners[kept]
    LOG.info(
        "boxes: %s rows; left out: %s without an area, %s smaller than %g of a side, %s repeated, %s images without a "
        "box; clipped to their images: %s",
        f"{len(row):,}", f"{int(empty.sum()):,}", f"{len(boxes.row) - len(large) - int(empty.sum()):,}",
        spec.box_min_side, f"{int((~kept).sum()):,}", f"{len(images) - len(np.unique(row)):,}", f"{clipped:,}",
    )  # fmt: skip
    labels = _own_and_absent(images.labels, row, column)
    crops = with_margin(corners, spec.box_margin)
    return Rows(images.image_id.take(row), crops, labels, images.path.take(row))


def _upright(images: Rows, boxes: ImageBoxes, spec: BoxedSpec) -> np.ndarray:
    """Return the corners of the boxes (boxes, 4) in shares of the upright images."""
    row, place = np.unique(boxes.row, return_inverse=True)
    size = None if boxes.size is None else boxes.size[row]
    pictures = AnnotatedPictures(spec.root / spec.images, images.path[row], size, boxes.where)
    return turn(boxes.corners, orientations(pictures)[place])


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
