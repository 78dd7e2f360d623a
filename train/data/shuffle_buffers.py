"""Shuffle buffers: memory that holds rows of a split, and where in it each row is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
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
from ...extract.store.arrays import read_chunks
from ...extract.store.cache import FeatureCache
from .shared_arrays import Content, SharedArrays


@dataclass(frozen=True)
class ShuffleBuffer:
    """Rows in the order of training: values of row number `rows[i]` are `arrays[name][places[i]]`.

    rows (n,) int64; places (n,) int64. `scales` maps row numbers to name -> (rows, channels, 2) float32 step and
    offset, for arrays whose stored values are not the values.
    """

    rows: np.ndarray
    places: Tensor
    arrays: dict[str, Tensor]
    scales: Callable[[np.ndarray], dict[str, Tensor]] = lambda _rows: {}


class BufferSource(Protocol):
    """Where the rows of an epoch are read from, buffer by buffer."""

    def read(self, order: Sequence[np.ndarray]) -> Generator[ShuffleBuffer, None, None]:
        """Yield buffers that together have the rows of `order` in that order; a buffer is valid until the next."""


class ChunkedArrays:
    """Some arrays of a split as stored; threads decompress them chunk by chunk into memory of the caller."""

    def __init__(self, cache: FeatureCache, split: str, names: Sequence[str]) -> None:
        self.content: dict[str, Content] = {name: (cache.digest, split, name) for name in names}
        self.maps = {name: cache.maps(split, name) for name in names}
        self.chunk_rows, self.rows = cache.layout.chunk_rows, cache.rows(split)
        self._decoders = ThreadPoolExecutor(cache.storage.parallel_reads, "decode")

    def room(self, chunks: int, without: Collection[str] = ()) -> dict[str, np.ndarray]:
        """Return name -> (chunks * chunk_rows, *shape): memory for a number of chunks of every array but some."""
        return {
            name: _small_pages((chunks * self.chunk_rows, *array.shape[1:]), array.stored_dtype)
            for name, array in self.maps.items()
            if name not in without
        }

    def bytes_of(self, chunks: int, without: Collection[str] = ()) -> int:
        """Return the bytes that `room` takes."""
        arrays = [array for name, array in self.maps.items() if name not in without]
        row = sum(int(np.prod(array.shape[1:])) * array.stored_dtype.itemsize for array in arrays)
        return row * chunks * self.chunk_rows

    def held_by(self, shared: SharedArrays | None) -> dict[str, Tensor]:
        """Return name -> tensor, for the arrays that were read before."""
        found = {name: shared.get(content) for name, content in self.content.items()} if shared else {}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def chunks_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the sorted numbers of the chunks that hold any of the rows."""
        return np.unique(rows // self.chunk_rows)

    def read(self, chunks: np.ndarray, memory: dict[str, np.ndarray]) -> None:
        """Read chunks one after the other into the front of `memory`, which `room` made."""
        into = [(self.maps[name], values) for name, values in memory.items()]
        read_chunks(into, chunks.tolist(), self._decoders)

    def scales(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Return name -> (rows, channels, 2) float32 step and offset, for the arrays that are not `plain`."""
        return {name: torch.from_numpy(array.scale_of(rows)) for name, array in self.maps.items() if not array.plain}

    def places(self, rows: np.ndarray, chunks: np.ndarray) -> Tensor:
        """Return (n,) int64 places of the rows in memory that holds these sorted chunks."""
        inside = np.searchsorted(chunks, rows // self.chunk_rows) * self.chunk_rows + rows % self.chunk_rows
        return torch.from_numpy(inside)


def _small_pages(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return memory from torch: numpy asks for huge pages, which virtual machines often hand out far more slowly."""
    size = int(np.prod(shape)) * dtype.itemsize
    return torch.empty(size, dtype=torch.uint8).numpy().view(dtype).reshape(shape)


class StreamedBuffers:
    """Buffers of at most `buffer_rows` rows (or one chunk), read again in every epoch: for stores larger than memory.

    The next buffer is read while the caller uses one.
    """

    def __init__(self, arrays: ChunkedArrays, buffer_rows: int) -> None:
        self._arrays = arrays
        self._chunks = min(max(buffer_rows // arrays.chunk_rows, 1), -(-arrays.rows // arrays.chunk_rows))
        self._spare: list[dict[str, np.ndarray]] = []

    def read(self, order: Sequence[np.ndarray]) -> Generator[ShuffleBuffer, None, None]:
        """Yield a buffer for each part of the order; two memories take turns."""
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
        """Lend memory for one buffer and keep it for the next: fresh memory costs as much as decoding into it."""
        memory = self._spare.pop() if self._spare else self._arrays.room(self._chunks)
        try:
            yield memory
        finally:
            self._spare.append(memory)


class ResidentBuffers:
    """One buffer with the chunks that hold `rows`, read once, in RAM or on a device.

    Arrays that `shared` already holds are not read again; arrays that are read are kept there for later trainings,
    which give the same `rows`.
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
        held = arrays.held_by(shared)
        self._memory = {**held, **self._read(held, buffer_rows, shared)}

    def _read(self, held: Collection[str], buffer_rows: int, shared: SharedArrays | None) -> dict[str, Tensor]:
        """Read the arrays that are not held, and keep them in `shared`."""
        arrays, empty = self._arrays, shared.empty if shared else torch.empty
        size, at_a_time = arrays.chunk_rows, max(buffer_rows // arrays.chunk_rows, 1)
        scratch = arrays.room(min(at_a_time, len(self._chunks)), without=held)
        if not scratch:
            return {}
        memory = {
            name: empty(
                (len(self._chunks) * size, *values.shape[1:]),
                dtype=torch.from_numpy(values).dtype,
                device=self._device,
            )
            for name, values in scratch.items()
        }
        with progress("load", len(self._chunks), "chunks") as bar:
            for first in range(0, len(self._chunks), at_a_time):
                chunks = self._chunks[first : first + at_a_time]
                arrays.read(chunks, scratch)
                place = slice(first * size, (first + len(chunks)) * size)
                for name, values in scratch.items():
                    memory[name][place] = torch.from_numpy(values[: len(chunks) * size])
                bar.advance(len(chunks))
        if shared:
            for name, tensor in memory.items():
                shared.put(arrays.content[name], tensor)
        return memory

    def read(self, order: Sequence[np.ndarray]) -> Generator[ShuffleBuffer, None, None]:
        """Yield one buffer for the whole order."""
        rows = np.concatenate(order) if order else np.zeros(0, np.int64)
        places = self._arrays.places(rows, self._chunks).to(self._device)
        yield ShuffleBuffer(rows, places, self._memory, self._arrays.scales)
