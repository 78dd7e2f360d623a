"""Reads chunks of one array straight from their shards into memory that is there already.

Zarr's own reader costs several times what decoding costs (docs/benchmarks.md). This one reads the index of a shard
once, fetches the bytes of a chunk in one piece, checks their crc32c and decompresses them where the caller wants them.
The format is Zarr v3's sharding codec: chunks, then (offset, bytes) of each as uint64, then the index's own crc32c.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import google_crc32c
import numpy as np

from ..errors import C3Error
from .layout import CODECS, Layout, Level
from .storage import Storage, remedy

CRC = 4  # bytes of a crc32c
NO_CHUNK = np.uint64(2**64 - 1)  # how the index says that a chunk was not written


@dataclass(frozen=True)
class LevelFiles:
    """Which array is read and how it is packed."""

    storage: Storage
    split: str
    level: Level
    codec: str
    layout: Layout
    rows: int

    @property
    def name(self) -> str:
        """Its path in the store, `train/pyramid/p8`."""
        return f"{self.split}/{self.level.path}"

    def key(self, shard: int) -> str:
        """The file of a shard."""
        return f"{self.split}/{self.level.shard_path(shard)}"


class ChunkReader:
    """Chunks of one array, by number. Safe to use from several threads, which then decode at the same time."""

    def __init__(self, files: LevelFiles) -> None:
        self.files = files
        self._decompress = CODECS[files.codec].decompress
        self._indexes: dict[int, np.ndarray] = {}
        self._scratch = threading.local()

    def rows_of(self, chunk: int) -> range:
        """The rows that a chunk holds; the last may be short."""
        size = self.files.layout.chunk_rows
        return range(chunk * size, min((chunk + 1) * size, self.files.rows))

    def read(self, chunk: int, out: np.ndarray) -> None:
        """Decode a chunk into `out`, C-contiguous (rows of the chunk, *cell) of the stored dtype.

        Raises C3Error that names the shard when it is lost or damaged.
        """
        layout = self.files.layout
        shard, place = divmod(chunk, layout.shard_rows // layout.chunk_rows)
        whole = out if len(out) == layout.chunk_rows else self._whole_chunk()  # short chunks are stored padded
        try:
            offset, length = (int(value) for value in self._index(shard)[place])
            data = np.frombuffer(self.files.storage.read(self.files.key(shard), offset, offset + length), np.uint8)
            if len(data) != length:
                raise ValueError(f"the file ends inside chunk {place}")
            _check(data, f"chunk {place}")
            self._decompress(data[:-CRC], whole)
        except FileNotFoundError as error:
            raise C3Error(self._named(shard, "is missing, lost or not extracted yet")) from error
        except (ValueError, RuntimeError) as error:  # the decompressors raise RuntimeError
            raise C3Error(self._named(shard, f"is damaged ({error})")) from error
        if whole is not out:
            out[...] = whole[: len(out)]

    def _index(self, shard: int) -> np.ndarray:
        if shard not in self._indexes:
            layout = self.files.layout
            size = 16 * (layout.shard_rows // layout.chunk_rows) + CRC
            data = np.frombuffer(self.files.storage.read(self.files.key(shard), -size), np.uint8)
            if len(data) != size:
                raise ValueError("the file is shorter than its index")
            _check(data, "its index")
            index = data[:-CRC].view("<u8").reshape(-1, 2)
            used = index[: -(-min(layout.shard_rows, self.files.rows - shard * layout.shard_rows) // layout.chunk_rows)]
            if (used == NO_CHUNK).any():
                raise ValueError("chunks were never written")
            self._indexes[shard] = index
        return self._indexes[shard]

    def _whole_chunk(self) -> np.ndarray:
        if not hasattr(self._scratch, "chunk"):
            layout = self.files.layout
            self._scratch.chunk = np.empty((layout.chunk_rows, *self.files.level.cell), layout.dtype)
        return self._scratch.chunk

    def _named(self, shard: int, fault: str) -> str:
        storage = self.files.storage
        return f"{storage.location}: shard {shard} of {self.files.name} {fault}; {remedy(storage)}"


def _check(data: np.ndarray, what: str) -> None:
    if len(data) <= CRC or google_crc32c.value(data[:-CRC]) != int.from_bytes(data[-CRC:], "little"):
        raise ValueError(f"the checksum of {what} does not match")
