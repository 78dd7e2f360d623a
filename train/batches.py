"""FeatureCache -> a stream of shuffled batches, one pool of chunks at a time: a store larger than memory trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import C3Error
from ..extract.cache import FeatureCache, SparseLabels, Status

POOL_ROWS = 4096  # rows mixed at a time; about 0.5 GB of VGG19 levels, held twice while the next pool is read


@dataclass(frozen=True)
class Batch:
    """arrays: name -> (batch, *shape) float16; labels (batch, seen classes) int8; rows (batch,) row numbers."""

    arrays: dict[str, Tensor]
    labels: Tensor
    rows: np.ndarray


def epoch_pools(usable: np.ndarray, chunk_rows: int, pool_rows: int, seed: int, epoch: int) -> list[np.ndarray]:
    """The order of an epoch, a pure function: pools of row numbers that together are a permutation of `usable`.

    Chunks are shuffled across the whole store, dealt into pools of about `pool_rows` rows, and rows are shuffled inside
    their pool. usable (n,) are sorted row numbers. A store of one pool is shuffled perfectly.
    """
    rng = np.random.default_rng([seed, epoch])
    chunks = np.split(usable, np.flatnonzero(np.diff(usable // chunk_rows)) + 1)
    order = rng.permutation(len(chunks))
    per_pool = max(pool_rows // chunk_rows, 1)
    pools = [
        np.concatenate([chunks[i] for i in order[start : start + per_pool]]) for start in range(0, len(order), per_pool)
    ]
    return [rng.permutation(pool) for pool in pools]


def batch_sizes(rows: int, batch_size: int) -> list[int]:
    """The sizes of the batches of an epoch. A batch of one row has no batch statistics: it joins the one before."""
    whole, rest = divmod(rows, batch_size)
    if rest == 1 and whole:
        return [batch_size] * (whole - 1) + [batch_size + 1]
    return [batch_size] * whole + [rest] * (rest > 0)


class BatchStream:
    """Batches of the rows of a split that can be trained on: readable images with a positive label of a seen class."""

    def __init__(
        self,
        cache: FeatureCache,
        split: str,
        arrays: Sequence[str],
        batch_size: int,
        seed: int,
        pool_rows: int = POOL_ROWS,
    ) -> None:
        self.cache, self.split, self.arrays = cache, split, tuple(arrays)
        self.batch_size, self.seed, self.pool_rows = batch_size, seed, pool_rows
        self._decoders = ThreadPoolExecutor(cache.storage.parallel_reads, "decode")
        self._spare: list[dict[str, np.ndarray]] = []
        self._seen = np.flatnonzero(cache.classes.seen)
        self._labels = cache.labels(split)
        self.rows = np.flatnonzero((cache.status(split) == Status.OK) & self._has_seen_positive(self._labels))
        if len(self.rows) < 2:  # batch statistics need two
            raise C3Error(
                f"{cache.location}: {len(self.rows)} rows of {split} have a readable image and a positive label of a "
                "seen class; training needs at least 2"
            )

    @property
    def steps(self) -> int:
        """The number of batches of an epoch."""
        return len(batch_sizes(len(self.rows), self.batch_size))

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Every row once, in the order of `epoch_pools`, the last batch smaller. The next pool is read meanwhile."""
        pools = epoch_pools(self.rows, self.cache.layout.chunk_rows, self.pool_rows, self.seed, epoch)
        sizes = iter(batch_sizes(len(self.rows), self.batch_size))
        wanted, parts = next(sizes), []
        with ExitStack() as memory, ThreadPoolExecutor(max_workers=1) as reader:  # the reader ends first
            buffers = [memory.enter_context(self._memory()) for _ in pools[:2]]
            ahead = reader.submit(self._read, pools[0], buffers[0])
            for number, rows in enumerate(pools):
                place = ahead.result()
                if number + 1 < len(pools):
                    ahead = reader.submit(self._read, pools[number + 1], buffers[(number + 1) % 2])
                start = 0
                while start < len(rows):
                    cut = slice(start, start + wanted)
                    parts.append(self._gather(rows[cut], place[cut], buffers[number % 2]))
                    start, wanted = cut.stop, wanted - len(parts[-1].rows)
                    if not wanted:
                        yield _joined(parts)
                        wanted, parts = next(sizes, 0), []

    def _read(self, rows: np.ndarray, buffers: dict[str, np.ndarray]) -> Tensor:
        """Decode the chunks that hold `rows` into buffers, in threads; gives where in them each row is."""
        size = self.cache.layout.chunk_rows
        chunks = np.unique(rows // size)
        for name, values in buffers.items():
            self.cache.maps(self.split, name).read_chunks(chunks.tolist(), values, self._decoders)
        # the chunks follow each other; only the last of a split is short
        return torch.from_numpy(np.searchsorted(chunks, rows // size) * size + rows % size)

    def _gather(self, rows: np.ndarray, place: Tensor, buffers: dict[str, np.ndarray]) -> Batch:
        """A batch of its own memory, so that the buffers can take the next pool."""
        arrays = {name: torch.from_numpy(values).index_select(0, place) for name, values in buffers.items()}
        return Batch(arrays, self._dense(rows), rows)

    @contextmanager
    def _memory(self) -> Iterator[dict[str, np.ndarray]]:
        """Room for one pool of every array, used again: fresh memory costs as much as decoding into it."""
        size = self.cache.layout.chunk_rows
        count = max(self.pool_rows // size, 1) * size
        count = min(count, -(-self.cache.rows(self.split) // size) * size)
        if self._spare:
            buffers = self._spare.pop()
        else:
            maps = {name: self.cache.maps(self.split, name) for name in self.arrays}
            buffers = {name: np.empty((count, *array.shape[1:]), array.dtype) for name, array in maps.items()}
        try:
            yield buffers
        finally:
            self._spare.append(buffers)

    def _dense(self, rows: np.ndarray) -> Tensor:
        dense = self._labels.take(rows).dense(len(self.cache.classes), self.cache.absent_label)
        return torch.from_numpy(dense[:, self._seen])  # labels of unseen classes never reach a loss

    def _has_seen_positive(self, labels: SparseLabels) -> np.ndarray:
        hit = (labels.value > 0) & self.cache.classes.seen[labels.indices]
        return np.bincount(labels.row[hit], minlength=len(labels)) > 0


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    arrays = {name: torch.cat([part.arrays[name] for part in parts]) for name in parts[0].arrays}
    return Batch(arrays, torch.cat([part.labels for part in parts]), np.concatenate([part.rows for part in parts]))
