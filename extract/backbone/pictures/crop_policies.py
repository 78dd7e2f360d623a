"""Crop policies: which parts of every image become rows. Boxes are shares of the sides, so no image is opened."""

from __future__ import annotations

WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)
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
BOXES = "boxes"  # one row for every annotated object; the reader of the data set makes them
NAMES = (*POLICIES, BOXES)
