"""FeatureCache -> a stream of shuffled batches, in an order that is a pure function of store, seed and epoch."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
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
from .shuffle_buffers import BufferSource, ChunkedArrays, ResidentBuffers, ShuffleBuffer, StreamedBuffers

BUFFER_ROWS = 4096  # rows mixed at a time; about 0.5 GB of VGG19 levels, held twice while the next pool is read
AHEAD = 2  # batches that are prepared while one is trained on


@dataclass(frozen=True)
class Batch:
    """arrays: name -> (batch, *shape) as stored; labels (batch, seen classes) int8; rows (batch,) row numbers.

    scales: name -> (batch, n, 2) float32 where a stored value q stands for q * step + offset: int8 becomes float on the
    device, in whose memory it takes half of what float16 does.
    """

    arrays: dict[str, Tensor]
    labels: Tensor
    rows: np.ndarray
    scales: dict[str, Tensor] = field(default_factory=dict)

    def features(self) -> dict[str, Tensor]:
        """name -> (batch, *shape) float32, on the device of the batch."""
        return {name: self._real(values.float(), self.scales.get(name)) for name, values in self.arrays.items()}

    @staticmethod
    def _real(values: Tensor, scale: Tensor | None) -> Tensor:
        if scale is None:
            return values
        step, offset = (part.view(*part.shape, *(1,) * (values.dim() - 2)) for part in scale.unbind(dim=2))
        return values.mul_(step).add_(offset)


def epoch_buffers(usable: np.ndarray, chunk_rows: int, buffer_rows: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The order of an epoch, a pure function: pools of row numbers that together are a permutation of `usable`.

    Chunks are shuffled across the whole store, dealt into pools of about `pool_rows` rows, and rows are shuffled inside
    their pool. usable (n,) are sorted row numbers. A store of one pool is shuffled perfectly.
    """
    rng = np.random.default_rng([seed, epoch])
    chunks = np.split(usable, np.flatnonzero(np.diff(usable // chunk_rows)) + 1)
    order = rng.permutation(len(chunks))
    per_pool = max(buffer_rows // chunk_rows, 1)
    pools = [
        np.concatenate([chunks[i] for i in order[start : start + per_pool]]) for start in range(0, len(order), per_pool)
    ]
    return [rng.permutation(pool) for pool in pools]


def batch_sizes(rows: int, batch_size: int, least: int = 2) -> list[int]:
    """The sizes of the batches of an epoch. A last one of fewer than `least` rows joins the one before.

    One row has no batch statistics, and several processes need a row each.
    """
    whole, rest = divmod(rows, batch_size)
    if 0 < rest < least and whole:
        return [batch_size] * (whole - 1) + [batch_size + rest]
    return [batch_size] * whole + [rest] * (rest > 0)


class BatchStream:
    """Batches of the rows of a split that can be trained on: readable images with a positive label of a seen class.

    Their order depends on store, seed and epoch alone, never on `place`, which says where the arrays are meanwhile.
    With several processes it gives the part of every batch that is this one's (division.py): `rows` and `sizes` are
    those of all, and only rows of its own are read or held.
    """

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
        self.cache, self.split, self.arrays, self._world = cache, split, tuple(arrays), world
        self.batch_size, self.seed, self.buffer_rows = batch_size, seed, buffer_rows
        self._device = place.device
        self._seen = np.flatnonzero(cache.classes.seen)
        self._labels = cache.labels(split)
        self.rows = np.flatnonzero((cache.status(split) == Status.OK) & self._has_seen_positive(self._labels))
        if len(self.rows) < 2:  # batch statistics need two
            raise C3Error(
                f"{cache.location}: {len(self.rows)} rows of {split} have a readable image and a positive label of a "
                "seen class; training needs at least 2"
            )
        if world.size > min(batch_size, len(self.rows)):
            raise C3Error(
                f"{world.size} processes need a row of every batch: batch_size is {batch_size} and {split} has "
                f"{len(self.rows)} rows to train on; start fewer"
            )
        self._buffers = self._opened(place)

    def _opened(self, place: Placement) -> BufferSource:
        """Where the arrays are during the training."""
        chunked, own = ChunkedArrays(self.cache, self.split, self.arrays), self._own_rows()
        residency = place.resolved(chunked.bytes_of(len(chunked.chunks_of(own))), chunked.content)
        if residency == "stream":
            return StreamedBuffers(chunked, self.buffer_rows)
        where = place.device if residency == "device" else torch.device("cpu")
        return ResidentBuffers(chunked, own, where, self.buffer_rows, place.shared)

    @property
    def sizes(self) -> list[int]:
        """The number of rows of every batch of an epoch."""
        return batch_sizes(len(self.rows), self.batch_size, max(2, self._world.size))

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Every own row once, in the order of `epoch_pools`, the last batch smaller; without the first `skip` batches.

        A thread prepares the next batches meanwhile.
        """
        return iterate_ahead(self._batches(epoch, skip), AHEAD, "batches")

    def _batches(self, epoch: int, skip: int) -> Generator[Batch, None, None]:
        order = epoch_buffers(self._own_rows(), self.cache.layout.chunk_rows, self.buffer_rows, self.seed, epoch)
        sizes = rank_sizes(self.sizes, self._world.size)[:, self._world.rank]
        ends = np.cumsum(sizes).tolist()[skip:]  # of the batches, in the order of the epoch
        begin = int(sizes[:skip].sum())
        order, parts = _from(order, begin), []
        with closing(self._buffers.of(order)) as pools:
            for pool in pools:
                end, first = begin + len(pool.rows), begin
                while begin < end:
                    stop = min(ends[0], end)
                    parts.append(self._gather(pool, slice(begin - first, stop - first)))
                    begin = stop
                    if stop == ends[0]:  # else its rest is in the next pool
                        yield self._placed(_joined(parts))
                        parts, ends = [], ends[1:]

    def _own_rows(self) -> np.ndarray:
        return rank_rows(self.rows, self.cache.layout.chunk_rows, self.seed, self._world.rank, self._world.size)

    def _gather(self, pool: ShuffleBuffer, cut: slice) -> Batch:
        """A batch of its own memory, so that the pool's can take another."""
        rows, places = pool.rows[cut], pool.places[cut]
        arrays = {name: _taken(values, places) for name, values in pool.arrays.items()}
        return Batch(arrays, self._dense(rows), rows, pool.scales(rows))

    def _placed(self, batch: Batch) -> Batch:
        """The batch on the device; copies to a CUDA device start from pinned memory and overlap with its work."""
        if self._device.type == "cpu":
            return batch

        def there(values: Tensor) -> Tensor:
            return values.pin_memory().to(self._device, non_blocking=True) if values.device.type == "cpu" else values

        arrays, scales = (
            {name: there(values) for name, values in tensors.items()} for tensors in (batch.arrays, batch.scales)
        )
        return Batch(arrays, there(batch.labels), batch.rows, scales)

    def _dense(self, rows: np.ndarray) -> Tensor:
        dense = self._labels.take(rows).dense(len(self.cache.classes), self.cache.absent_label)
        return torch.from_numpy(dense[:, self._seen])  # labels of unseen classes never reach a loss

    def _has_seen_positive(self, labels: SparseLabels) -> np.ndarray:
        hit = (labels.value > 0) & self.cache.classes.seen[labels.indices]
        return np.bincount(labels.row[hit], minlength=len(labels)) > 0


def _taken(values: Tensor, places: Tensor) -> Tensor:
    """Rows of an array, copied: by numpy in this thread, because torch would take the cores of the running step."""
    if values.device.type != "cpu":
        return values.index_select(0, places)
    return torch.from_numpy(values.numpy().take(places.numpy(), axis=0))


def _from(order: list[np.ndarray], row: int) -> list[np.ndarray]:
    """The pools of an epoch from its row number `row` on."""
    kept = []
    for pool in order:
        kept += [pool[row:]] if row < len(pool) else []
        row = max(row - len(pool), 0)
    return kept


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    arrays = {name: torch.cat([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    scales = {name: torch.cat([part.scales[name] for part in parts]) for name in parts[0].scales}
    rows = np.concatenate([part.rows for part in parts])
    return Batch(arrays, torch.cat([part.labels for part in parts]), rows, scales)
