"""Turn annotated boxes with their pictures: EXIF turns a picture upright, its boxes were drawn before or after that.

Only the headers of pictures with boxes are read, 30 to 90 microseconds each on a local disk.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.errors import C3Error
from ...common.lookahead import look_ahead
from ...common.progress import progress
from ..backbone.pictures.frame import read_frame

LOG = logging.getLogger(__name__)
THREADS = 8  # a network disk answers them at once
STEP = 256  # headers that a thread reads at a time
EXCHANGES = (5, 6, 7, 8)  # EXIF orientations that exchange x and y, before they flip
FLIPS_X, FLIPS_Y = (2, 3, 6, 7), (3, 4, 7, 8)


@dataclass(frozen=True)
class AnnotatedPictures:
    """Pictures with boxes: `path` (pictures,) text below `root`, and their annotation file `where`.

    `size` (pictures, 2) is width and height as the annotations state them, None where they state none.
    """

    root: Path
    path: np.ndarray
    size: np.ndarray | None
    where: Path


def orientations(pictures: AnnotatedPictures) -> np.ndarray:
    """Return (pictures,) int32: the EXIF orientation by which the boxes of a picture are turned, 1 for none.

    Boxes without sizes lie in the stored pixels. Otherwise the stated size is that of the stored pixels or that of the
    upright picture, and tells where the boxes lie. Where it is both (half turns, mirrors, squares), they lie as in the
    other pictures of the file, and in the stored pixels where these do not tell. Pictures that cannot be read have 1.
    Raises C3Error naming a picture of another size; a picture that was scaled as a whole is fine.
    """
    frames = _frames(pictures)
    stored, orientation = frames[:, :2], frames[:, 2]
    turned = orientation > 1
    if pictures.size is None:
        lie_upright = np.zeros_like(turned)
    else:
        upright = np.where(np.isin(orientation, EXCHANGES)[:, None], stored[:, ::-1], stored)
        as_stored, as_upright = _fits(pictures.size, stored, upright)
        _require_size(pictures, frames, as_stored | as_upright)
        lie_upright = as_upright & ~as_stored & turned
        if lie_upright.any() and not (as_stored & ~as_upright & turned).any():
            lie_upright = as_upright & turned
        elif (open_ := as_stored & as_upright & turned).any():
            LOG.warning(
                "%s: the sizes of %s pictures do not tell whether their boxes were drawn before or after EXIF turned "
                "the picture; they are taken as before (first: %s)",
                pictures.where, f"{int(open_.sum()):,}", pictures.path[open_][0],
            )  # fmt: skip
    turns: np.ndarray = np.where(lie_upright, 1, orientation)
    if turned.any():
        LOG.info("%s: EXIF turns %s pictures with boxes; the boxes of %s are turned with them", pictures.where.name,
                 f"{int(turned.sum()):,}", f"{int((turns > 1).sum()):,}")  # fmt: skip
    return turns


def turn(corners: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """Turn corners (boxes, 4) x0, y0, x1, y1 in shares of the stored picture by EXIF orientations (boxes,)."""
    exchange = np.isin(orientation, EXCHANGES)
    turned = np.where(exchange[:, None], corners[:, [1, 0, 3, 2]], corners)
    for axis, flips in enumerate((FLIPS_X, FLIPS_Y)):
        flip = np.isin(orientation, flips)
        turned[flip, axis], turned[flip, axis + 2] = 1 - turned[flip, axis + 2], 1 - turned[flip, axis]
    return turned


def _fits(size: np.ndarray, stored: np.ndarray, upright: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two (pictures,) bool: whether the stated sizes are those of the stored and of the upright pictures.

    Sizes that are equal to the pixel beat those that are equal in proportion.
    """
    equal = [(size == found).all(axis=1) for found in (stored, upright)]
    alike = [
        np.abs(size[:, 0] * found[:, 1] - size[:, 1] * found[:, 0]) <= np.maximum(size, found).max(axis=1)
        for found in (stored, upright)
    ]
    return alike[0] & (equal[0] | ~equal[1]), alike[1] & (equal[1] | ~equal[0])


def _require_size(pictures: AnnotatedPictures, frames: np.ndarray, fits: np.ndarray) -> None:
    wrong = np.flatnonzero((frames[:, 0] > 0) & ~fits)
    if len(wrong) and pictures.size is not None:
        width, height = pictures.size[wrong[0]]
        raise C3Error(
            f"{pictures.root / str(pictures.path[wrong[0]])} has {frames[wrong[0], 0]} x {frames[wrong[0], 1]} pixels, "
            f"expected {width:g} x {height:g} (width x height in {pictures.where}), so that its boxes would show other "
            f"places ({len(wrong):,} such pictures); give the pictures that were annotated, or use --crops whole"
        )


def _frames(pictures: AnnotatedPictures) -> np.ndarray:
    """Return (pictures, 3) int32: stored width, stored height and orientation; 0, 0 and 1 where none can be read."""
    count = len(pictures.path)
    steps = (pictures.path[start : start + STEP] for start in range(0, count, STEP))
    frames = [np.empty((0, 3), np.int32)]
    with ThreadPoolExecutor(THREADS, "header") as threads, progress("reading sizes", count, "pictures") as bar:

        def start(paths: np.ndarray) -> Future[np.ndarray]:
            return threads.submit(_read, pictures.root, paths)

        with closing(look_ahead(start, steps, 2 * THREADS)) as found:
            for some in found:
                frames.append(some)
                bar.advance(len(some), failed=int((some[:, 0] == 0).sum()))
    return np.concatenate(frames)


def _read(root: Path, paths: np.ndarray) -> np.ndarray:
    def rows() -> Iterator[tuple[int, int, int]]:
        for path in paths:
            frame = read_frame(root / str(path))
            yield (*frame.size, frame.orientation) if frame else (0, 0, 1)

    return np.array(list(rows()), np.int32)
