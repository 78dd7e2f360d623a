"""Crop policies: which parts of every image become rows. Boxes are shares of the image, so no image is opened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import unknown_name
from .manifest import WHOLE_IMAGE, Manifest, Split
from .rows import Rows

SIDE = 0.875  # of each side: 224 of the usual 256 pixels
_NEAR, _FAR = (1 - SIDE) / 2, (1 + SIDE) / 2
CENTER = (_NEAR, _NEAR, _FAR, _FAR)
CORNERS = ((0, 0, SIDE, SIDE), (1 - SIDE, 0, 1, SIDE), (0, 1 - SIDE, SIDE, 1), (1 - SIDE, 1 - SIDE, 1, 1))
FIVE = (CENTER, *CORNERS)
MIRRORED = tuple((x1, y0, x0, y1) for x0, y0, x1, y1 in FIVE)  # x0 > x1: the crop is flipped from left to right

POLICIES: dict[str, tuple[tuple[float, ...], ...]] = {
    "whole": (WHOLE_IMAGE,),
    "center": (CENTER,),
    "five": FIVE,
    "ten": FIVE + MIRRORED,
}
BOXES = "boxes"  # the reader of the data set makes these rows: one for every annotated object
NAMES = (*POLICIES, BOXES)


def crop_manifest(manifest: Manifest, policy: str) -> Manifest:
    """Turn whole images into the crops of a policy, image by image: the crops of an image are neighbours.

    Every crop has the labels and the image_id of its image. Like `whole`, each is resized to a square.
    """
    if policy not in NAMES:
        raise unknown_name("crop policy", policy, NAMES)
    if policy in ("whole", BOXES):
        return replace(manifest, crops=policy)
    crops = np.array(POLICIES[policy], np.float32)
    return replace(
        manifest, crops=policy, splits={name: _expand(split, crops) for name, split in manifest.splits.items()}
    )


def _expand(split: Split, crops: np.ndarray) -> Split:
    repeated = split.take(np.repeat(np.arange(len(split)), len(crops)))
    rows = Rows(repeated.rows.image_id, np.tile(crops, (len(split), 1)), repeated.rows.labels)
    return Split(rows, repeated.path)
