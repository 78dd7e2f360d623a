"""The arrays of a split as pools: memory that holds rows, and where in it each row is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ...common.lookahead import look_ahead
from ...common.progress import progress
from ...extract.store.cache import FeatureCache
from .shared_arrays import SharedArrays


@dataclass(frozen=True)
class ShuffleBuffer:
    """rows (n,) in the order of training; row i is `arrays[name][places[i]]`.

    `scales` gives step and offset of row numbers, name -> (rows, n, 2) float32, of arrays whose values need them.
    """

    rows: np.ndarray
    places: Tensor
    arrays: dict[str, Tensor]
    scales: Callable[[np.ndarray], dict[str, Tensor]] = lambda rows: {}


class BufferSource(Protocol):
    """Whatever gives the rows of an epoch, pool by pool."""

    def of(self, order: Sequence[np.ndarray]) -> Iterator[ShuffleBuffer]:
        """Pools with the rows of the parts of the order, in that order."""


class ChunkedArrays:
    """Some arrays of a split as they are stored, decompressed chunk by chunk in threads into memory of the caller."""

    def __init__(self, cache: FeatureCache, split: str, names: Sequence[str]) -> None:
        self.content = (cache.digest, split, *names)
        self.maps = {name: cache.maps(split, name) for name in names}
        self.chunk_rows, self.rows = cache.layout.chunk_rows, cache.rows(split)
        self._decoders = ThreadPoolExecutor(cache.storage.parallel_reads, "decode")

    def room(self, chunks: int) -> dict[str, np.ndarray]:
        """Memory for so many chunks of every array."""
        return {
            name: np.empty((chunks * self.chunk_rows, *array.shape[1:]), array.stored_dtype)
            for name, array in self.maps.items()
        }

    def bytes_of(self, chunks: int) -> int:
        """The bytes of that memory."""
        row = sum(int(np.prod(array.shape[1:])) * array.stored_dtype.itemsize for array in self.maps.values())
        return row * chunks * self.chunk_rows

    def chunks_of(self, rows: np.ndarray) -> np.ndarray:
        """The chunks that hold any of the rows, in order."""
        return np.unique(rows // self.chunk_rows)

    def read(self, chunks: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        """Read chunks one after the other into the front of `memory`."""
        for name, values in memory.items():
            self.maps[name].read_stored(chunks.tolist(), values, self._decoders)

    def scales(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Name -> (rows, n, 2) float32 step and offset, for arrays whose stored values are not the values."""
        return {name: torch.from_numpy(array.scale_of(rows)) for name, array in self.maps.items() if not array.plain}

    def places(self, rows: np.ndarray, chunks: np.ndarray) -> Tensor:
        """Where the rows are in memory that holds these chunks (sorted): only the last of a split is short."""
        inside = np.searchsorted(chunks, rows // self.chunk_rows) * self.chunk_rows + rows % self.chunk_rows
        return torch.from_numpy(inside)


class StreamedBuffers:
    """Pools that are read one after the other; the next is read while one is used. A store larger than memory trains.

    At most `pool_rows` rows (or one chunk) are in a pool.
    """

    def __init__(self, arrays: ChunkedArrays, buffer_rows: int) -> None:
        self._arrays = arrays
        self._chunks = min(max(buffer_rows // arrays.chunk_rows, 1), -(-arrays.rows // arrays.chunk_rows))
        self._spare: list[dict[str, np.ndarray]] = []

    def of(self, order: Sequence[np.ndarray]) -> Iterator[ShuffleBuffer]:
        """A pool for each part of the order. Its memory is the next but one's too."""
        with ExitStack() as stack, ThreadPoolExecutor(max_workers=1) as reader:  # the reader ends first
            memory = cycle([stack.enter_context(self._memory()) for _ in order[:2]])
            parts = zip(order, memory, strict=False)
            yield from look_ahead(lambda part: reader.submit(self._read, *part), parts, ahead=1)

    def _read(self, rows: np.ndarray, memory: dict[str, np.ndarray]) -> ShuffleBuffer:
        chunks = self._arrays.chunks_of(rows)
        self._arrays.read(chunks, memory)
        arrays = {name: torch.from_numpy(values) for name, values in memory.items()}
        return ShuffleBuffer(rows, self._arrays.places(rows, chunks), arrays, self._arrays.scales)

    @contextmanager
    def _memory(self) -> Iterator[dict[str, np.ndarray]]:
        """Room for one pool, used again: fresh memory costs as much as decoding into it."""
        memory = self._spare.pop() if self._spare else self._arrays.room(self._chunks)
        try:
            yield memory
        finally:
            self._spare.append(memory)


class ResidentBuffers:
    """All rows in one memory, read once: the chunks that hold `rows`, in RAM or on a device.

    What is held already is not read again; what is read is held for others.
    """

    def __init__(
        self,
        arrays: ChunkedArrays,
        rows: np.ndarray,
        device: torch.device,
        buffer_rows: int,
        shared: SharedArrays | None = None,
    ) -> None:
        self._arrays, self._device, self._chunks = arrays, device, arrays.chunks_of(rows)
        if shared and (memory := shared.get(arrays.content)):
            self._memory = memory
            return
        empty = shared.empty if shared else torch.empty
        size, at_a_time = arrays.chunk_rows, max(buffer_rows // arrays.chunk_rows, 1)
        scratch = arrays.room(min(at_a_time, len(self._chunks)))
        self._memory = {
            name: empty(
                (len(self._chunks) * size, *values.shape[1:]), dtype=torch.from_numpy(values).dtype, device=device
            )
            for name, values in scratch.items()
        }
        with progress("load", len(self._chunks) * size, "rows") as bar:
            for first in range(0, len(self._chunks), at_a_time):
                chunks = self._chunks[first : first + at_a_time]
                arrays.read(chunks, scratch)
                place = slice(first * size, (first + len(chunks)) * size)
                for name, values in scratch.items():
                    self._memory[name][place] = torch.from_numpy(values[: len(chunks) * size])
                bar.advance(len(chunks) * size)
        if shared:
            shared.put(arrays.content, self._memory)

    def of(self, order: Sequence[np.ndarray]) -> Iterator[ShuffleBuffer]:
        """One pool for the whole order."""
        rows = np.concatenate(order) if order else np.zeros(0, np.int64)
        places = self._arrays.places(rows, self._chunks).to(self._device)
        yield ShuffleBuffer(rows, places, self._memory, self._arrays.scales)
