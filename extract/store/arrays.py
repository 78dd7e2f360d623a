"""The features of one array: chunks are read straight from their shards and decoded when the array is indexed.

Zarr's own reader takes several times as long as decoding does (docs/benchmarks.md). This one reads the index of a shard
once, announces the chunks that it will read, fetches each in one piece, checks its crc32c and decompresses it into the
caller's array. The format is the sharding codec of Zarr v3: chunks, then (offset, bytes) of each as uint64, then the
crc32c of that index. No file stays open: a store that is made again under the same path is never read through an old
one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import google_crc32c
import numpy as np

from ...common.errors import StoreDamaged
from .layout import CODECS, FeatureArray, Layout
from .quantise import decode, is_wide
from .shape import StoreShape
from .storage import Storage
from .zarr_arrays import ZarrArrays

CRC = 4  # bytes of a crc32c
NO_CHUNK = np.uint64(2**64 - 1)  # the offset of a chunk that was not written

Index = int | slice | np.ndarray | list[int]


@dataclass(frozen=True)
class ArrayFiles:
    """The files of one array and how they are packed."""

    storage: Storage
    split: str
    level: FeatureArray
    codec: str
    layout: Layout
    rows: int

    @property
    def name(self) -> str:
        """The path of the array in the store, `train/pyramid/p8`."""
        return f"{self.split}/{self.level.path}"

    def key(self, shard: int) -> str:
        """Return the file of a shard."""
        return f"{self.split}/{self.level.shard_path(shard)}"

    def damaged(self, shard: int, fault: str) -> StoreDamaged:
        """Return the error for a shard that cannot be read."""
        return self.storage.damaged(f"shard {shard} of {self.name} {fault}")


class ChunkReader:
    """Chunks of one array, by number. Several threads may read, and decode, at the same time."""

    def __init__(self, files: ArrayFiles) -> None:
        self.files = files
        self._decompress = CODECS[files.codec].decompress
        self._chunks_per_shard = files.layout.shard_rows // files.layout.chunk_rows
        self._indexes: dict[int, np.ndarray] = {}
        self._scratch = threading.local()

    def rows_of(self, chunk: int) -> range:
        """Return the row numbers of a chunk; the last chunk of a split may be short."""
        size = self.files.layout.chunk_rows
        return range(chunk * size, min((chunk + 1) * size, self.files.rows))

    def announce(self, chunk: int) -> None:
        """Let the disk fetch a chunk while others are decoded. A fault is left to `read`, which names it."""
        with contextlib.suppress(OSError, ValueError):
            self.files.storage.announce(*self._place(chunk))

    def _place(self, chunk: int) -> tuple[str, int, int]:
        """Return the file of a chunk, and where in it the chunk starts and ends, in bytes."""
        shard, place = divmod(chunk, self._chunks_per_shard)
        offset, length = (int(value) for value in self._index(shard)[place])
        return self.files.key(shard), offset, offset + length

    def read(self, chunk: int, out: np.ndarray) -> None:
        """Decode a chunk into `out`, C-contiguous (rows of the chunk, *cell) of the stored dtype.

        Raises StoreDamaged, naming the shard, when it is lost or damaged.
        """
        layout = self.files.layout
        shard, place = divmod(chunk, self._chunks_per_shard)
        whole = out if len(out) == layout.chunk_rows else self._whole_chunk()  # short chunks are stored padded
        try:
            key, start, stop = self._place(chunk)
            data = np.frombuffer(self.files.storage.read(key, start, stop), np.uint8)
            if len(data) != stop - start:
                raise ValueError(f"the file ends inside chunk {place}")
            _check(data, f"chunk {place}")
            self._decompress(data[:-CRC], whole)
        except FileNotFoundError as error:
            raise self.files.damaged(shard, "is missing, lost or not extracted yet") from error
        except (ValueError, RuntimeError) as error:  # the decompressors raise RuntimeError
            raise self.files.damaged(shard, f"is damaged ({error})") from error
        if whole is not out:
            out[...] = whole[: len(out)]

    def _index(self, shard: int) -> np.ndarray:
        if shard not in self._indexes:
            layout = self.files.layout
            size = 16 * self._chunks_per_shard + CRC
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
        chunk: np.ndarray = self._scratch.chunk
        return chunk


def _check(data: np.ndarray, what: str) -> None:
    if len(data) <= CRC or google_crc32c.value(data[:-CRC]) != int.from_bytes(data[-CRC:], "little"):
        raise ValueError(f"the checksum of {what} does not match")


class ShardScales:
    """Step and offset of every shard of one array, (n, 2) float32, read once.

    `place` is where they stand among those of all arrays; `wide` says that the array needs float32.
    """

    def __init__(self, files: ArrayFiles, arrays: ZarrArrays, place: slice, wide: bool) -> None:
        self._files, self._arrays, self._place, self.wide = files, arrays, place, wide
        self._known: dict[int, np.ndarray] = {}

    def __getitem__(self, shard: int) -> np.ndarray:
        if shard not in self._known:
            scale = self._arrays.read(f"{self._files.split}/scale", shard)[self._place]
            if not scale[:, 0].all():  # a step of zero is the fill value: the file is not there
                raise self._files.damaged(shard, "has no scale: it is lost, or not extracted yet")
            if is_wide(scale, self._files.layout.dtype) and not self.wide:
                raise self._files.damaged(shard, "needs float32 and `wide` does not say so")
            self._known[shard] = scale
        return self._known[shard]


def open_array(storage: Storage, arrays: ZarrArrays, shape: StoreShape, split: str, name: str) -> StoredArray:
    """Open the features of one split and array for reading. Raises NotFound for names that the store lacks."""
    number, rows = shape.place(name), shape.rows(split)
    array = shape.arrays[number]
    codec = shape.layout.codec_of(array, shape.arrays)
    files = ArrayFiles(storage, split, array, codec, shape.layout, rows)
    wide = bool(arrays.read(f"{split}/wide")[number])
    return StoredArray(ChunkReader(files), ShardScales(files, arrays, shape.scale_places[number], wide))


class StoredArray:
    """Features that are read when they are indexed: `maps[rows]` is (rows, *cell).

    `rows` is a number, a slice or row numbers. The cell is (channels, 7, 7) of a level, (channels, 14, 14) of
    `regions`, (width,) of `global`. dtype is float16, or float32 where a value of this array is beyond float16.
    dask.array.from_array and numpy.asarray take it as an array. Reading a lost or damaged shard raises StoreDamaged:
    zeros are never made up.
    """

    def __init__(self, reader: ChunkReader, scales: ShardScales) -> None:
        files = reader.files
        self._reader, self.scales = reader, scales
        self._size, self._rows = files.layout.chunk_rows, files.rows
        self._chunks_per_shard = files.layout.shard_rows // self._size
        self.stored_dtype = np.dtype(files.layout.dtype)
        self.dtype = np.dtype("float32" if scales.wide else "float16")
        self.shape = (files.rows, *files.level.cell)
        self.ndim = len(self.shape)
        self.chunks = (self._size, *self.shape[1:])

    def __len__(self) -> int:
        return self._rows

    def read_chunk(self, chunk: int, out: np.ndarray) -> None:
        """Decode one chunk into `out`, C-contiguous (rows of the chunk, *cell) of `self.dtype`."""
        scale = self.scales[chunk // self._chunks_per_shard]
        stored = out if self.plain else np.empty(out.shape, self.stored_dtype)
        self._reader.read(chunk, stored)
        if not self.plain:
            decode(stored, scale, out)

    @property
    def plain(self) -> bool:
        """Whether stored values are the values themselves, in every shard."""
        return self.stored_dtype == np.float16 and not self.scales.wide

    def scale_of(self, rows: np.ndarray) -> np.ndarray:
        """Return (rows, n, 2) float32 step and offset of row numbers; n is 1, or the channels of int8 (quantise.py)."""
        return np.stack([self.scales[shard] for shard in (rows // (self._size * self._chunks_per_shard)).tolist()])

    def announce(self, chunk: int) -> None:
        """Let the disk fetch a chunk that will be read soon."""
        self._reader.announce(chunk)

    def read_stored(self, chunk: int, out: np.ndarray) -> None:
        """Decode one chunk into `out`, (rows of the chunk, *cell) of `stored_dtype`: values as the store holds them."""
        self.scales[chunk // self._chunks_per_shard]  # finds a lost one before its values are used
        self._reader.read(chunk, out)

    def rows_of(self, chunk: int) -> range:
        """Return the row numbers of a chunk; the last chunk of a split may be short."""
        return self._reader.rows_of(chunk)

    def __getitem__(self, index: Index | tuple[Index, ...]) -> np.ndarray:
        first, rest = (index[0], index[1:]) if isinstance(index, tuple) else (index, ())
        numbers = np.asarray(np.arange(self._rows)[first])
        rows = np.atleast_1d(numbers)
        gathered = self._gather(rows)
        found: np.ndarray = gathered[(slice(None), *rest)] if rest else gathered
        return np.asarray(found[0]) if numbers.ndim == 0 else found

    def _gather(self, rows: np.ndarray) -> np.ndarray:
        """Return the values of row numbers in any order; every chunk is decoded once."""
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        chunks = np.unique(rows // self._size).tolist()
        for chunk in chunks[1:]:
            self.announce(chunk)
        for chunk in chunks:
            inside = self._reader.rows_of(chunk)
            wanted = np.flatnonzero((rows >= inside.start) & (rows < inside.stop))
            run = slice(wanted[0], wanted[0] + len(inside))
            if len(wanted) == len(inside) and np.array_equal(rows[run], inside):
                self.read_chunk(chunk, found[run])  # a whole chunk in order needs no second copy
                continue
            maps = np.empty((len(inside), *self.shape[1:]), self.dtype)
            self.read_chunk(chunk, maps)
            found[wanted] = maps[rows[wanted] - inside.start]
        return found

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("the maps are on disk: an array of them is always a copy")
        return self[:].astype(dtype or self.dtype, copy=False)


def read_chunks(into: Sequence[tuple[StoredArray, np.ndarray]], chunks: Sequence[int], pool: Executor) -> None:
    """Read chunks of several arrays of one split, each into (sum of the rows, *cell) of its `stored_dtype`.

    A short chunk (the last of a split) is followed directly by the next one. The threads of `pool` decode while this
    one announces what they will need, so that they wait for the disk only at the start.
    """

    def announced() -> Iterator[tuple[StoredArray, int, np.ndarray]]:
        for array, out in into:
            end = 0
            for chunk in chunks:
                array.announce(chunk)
                start, end = end, end + len(array.rows_of(chunk))
                yield array, chunk, out[start:end]

    list(pool.map(lambda read: read[0].read_stored(*read[1:]), announced()))
