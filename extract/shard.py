"""One ShardTask -> one written shard. What a worker runs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch

from .backbones import INPUT_SIZE, Backbone
from .cache import FeatureCache, Status
from .crops import Crop, load_crop
from .manifest import Manifest

KEEP_REASONS = 5  # failures described in a report; all of them are in the store's `status`


@dataclass(frozen=True)
class ShardTask:
    """The unit of work: whole shards only, so that no two workers ever write one file."""

    split: str
    shard: int


@dataclass
class Report:
    """What extraction did: rows by status, the first failures in words, seconds by phase."""

    rows: Counter[Status] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: Counter[str] = field(default_factory=Counter)

    @property
    def failed(self) -> int:
        return sum(count for status, count in self.rows.items() if status != Status.OK)

    def add(self, other: Report) -> None:
        """Count another report into this one."""
        self.rows += other.rows
        self.failures = (self.failures + other.failures)[:KEEP_REASONS]
        self.seconds += other.seconds

    def shares(self) -> str:
        """The share of each phase in the time, as one short text."""
        total = sum(self.seconds.values()) or 1.0
        return " ".join(f"{phase} {100 * spent / total:.0f} %" for phase, spent in self.seconds.items())


def run_shard(
    task: ShardTask,
    manifest: Manifest,
    backbone: Backbone,
    cache: FeatureCache,
    pool: ThreadPoolExecutor,
    batch_size: int,
    on_batch: Callable[[int, int], None],
) -> Report:
    """Decode, forward and write one shard; `on_batch(rows, failed)` is called after every batch.

    The next batch is decoded by `pool` while the device computes on this one.
    """
    split = manifest.splits[task.split]
    rows = cache.shard_rows(task.split, task.shard)
    maps = {level.name: np.zeros((len(rows), level.channels, 7, 7), np.float16) for level in cache.levels}
    status = np.zeros(len(rows), np.uint8)
    report = Report()
    device = backbone.mean.device

    def decode(row: int) -> Crop:
        return load_crop(manifest.root / split.path[row], split.rows.crop[row], INPUT_SIZE)

    clock = time.perf_counter()

    def spent(phase: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        report.seconds[phase] += now - clock
        clock = now

    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    for batch, crops in _decoded(batches, decode, pool):
        spent("decode")  # only the time the device had to wait for it
        failures = [(row, crop) for row, crop in zip(batch, crops, strict=True) if crop.pixels is None]
        if len(failures) < len(batch):
            # a failed picture is computed as black and then zeroed: the batch keeps its shape, so that its neighbours
            # get the same values to the last bit as without the failure
            black = np.zeros((INPUT_SIZE, INPUT_SIZE, 3), np.uint8)
            pixels = np.stack([black if crop.pixels is None else crop.pixels for crop in crops])
            for name, level in backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)).items():
                maps[name][batch.start - rows.start : batch.stop - rows.start] = level.cpu().numpy()
        for row, crop in zip(batch, crops, strict=True):
            status[row - rows.start] = crop.status
            report.rows[crop.status] += 1
        for row, crop in failures:
            report.failures.append(f"{split.path[row]}: {crop.status.name.lower()}, {crop.reason}")
            for level_maps in maps.values():
                level_maps[row - rows.start] = 0
        spent("forward")
        on_batch(len(batch), len(failures))
    cache.write_shard(task.split, task.shard, maps, status)
    spent("write")
    report.failures = report.failures[:KEEP_REASONS]
    return report


def _decoded(
    batches: list[range], decode: Callable[[int], Crop], pool: ThreadPoolExecutor
) -> Iterator[tuple[range, list[Crop]]]:
    """Yield each batch with its crops, always with the next batch already submitted."""

    def submit(batch: range) -> list[Future[Crop]]:
        return [pool.submit(decode, row) for row in batch]

    ahead = submit(batches[0])
    for position, batch in enumerate(batches):
        current, ahead = ahead, submit(batches[position + 1]) if position + 1 < len(batches) else []
        yield batch, [future.result() for future in current]
