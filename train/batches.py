"""FeatureCache -> a stream of shuffled batches, one pool of chunks at a time: a store larger than memory trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import C3Error
from ..extract.cache import FeatureCache, SparseLabels, Status

POOL_ROWS = 4096  # rows mixed at a time; about 0.5 GB of VGG19 levels, held twice while the next pool is read


@dataclass(frozen=True)
class Batch:
    """levels: name -> (batch, channels, 7, 7) float16; labels (batch, seen classes) int8; rows (batch,) row numbers."""

    levels: dict[str, Tensor]
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


class BatchStream:
    """Batches of the rows of a split that can be trained on: readable images with a positive label of a seen class."""

    def __init__(
        self,
        cache: FeatureCache,
        split: str,
        levels: Sequence[str],
        batch_size: int,
        seed: int,
        pool_rows: int = POOL_ROWS,
    ) -> None:
        self.cache, self.split, self.levels = cache, split, tuple(levels)
        self.batch_size, self.seed, self.pool_rows = batch_size, seed, pool_rows
        self._decoders = ThreadPoolExecutor(cache.storage.parallel_reads, "decode")
        self._seen = np.flatnonzero(cache.classes.seen)
        self._labels = cache.labels(split)
        self.rows = np.flatnonzero((cache.status(split) == Status.OK) & self._has_seen_positive(self._labels))
        if len(self.rows) < 2:  # batch statistics need two
            raise C3Error(
                f"{cache.location}: {len(self.rows)} rows of {split} have a readable image and a positive label of a "
                "seen class; training needs at least 2"
            )

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Every row once, in the order of `epoch_pools`, the last batch smaller. The next pool is read meanwhile."""
        pools = epoch_pools(self.rows, self.cache.layout.chunk_rows, self.pool_rows, self.seed, epoch)
        held = _Pool(np.empty(0, np.int64), {})
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = reader.submit(self._read, pools[0])
            for number in range(len(pools)):
                held = held.join(ahead.result())
                last = number + 1 == len(pools)
                if not last:
                    ahead = reader.submit(self._read, pools[number + 1])
                # a batch of one row has no batch statistics: rows are held back for the last pool, and a lone last
                # row joins the batch before it
                while len(held.rows) > (0 if last else self.batch_size):
                    lone = last and len(held.rows) == self.batch_size + 1
                    now, held = held.cut(self.batch_size + lone)
                    yield Batch(now.levels, self._dense(now.rows), now.rows)

    def _read(self, rows: np.ndarray) -> _Pool:
        """Decode the chunks that hold `rows`, in threads, and put their maps in that order."""
        size = self.cache.layout.chunk_rows
        chunks = np.unique(rows // size)
        # where each row is in the decoded chunks, which follow each other; only the last of a split is short
        place = np.searchsorted(chunks, rows // size) * size + rows % size
        count = min(len(chunks) * size, (len(chunks) - 1) * size + self.cache.rows(self.split) - chunks[-1] * size)
        levels = {}
        for level in self.levels:
            maps = self.cache.maps(self.split, level)
            decoded = np.empty((count, *maps.shape[1:]), maps.dtype)
            maps.read_chunks(chunks.tolist(), decoded, self._decoders)
            levels[level] = torch.from_numpy(decoded.take(place, axis=0))
        return _Pool(rows, levels)

    def _dense(self, rows: np.ndarray) -> Tensor:
        dense = self._labels.take(rows).dense(len(self.cache.classes), self.cache.absent_label)
        return torch.from_numpy(dense[:, self._seen])  # labels of unseen classes never reach a loss

    def _has_seen_positive(self, labels: SparseLabels) -> np.ndarray:
        row = np.repeat(np.arange(len(labels)), np.diff(labels.indptr))
        hit = (labels.value > 0) & self.cache.classes.seen[labels.indices]
        return np.bincount(row[hit], minlength=len(labels)) > 0


@dataclass(frozen=True)
class _Pool:
    rows: np.ndarray
    levels: dict[str, Tensor]

    def join(self, other: _Pool) -> _Pool:
        if not len(self.rows):
            return other
        levels = {name: torch.cat([maps, other.levels[name]]) for name, maps in self.levels.items()}
        return _Pool(np.concatenate([self.rows, other.rows]), levels)

    def cut(self, count: int) -> tuple[_Pool, _Pool]:
        head = {name: maps[:count] for name, maps in self.levels.items()}
        tail = {name: maps[count:] for name, maps in self.levels.items()}
        return _Pool(self.rows[:count], head), _Pool(self.rows[count:], tail)
