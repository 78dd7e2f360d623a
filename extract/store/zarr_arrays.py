"""The small arrays of a store (tables, flags, scales), read and written through zarr-python."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr
from zarr.core.array_spec import ArrayConfigParams

from .storage import Storage

# Every chunk of a written shard gets a file, so that "no file" can never mean "all zeros".
ALWAYS_STORE: ArrayConfigParams = {"write_empty_chunks": True}


class ZarrArrays:
    """Arrays by their path, `train/status`. Each is opened once."""

    def __init__(self, storage: Storage, group: zarr.Group) -> None:
        self.storage = storage
        self._group = group
        self._opened: dict[str, zarr.Array[Any]] = {}

    def read(self, path: str, where: int | slice = slice(None)) -> np.ndarray:
        """Return a part of an array. Raises StoreDamaged when its checksum does not match or it cannot be decoded."""
        try:
            return np.asarray(self._array(path)[where])
        except (ValueError, RuntimeError) as error:
            raise self.storage.damaged(f"{path} is damaged ({error})") from error

    def table(self, path: str) -> np.ndarray:
        """Return a whole table. Raises StoreDamaged when a file of it is lost, which Zarr would read as zeros."""
        array = self._array(path)
        for chunk in range(-(-array.shape[0] // array.chunks[0])):
            folder, _, name = "/".join([path, "c", str(chunk), *["0"] * (array.ndim - 1)]).rpartition("/")
            if name not in self.storage.names(folder):
                raise self.storage.damaged(f"{folder}/{name} is missing")
        return self.read(path)

    def write(self, path: str, where: int | slice, values: np.ndarray | int) -> None:
        """Write a part of an array; the chunks that it covers get a file even when they hold zeros."""
        self._array(path)[where] = values

    def _array(self, path: str) -> zarr.Array[Any]:
        if path not in self._opened:
            found = self._group[path]
            if not isinstance(found, zarr.Array):
                raise self.storage.damaged(f"{path} is not an array")
            self._opened[path] = found.with_config(ALWAYS_STORE)
        return self._opened[path]
