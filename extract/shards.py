"""The shards of a store: which are written, writing one, and everything that is kept of one beside its maps."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import IntEnum
from functools import cached_property
from typing import Any

import numpy as np
import zarr

from ..errors import C3Error
from . import quantise
from .layout import Layout, Level
from .maps import LevelMaps
from .skeleton import ALWAYS_STORE
from .storage import Storage, remedy


class Status(IntEnum):
    """What became of a row. Anything but OK has a zero map and is masked when read."""

    PENDING = 0
    OK = 1
    MISSING = 2
    UNREADABLE = 3
    EMPTY = 4
    TOO_SMALL = 5


class ShardStore:
    """An open store as a set of shards; `FeatureCache` adds what is in them."""

    def __init__(self, storage: Storage, group: zarr.Group) -> None:
        self.storage = storage
        self.location = storage.location
        self._group = group
        self._opened: dict[str, zarr.Array] = {}
        self._maps: dict[tuple[str, str], LevelMaps] = {}  # readers, which remember where the chunks of a shard are
        self.attrs: dict[str, Any] = dict(group.attrs)
        self.config: dict[str, Any] = self.attrs["config"]
        self.arrays = tuple(Level(**record) for record in self.attrs["levels"])
        self.levels = tuple(array for array in self.arrays if array.pooled)
        self.extras = tuple(array for array in self.arrays if not array.pooled)
        self.layout = Layout(**self.attrs["layout"])

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.attrs["splits"])

    def rows(self, split: str) -> int:
        """The number of rows of a split; an unknown split is refused."""
        if split not in self.splits:
            raise C3Error(f"{self.location} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.attrs["splits"][split]

    def shards(self, split: str) -> int:
        return -(-self.rows(split) // self.layout.shard_rows)

    def shard_rows(self, split: str, shard: int) -> range:
        start = shard * self.layout.shard_rows
        return range(start, min(start + self.layout.shard_rows, self.rows(split)))

    def finished(self, split: str) -> list[int]:
        """The shards that are written, in order."""
        flags = (int(name) for name in self.storage.names(f"{split}/done/c") if name.isdigit())
        return sorted(shard for shard in flags if shard < self.shards(split))

    def pending(self, split: str) -> list[int]:
        """The shards that are not written yet, in order."""
        return sorted(set(range(self.shards(split))).difference(self.finished(split)))

    def is_done(self, split: str, shard: int) -> bool:
        """Whether a shard is written, as of now."""
        try:
            self.storage.read(f"{split}/done/c/{shard}")
        except FileNotFoundError:
            return False
        return True

    def status(self, split: str, rows: range | None = None) -> np.ndarray:
        """(rows,) uint8, values of `Status`: of all rows of a split, or of neighbouring ones."""
        return self._read(split, "status", slice(None) if rows is None else slice(rows.start, rows.stop))

    def done_flag(self, split: str, shard: int) -> int:
        """The value of a shard's flag: 1 when it is written."""
        return int(self._read(split, "done", shard))

    def wide_arrays(self, split: str) -> np.ndarray:
        """(arrays,) bool: whether any shard of an array holds values beyond float16."""
        return self._table(split, "wide").astype(bool)

    def mend_wide(self, split: str) -> None:
        """Write `wide_arrays` again from the scales of the finished shards."""
        self._maps.clear()
        self.storage.delete_folder(f"{split}/wide/c")
        for shard in self.finished(split):
            self._note_wide(split, self._read(split, "scale", shard))

    def claim(self, split: str, shard: int) -> AbstractContextManager[bool]:
        """Hold the right to write a shard; gives False while another process of this file system holds it."""
        before = self.splits[: self.splits.index(split)]
        return self.storage.claim(sum(self.shards(other) for other in before) + shard)

    def write_shard(self, split: str, shard: int, maps: Mapping[str, np.ndarray], status: np.ndarray) -> None:
        """Write one whole shard: `maps[name]` (rows, *cell) float16 or float32 of every array, `status` (rows,) uint8.

        float32 is for values beyond float16. What the shard held before is replaced.
        """
        rows = self.shard_rows(split, shard)
        where = slice(rows.start, rows.stop)
        for array in self.arrays:
            expected = (len(rows), *array.cell)
            found = (maps[array.name].shape, str(maps[array.name].dtype))
            if found[0] != expected or found[1] not in ("float16", "float32"):
                raise ValueError(f"{split}/{array.path}: expected {expected} float16, found {found}")
        encoded = {array.path: quantise.encode(maps[array.name], self.layout.dtype) for array in self.arrays}
        self.forget_shard(split, shard)
        for path, (stored, _) in encoded.items():
            self._array(split, path)[where] = stored
        scale = np.concatenate([scale for _, scale in encoded.values()])
        self._array(split, "scale")[shard] = scale
        self._note_wide(split, scale)
        self._array(split, "status")[where] = status
        self.storage.flush(self.shard_keys(split, shard))
        self._array(split, "done")[shard] = 1
        self.storage.flush([f"{split}/done/c/{shard}"])

    def forget_shard(self, split: str, shard: int) -> None:
        """Make a shard pending again. The flag goes first, so that what is left is never taken for finished."""
        self._maps.clear()
        self.storage.delete(f"{split}/done/c/{shard}")
        self.storage.delete(f"{split}/status/c/{shard}")
        for folder in (f"{split}/scale/c", *(f"{split}/{array.path}/c" for array in self.arrays)):
            self.storage.delete_folder(f"{folder}/{shard}")

    def adopt_shard(self, split: str, shard: int, source: ShardStore, source_shard: int) -> None:
        """Take over a finished shard of a store of the same arrays and layout, as files, its flag last."""
        for key, theirs in zip(self.shard_keys(split, shard), source.shard_keys(split, source_shard), strict=True):
            self.storage.adopt(source.storage, theirs, key)
        self._note_wide(split, self._read(split, "scale", shard))
        self.storage.adopt(source.storage, f"{split}/done/c/{source_shard}", f"{split}/done/c/{shard}")

    def shard_keys(self, split: str, shard: int) -> list[str]:
        """The files of a shard but for its flag."""
        maps = [f"{split}/{array.shard_path(shard)}" for array in self.arrays]
        return [*maps, f"{split}/scale/c/{shard}/0/0", f"{split}/status/c/{shard}"]

    def _note_wide(self, split: str, scale: np.ndarray) -> None:
        for number, place in enumerate(self._scale_places):
            if quantise.is_wide(scale[place], self.layout.dtype):
                self._array(split, "wide")[number] = 1

    @cached_property
    def _scale_places(self) -> list[slice]:
        """Where the steps and offsets of each array are among those of a shard."""
        ends = np.cumsum([array.channels if self.layout.dtype == "int8" else 1 for array in self.arrays])
        return [slice(start, end) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]

    def _table(self, split: str, name: str) -> np.ndarray:
        return self._read(split, name, slice(None))

    def _read(self, split: str, name: str, where: Any) -> np.ndarray:
        try:
            return self._array(split, name)[where]
        except (ValueError, RuntimeError) as error:  # checksum mismatch, or a codec that cannot decode
            raise C3Error(f"{self.location}: {split}/{name} is damaged ({error}); {self._remedy}") from error

    @property
    def _remedy(self) -> str:
        return remedy(self.storage)

    def _array(self, split: str, name: str) -> zarr.Array:
        if split != "classes":
            self.rows(split)
        key = f"{split}/{name}"
        if key not in self._opened:
            self._opened[key] = self._group[key].with_config(ALWAYS_STORE)
        return self._opened[key]
