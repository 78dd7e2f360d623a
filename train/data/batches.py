"""Shuffled batches of a split, in an order that is a pure function of source, seed and epoch."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ...common.errors import C3Error
from ...common.lookahead import iterate_ahead
from ...extract.store.cache import FeatureCache, Status
from ...extract.store.tables import SparseLabels
from ..distributed.rank_rows import rank_rows, rank_sizes
from ..distributed.world import World
from .placement import Placement
from .row_source import RowSource
from .shuffle_buffers import BufferSource, ChunkedArrays, ResidentBuffers, ShuffleBuffer, StreamedBuffers

BUFFER_ROWS = 4096  # rows shuffled at a time; about 0.5 GB of VGG19 maps, twice while the next buffer is read
AHEAD = 2  # batches prepared while one is trained on
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Batch:
    """Some rows of a split, as stored.

    arrays: name -> (batch, *shape); labels (batch, seen classes) int8 of -1, 0, 1; rows (batch,) int64 row numbers.
    scales: name -> (batch, channels, 2) float32 step and offset, for arrays whose stored value q means
    q * step + offset. int8 becomes float on the device, where it takes half the memory of float16.
    """

    arrays: dict[str, Tensor]
    labels: Tensor
    rows: np.ndarray
    scales: dict[str, Tensor] = field(default_factory=dict)

    def features(self) -> dict[str, Tensor]:
        """Return name -> (batch, *shape) float32, on the device of the batch."""
        return {name: _unscaled(values.float(), self.scales.get(name)) for name, values in self.arrays.items()}


def _unscaled(values: Tensor, scale: Tensor | None) -> Tensor:
    if scale is None:
        return values
    step, offset = (part.view(*part.shape, *(1,) * (values.dim() - 2)) for part in scale.unbind(dim=2))
    return values.mul_(step).add_(offset)


def epoch_buffers(usable: np.ndarray, chunk_rows: int, buffer_rows: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Return the order of an epoch: buffers of row numbers that together are a permutation of `usable`.

    usable (n,) int64 are sorted row numbers. Chunks are shuffled across the whole split and dealt into buffers of about
    `buffer_rows` rows; then the rows of every buffer are shuffled. A split of one buffer is shuffled perfectly. Pure.
    """
    rng = np.random.default_rng([seed, epoch])
    chunks = np.split(usable, np.flatnonzero(np.diff(usable // chunk_rows)) + 1)
    order = rng.permutation(len(chunks))
    per_buffer = max(buffer_rows // chunk_rows, 1)
    buffers = [
        np.concatenate([chunks[i] for i in order[start : start + per_buffer]])
        for start in range(0, len(order), per_buffer)
    ]
    return [rng.permutation(rows) for rows in buffers]


def batch_sizes(rows: int, batch_size: int, least: int = 2) -> list[int]:
    """Return the sizes of the batches of an epoch. A last batch of fewer than `least` rows joins the one before.

    One row alone has no batch statistics, and each of several processes needs a row.
    """
    whole, rest = divmod(rows, batch_size)
    if 0 < rest < least and whole:
        return [batch_size] * (whole - 1) + [batch_size + rest]
    return [batch_size] * whole + [rest] * (rest > 0)


class ShuffledBatches:
    """Batches of the rows of a split that can be trained on: readable images with a positive label of a seen class.

    Their order depends on source, seed and epoch alone. `open_buffers` is called once with the row numbers (n,) that
    this process reads and returns where they are read from.

    Of several processes each gets its part of every batch (rank_rows.py) and reads only rows of its own; `rows` and
    `sizes` are those of all processes. `lacking` marks the other rows of the split, (rows,) bool, by what they lack.
    """

    def __init__(
        self,
        source: RowSource,
        split: str,
        batch_size: int,
        seed: int,
        open_buffers: Callable[[np.ndarray], BufferSource],
        buffer_rows: int = BUFFER_ROWS,
        device: torch.device = CPU,
        world: World = World(),
    ) -> None:
        self.split, self.batch_size, self.seed, self.buffer_rows = split, batch_size, seed, buffer_rows
        self._chunk_rows, self._device, self._world = source.layout.chunk_rows, device, world
        self._labels, self._classes, self._absent = source.labels(split), len(source.classes), source.absent_label
        self._seen = np.flatnonzero(source.classes.seen)
        positive, readable = has_positive(self._labels, source.classes.seen), source.status(split) == Status.OK
        self.rows = np.flatnonzero(readable & positive)
        self.lacking = {
            "without features": ~readable,
            "without a positive label of a seen class": readable & ~positive,
        }
        if len(self.rows) < 2:  # batch statistics need two
            raise C3Error(
                f"{source.location}: {len(self.rows)} rows of {split} have a readable image and a positive label of a "
                "seen class; training needs at least 2"
            )
        if world.size > min(batch_size, len(self.rows)):
            raise C3Error(
                f"{world.size} processes need a row of every batch: batch_size is {batch_size} and {split} has "
                f"{len(self.rows)} rows to train on; start fewer"
            )
        self._buffers = open_buffers(self._own_rows())

    @property
    def sizes(self) -> list[int]:
        """The number of rows of every batch of an epoch."""
        return batch_sizes(len(self.rows), self.batch_size, max(2, self._world.size))

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield every row of this process once, in the order of `epoch_buffers`, without the first `skip` batches.

        A thread prepares the next batches while the caller uses one.
        """
        return iterate_ahead(self._batches(epoch, skip), AHEAD, "batches")

    def _batches(self, epoch: int, skip: int) -> Generator[Batch, None, None]:
        order = epoch_buffers(self._own_rows(), self._chunk_rows, self.buffer_rows, self.seed, epoch)
        sizes = rank_sizes(self.sizes, self._world.size)[:, self._world.rank]
        ends = np.cumsum(sizes).tolist()[skip:]  # of the batches, in the order of the epoch
        begin = int(sizes[:skip].sum())
        parts: list[Batch] = []
        with closing(self._buffers.read(_from(order, begin))) as buffers:
            for buffer in buffers:
                end, first = begin + len(buffer.rows), begin
                while begin < end:
                    stop = min(ends[0], end)
                    parts.append(self._gather(buffer, slice(begin - first, stop - first)))
                    begin = stop
                    if stop == ends[0]:  # otherwise the next buffer has the rest of the batch
                        yield self._to_device(_joined(parts))
                        parts, ends = [], ends[1:]

    def _own_rows(self) -> np.ndarray:
        return rank_rows(self.rows, self._chunk_rows, self.seed, self._world.rank, self._world.size)

    def _gather(self, buffer: ShuffleBuffer, part: slice) -> Batch:
        """Copy a batch out of a buffer, whose memory is used again."""
        rows, places = buffer.rows[part], buffer.places[part]
        arrays = {name: _taken(values, places) for name, values in buffer.arrays.items()}
        labels = self._labels.take(rows).dense(self._classes, self._absent)
        # labels of unseen classes never reach a loss
        return Batch(arrays, torch.from_numpy(labels[:, self._seen]), rows, buffer.scales(rows))

    def _to_device(self, batch: Batch) -> Batch:
        """Move a batch; copies to a CUDA device start from pinned memory and overlap with its work."""
        if self._device.type == "cpu":
            return batch

        def moved(values: Tensor) -> Tensor:
            return values.pin_memory().to(self._device, non_blocking=True) if values.device.type == "cpu" else values

        arrays, scales = (
            {name: moved(values) for name, values in tensors.items()} for tensors in (batch.arrays, batch.scales)
        )
        return Batch(arrays, moved(batch.labels), batch.rows, scales)


class BatchStream(ShuffledBatches):
    """Shuffled batches of a feature store; `place` says where its arrays are during training."""

    def __init__(
        self,
        cache: FeatureCache,
        split: str,
        arrays: Sequence[str],
        batch_size: int,
        seed: int,
        buffer_rows: int = BUFFER_ROWS,
        place: Placement = Placement(),
        world: World = World(),
    ) -> None:
        self.cache, self.arrays, self._place = cache, tuple(arrays), place
        self._chunked = ChunkedArrays(cache, split, arrays)
        super().__init__(cache, split, batch_size, seed, self._open_buffers, buffer_rows, place.device, world)

    def _open_buffers(self, rows: np.ndarray) -> BufferSource:
        chunked, place = self._chunked, self._place
        if place.shared is not None:  # with another class split, other rows are trained on
            rows = np.flatnonzero(self.cache.status(self.split) == Status.OK)
        held = chunked.held_by(place.shared)
        needed = chunked.bytes_of(len(chunked.chunks_of(rows)), without=held)
        residency = place.resolved(needed, list(held.values()))
        if residency == "stream":
            return StreamedBuffers(chunked, self.buffer_rows)
        where = place.device if residency == "device" else CPU
        return ResidentBuffers(chunked, rows, where, self.buffer_rows, place.shared)


def has_positive(labels: SparseLabels, classes: np.ndarray) -> np.ndarray:
    """Return (rows,) bool: whether a row has a positive label of one of the classes, a (classes,) bool mask."""
    hit = (labels.value > 0) & classes[labels.indices]
    return np.bincount(labels.row[hit], minlength=len(labels)) > 0


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """Copy rows of an array: by numpy in this thread, because torch would take the cores of the running step."""
    if values.device.type != "cpu":
        return values.index_select(0, places)
    return torch.from_numpy(values.numpy().take(places.cpu().numpy(), axis=0))


def _from(order: list[np.ndarray], row: int) -> list[np.ndarray]:
    """Return the buffers of an epoch without its first `row` rows."""
    kept = []
    for rows in order:
        kept += [rows[row:]] if row < len(rows) else []
        row = max(row - len(rows), 0)
    return kept


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    arrays = {name: torch.cat([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    scales = {name: torch.cat([part.scales[name] for part in parts]) for name in parts[0].scales}
    rows = np.concatenate([part.rows for part in parts])
    return Batch(arrays, torch.cat([part.labels for part in parts]), rows, scales)
