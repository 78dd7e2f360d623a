"""Shards, the unit of writing and resuming: maps, scales and statuses first, the `done` flag last.

The flag alone says that a shard exists, because Zarr reads a chunk without a file as zeros.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np

from . import quantise
from .shape import StoreShape
from .storage import Storage
from .zarr_arrays import ZarrArrays


class Shards:
    """The shards of one store."""

    def __init__(self, storage: Storage, arrays: ZarrArrays, shape: StoreShape) -> None:
        self._storage, self._arrays, self._shape = storage, arrays, shape

    def finished(self, split: str) -> list[int]:
        """Return the shards that are written, in order."""
        flags = (int(name) for name in self._storage.names(f"{split}/done/c") if name.isdigit())
        return sorted(shard for shard in flags if shard < self._shape.shards(split))

    def pending(self, split: str) -> list[int]:
        """Return the shards that are not written yet, in order."""
        return sorted(set(range(self._shape.shards(split))).difference(self.finished(split)))

    def is_done(self, split: str, shard: int) -> bool:
        """Return whether a shard is written, as of now."""
        try:
            self._storage.read(self._shape.done_key(split, shard))
        except FileNotFoundError:
            return False
        return True

    def claim(self, split: str, shard: int) -> AbstractContextManager[bool]:
        """Hold the right to write a shard; gives False while another process of this file system holds it."""
        return self._storage.claim(self._shape.number(split, shard))

    def write(self, split: str, shard: int, maps: Mapping[str, np.ndarray], status: np.ndarray) -> None:
        """Write one whole shard: `maps[name]` (rows, *cell) float16 or float32 of every array, `status` (rows,) uint8.

        float32 is for values beyond float16. What the shard held before is replaced.
        """
        shape = self._shape
        rows = shape.shard_rows(split, shard)
        where = slice(rows.start, rows.stop)
        for array in shape.arrays:
            expected = (len(rows), *array.cell)
            found = (maps[array.name].shape, str(maps[array.name].dtype))
            if found[0] != expected or found[1] not in ("float16", "float32"):
                raise ValueError(f"{split}/{array.path}: expected {expected} float16, found {found}")
        encoded = {array.path: quantise.encode(maps[array.name], shape.layout.dtype) for array in shape.arrays}
        self.forget(split, shard)
        for path, (stored, _) in encoded.items():
            self._arrays.write(f"{split}/{path}", where, stored)
        scale = np.concatenate([scale for _, scale in encoded.values()])
        self._arrays.write(f"{split}/scale", shard, scale)
        self._note_wide(split, scale)
        self._arrays.write(f"{split}/status", where, status)
        self._storage.flush(shape.shard_keys(split, shard))
        self._arrays.write(f"{split}/done", shard, 1)
        self._storage.flush([shape.done_key(split, shard)])

    def forget(self, split: str, shard: int) -> None:
        """Make a shard pending again. The flag goes first, so that the rest is never taken for finished."""
        self._storage.delete(self._shape.done_key(split, shard))
        self._storage.delete(f"{split}/status/c/{shard}")
        for folder in (f"{split}/scale/c", *(f"{split}/{array.path}/c" for array in self._shape.arrays)):
            self._storage.delete_folder(f"{folder}/{shard}")

    def adopt(self, split: str, shard: int, source: Storage, theirs: StoreShape, source_shard: int) -> None:
        """Take over a finished shard of a store of the same arrays and layout, as files, its flag last."""
        keys = zip(self._shape.shard_keys(split, shard), theirs.shard_keys(split, source_shard), strict=True)
        for key, their_key in keys:
            self._storage.adopt(source, their_key, key)
        self._note_wide(split, self._arrays.read(f"{split}/scale", shard))
        self._storage.adopt(source, theirs.done_key(split, source_shard), self._shape.done_key(split, shard))

    def wide(self, split: str) -> np.ndarray:
        """Return (arrays,) bool: whether any shard of an array holds values beyond float16."""
        return self._arrays.read(f"{split}/wide").astype(bool)

    def mend_wide(self, split: str) -> None:
        """Write the flags `wide` again from the scales of the finished shards."""
        self._storage.delete_folder(f"{split}/wide/c")
        for shard in self.finished(split):
            self._note_wide(split, self._arrays.read(f"{split}/scale", shard))

    def _note_wide(self, split: str, scale: np.ndarray) -> None:
        for number, place in enumerate(self._shape.scale_places):
            if quantise.is_wide(scale[place], self._shape.layout.dtype):
                self._arrays.write(f"{split}/wide", number, 1)
