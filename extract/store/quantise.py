"""Features of any float range -> the numbers that a store holds, and back. Pure numpy.

A stored value q stands for q * step + offset. float16 keeps values as they are (step 1, offset 0) unless one is beyond
65,504: then the array of that shard is divided by a power of two. int8 has a step and an offset for every channel.
"""

from __future__ import annotations

import numpy as np

from ...common.errors import C3Error

FLOAT16_MAX = float(np.finfo(np.float16).max)


def along_channels(values: np.ndarray, ndim: int) -> np.ndarray:
    """Return (n,) values of channels, shaped to broadcast over cells of `ndim` dimensions, channels first."""
    return values.reshape(-1, *(1,) * (ndim - 1))


def encode(maps: np.ndarray, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Return stored values of `dtype` for (rows, channels, ...) float16 or float32, and their (n, 2) step and offset.

    Step and offset are float32; n is 1 for float16 and the number of channels for int8. float16 is exact except for
    the rounding of float32 input; int8 errs by at most half a step, 1/510 of a channel's range in the shard. Raises
    C3Error for NaN and infinity.
    """
    low, high = float(maps.min(initial=0)), float(maps.max(initial=0))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise C3Error("the maps hold NaN or infinity, which nothing can store; is --precision too low?")
    if dtype == "int8":
        return _to_int8(maps)
    largest = max(high, -low)
    step = 1.0 if largest <= FLOAT16_MAX else 2.0 ** np.ceil(np.log2(largest / FLOAT16_MAX))
    stored = maps if maps.dtype == np.float16 else (maps / np.float32(step)).astype(np.float16)
    return stored, np.array([[step, 0]], np.float32)


def _to_int8(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    others = (0, *range(2, maps.ndim))
    low = np.minimum(maps.min(axis=others, initial=0), 0).astype(np.float32)  # so that 0 stays exactly 0 where
    high = np.maximum(maps.max(axis=others, initial=0), 0).astype(np.float32)  # nothing is negative
    step = (high - low) / np.float32(255)
    step[step == 0] = 1
    # in place and in one float32 copy: this runs beside the backbone
    scaled = maps.astype(np.float32)
    scaled -= along_channels(low, maps.ndim - 1)
    scaled /= along_channels(step, maps.ndim - 1)
    np.rint(scaled, out=scaled)
    scaled -= 128
    return np.clip(scaled, -128, 127, out=scaled).astype(np.int8), np.stack([step, low + 128 * step], axis=1)


def is_wide(scale: np.ndarray, dtype: str) -> bool:
    """Return whether decoded values can be beyond float16, so that they need float32."""
    if dtype == "float16":
        return bool((scale[:, 0] != 1).any())
    ends = np.abs(scale[:, :1] * np.array([-128, 127], np.float32) + scale[:, 1:])
    return bool((ends > FLOAT16_MAX).any())


def decode(stored: np.ndarray, scale: np.ndarray, out: np.ndarray) -> None:
    """Decode stored values (rows, channels, ...) into `out`, float16 or float32 of the same shape."""
    if stored.dtype == np.float16 and scale[0, 0] == 1:
        out[...] = stored
        return
    step, offset = (along_channels(column, stored.ndim - 1) for column in scale.T)
    wide = out if out.dtype == np.float32 else np.empty(out.shape, np.float32)
    np.multiply(stored, step, out=wide, dtype=np.float32)
    wide += offset
    if wide is not out:
        out[...] = wide
