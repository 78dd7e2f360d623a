"""Numbers of any range -> 8 bits: which number is black and which is white.

Files declare a range, or their number type does. Scientific cameras and tools often do not: they write 12 bits into 16,
or floats from 0 to 1 beside floats from 0 to 255. Where the numbers plainly use another range than the type has room
for, the range of the nearest usual bit depth is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DEPTHS = (1, 2, 4, 8, 10, 12, 14, 16, 24, 32)  # bits a pixel of usual cameras and formats
FLOAT_TOPS = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0)
PLAINLY = 4  # numbers below a fourth of the range: two bits too few
FLAT = 64  # numbers in a 64th of the range, which are four levels of grey
OVERSHOOT = 0.05  # of floats from 0 to 1, as resizing and sharpening leave
OUTLIER = 10  # a range of floats of more than ten times that of the middle 96 % is one of outliers
NEARLY_BLACK = 16  # integers below a 16th of the range: four bits too few
BULK = 99.9  # percent of the pixels, without hot ones


@dataclass(frozen=True)
class Range:
    """The numbers that are black and white; `guessed` says that they were taken from the pixels."""

    black: float
    white: float
    guessed: bool = False


def range_of_integers(
    low: int, high: int, room: Range, declared: Range | None = None, bulk: float | None = None
) -> Range:
    """Return the range of integers from `low` to `high`, of a type with `room`, in a file that declares a range.

    A declared range counts where all numbers are in it. `bulk` is the largest number but for hot pixels, which do not
    decide where nearly all of the picture would be black.
    """
    if declared and declared.black <= low and high <= declared.white:
        return declared
    if low < 0:
        wide = low * PLAINLY < room.black and high * PLAINLY > room.white
        return room if wide else Range(low, max(high, low + 1), guessed=True)
    if bulk and bulk * NEARLY_BLACK < room.white:
        high = int(bulk)
    if high * PLAINLY > room.white or high == 0:
        return _not_flat(low, high, Range(0, room.white))
    top = next(2**depth - 1 for depth in DEPTHS if high < 2**depth)
    return _not_flat(low, high, Range(0, top if high * PLAINLY > top else high, guessed=True))


def range_of_floats(numbers: np.ndarray, declared: Range | None = None) -> Range:
    """Return the range of finite floats (n,), n > 0: 0..1, -1..1, 0..255 and so on, else that of the numbers."""
    low, high = float(numbers.min()), float(numbers.max())
    if declared and declared.black <= low and high <= declared.white:
        return declared
    if low >= -OVERSHOOT and high <= 1 + OVERSHOOT and (high * PLAINLY > 1 or high <= 0):
        return _not_flat(low, high, Range(0, 1))
    if -1 <= low < 0 and high <= 1 and max(-low, high) * PLAINLY > 1:
        return _not_flat(low, high, Range(-1, 1))
    for top in FLOAT_TOPS:
        if low >= 0 and high <= top < high * PLAINLY:
            return _not_flat(low, high, Range(0, top, guessed=True))
    if low == high:
        return Range(low - 1, high, guessed=True)
    return _without_outliers(numbers, Range(min(low, 0), high, guessed=True))


def _not_flat(low: float, high: float, usual: Range) -> Range:
    """Return a range, or that of the numbers where they would become a few levels of it."""
    flat = 0 < (high - low) * FLAT < usual.white - usual.black
    return Range(low, high, guessed=True) if flat else usual


def _without_outliers(numbers: np.ndarray, found: Range) -> Range:
    low, high = np.percentile(numbers, (2, 98)).tolist()
    middle = high - low
    return Range(low, high, guessed=True) if 0 < OUTLIER * middle < found.white - found.black else found


def to_bytes(numbers: np.ndarray, scale: Range) -> np.ndarray:
    """Return numbers as uint8: black is 0, white is 255, what lies outside is clipped."""
    if (scale.black, scale.white) == (0, 65535) and np.issubdtype(numbers.dtype, np.integer):
        return (numbers.clip(0, 65535) >> 8).astype(np.uint8)
    shares: np.ndarray = (numbers.astype(np.float64) - scale.black) / (scale.white - scale.black)
    rounded: np.ndarray = np.rint(255 * shares.clip(0, 1))
    return rounded.astype(np.uint8)
