"""Extract one shard after the other: decode, compute, write. Every machine of a cluster runs this module.

Three things happen at once: a pool of threads decodes the next batches, the device computes on the current one, and a
writer thread compresses and writes the previous shard. Only the time that the device waits is lost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import numpy as np
import torch

from ..common.errors import C3Error
from .backbone.network import Backbone
from .backbone.pictures.crop_loader import CropBatch, CropLoader, CropSource
from .backbone.pictures.decode_options import DEFAULT, DecodeOptions
from .backbone.pictures.remarks import RemarkCounts
from .store.cache import FeatureCache, Status
from .store.quantise import FLOAT16_MAX

KEEP_REASONS = 5  # failures described in a report; all of them are in the store's `status`


@dataclass(frozen=True)
class ShardTask:
    """The unit of work, complete in itself: a shard, and where its pictures are.

    paths (rows,) text relative to `root`, crops (rows, 4). `was_ok` (rows,) bool is given when a finished shard is
    extracted again for its failures: every picture that was read before must be read now.
    """

    split: str
    shard: int
    root: Path
    paths: np.ndarray
    crops: np.ndarray
    was_ok: np.ndarray | None = None

    def sources(self, rows: range) -> list[CropSource]:
        """Return the pictures and boxes of some rows of the shard."""
        return [CropSource(self.root / str(self.paths[row]), self.crops[row]) for row in rows]


@dataclass
class Report:
    """What extraction did: rows by status, the first failures in words, seconds by phase.

    `left` counts the shards that another process had in hand.
    """

    rows: Counter[Status] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("decode", "forward", "write"), 0.0))
    left: int = 0
    remarks: RemarkCounts = field(default_factory=RemarkCounts)

    @property
    def failed(self) -> int:
        """The number of rows without features."""
        return sum(count for status, count in self.rows.items() if status != Status.OK)

    def add(self, other: Report) -> None:
        """Add the counts of another report to this one."""
        self.rows += other.rows
        self.failures = (self.failures + other.failures)[:KEEP_REASONS]
        for phase, seconds in other.seconds.items():
            self.seconds[phase] += seconds
        self.left += other.left
        self.remarks.add(other.remarks)

    def shares(self) -> str:
        """Say how the device spent its time: computing, waiting for pictures, or waiting for the writer."""
        total = sum(self.seconds.values()) or 1.0
        return " ".join(f"{phase} {100 * spent / total:.0f} %" for phase, spent in self.seconds.items())


class _Open:
    """A shard in hand: its buffers, the status of its rows, and the claim on it."""

    def __init__(self, task: ShardTask, cache: FeatureCache, claim: ExitStack) -> None:
        count = len(task.paths)
        self.task, self.claim, self.report = task, claim, Report()
        self.maps = {array.name: np.zeros((count, *array.cell), np.float16) for array in cache.arrays}
        self.status = np.zeros(count, np.uint8)

    def put(self, rows: range, batch: _Fetch | None, failed: list[int]) -> None:
        """Store the features of a batch; those of failed rows stay zero."""
        for name, values in batch.arrays().items() if batch else ():
            if values.dtype == np.float32 != self.maps[name].dtype:  # beyond float16: the store will scale the shard
                self.maps[name] = self.maps[name].astype(np.float32)
            self.maps[name][rows.start : rows.stop] = values
            self.maps[name][failed] = 0


class _Fetch:
    """Features on their way from the device; on CUDA the copy runs while the next batch is computed."""

    def __init__(self, levels: dict[str, torch.Tensor]) -> None:
        self._levels = levels
        halves = {name: level.half() for name, level in levels.items()}
        largest = torch.stack([level.abs().amax().float() for level in levels.values()])
        self._event = None
        if largest.device.type == "cuda":
            halves = {name: _to_pinned(half) for name, half in halves.items()}
            largest = _to_pinned(largest)
            self._event = torch.cuda.Event()
            self._event.record()
        self._halves, self._largest = halves, largest

    def arrays(self) -> dict[str, np.ndarray]:
        """Return (batch, *cell) by name: float16, or float32 where a value is beyond float16."""
        if self._event:
            self._event.synchronize()
        found = {}
        for (name, half), largest in zip(self._halves.items(), self._largest.tolist(), strict=True):
            if not np.isfinite(largest):
                raise C3Error(f"features of {name} hold NaN or infinity; use other --weights, or --precision fp32")
            fits = largest <= FLOAT16_MAX
            found[name] = (half if fits else self._levels[name].float().cpu()).numpy()
        return found


def _to_pinned(values: torch.Tensor) -> torch.Tensor:
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)


class ShardWorker:
    """A backbone and a store, with the threads around them. `run` may be called again and again."""

    def __init__(
        self,
        backbone: Backbone,
        cache: FeatureCache,
        batch_size: int,
        decoding: DecodeOptions = DEFAULT,
        decoders: int | None = None,
    ) -> None:
        self.backbone, self.cache, self.batch_size = backbone, cache, batch_size
        self._loader = CropLoader(decoders, options=decoding, resize=backbone.resize)

    def run(self, tasks: Iterable[ShardTask], on_batch: Callable[[int, int], None]) -> Iterator[Report]:
        """Yield a report for every shard once it is safely written; call `on_batch(rows, failed)` after every batch.

        Shards that are done, or that another process has in hand, are left alone. When the caller stops or an error
        is raised, the shard in hand is given up and the one being written is finished.
        """
        clock = _Clock()
        writing: Future[Report] | None = None
        with (
            ThreadPoolExecutor(1, "write") as writer,
            ExitStack() as claims,
            closing(self._loader.load(self._batches(tasks, claims))) as batches,
        ):
            unfetched: tuple[_Open, range, _Fetch | None, list[int]] | None = None
            for (shard, rows), crops in batches:
                if isinstance(shard, Report):  # left alone
                    yield shard
                    continue
                clock.spent(shard.report, "decode")
                batch = None if crops.empty else _Fetch(self.backbone(crops.on(self.backbone.device)))
                failed = self._note(shard, rows, crops)
                if unfetched:  # its results are taken while the device already computes the next batch
                    unfetched[0].put(*unfetched[1:])
                unfetched = (shard, rows, batch, failed)
                if rows.stop == len(shard.status):
                    shard.put(*unfetched[1:])
                    unfetched = None
                clock.spent(shard.report, "forward")
                on_batch(len(rows), len(failed))
                if rows.stop == len(shard.status):
                    done = writing.result() if writing else None
                    clock.spent(shard.report, "write")
                    writing = writer.submit(self._write, shard)
                    if done:
                        yield done
            if writing:
                report = writing.result()
                clock.spent(report, "write")
                yield report

    def _batches(
        self, tasks: Iterable[ShardTask], claims: ExitStack
    ) -> Iterator[tuple[tuple[_Open | Report, range], list[CropSource]]]:
        """Claim shard by shard and yield its batches; a shard left alone is a report without rows."""
        for task in tasks:
            claim = claims.enter_context(ExitStack())
            held = claim.enter_context(self.cache.claim(task.split, task.shard))
            if not held or (task.was_ok is None and self.cache.is_done(task.split, task.shard)):
                claim.close()
                yield (Report(left=int(not held)), range(0)), []
                continue
            shard = _Open(task, self.cache, claim)
            for start in range(0, len(task.paths), self.batch_size):
                rows = range(start, min(start + self.batch_size, len(task.paths)))
                yield (shard, rows), task.sources(rows)

    def _note(self, shard: _Open, rows: range, batch: CropBatch) -> list[int]:
        """Record the status of the rows of a batch, and return the failed ones."""
        failed = []
        for row, crop in zip(rows, batch.crops, strict=True):
            shard.status[row] = crop.status
            shard.report.rows[crop.status] += 1
            shard.report.remarks.note(str(shard.task.paths[row]), crop.remarks)
            if crop.status != Status.OK:
                failed.append(row)
                reason = f"{shard.task.paths[row]}: {crop.status.name.lower()}, {crop.reason}"
                shard.report.failures = [*shard.report.failures, reason][:KEEP_REASONS]
                if shard.task.was_ok is not None and shard.task.was_ok[row]:
                    raise C3Error(
                        f"{reason}, but it was read when the store was made. Its shard {shard.task.shard} of "
                        f"{shard.task.split} is left as it is; is the image folder {shard.task.root} whole? If it has "
                        f"moved: c3 verify {quote(self.cache.location)} --repair --images FOLDER"
                    )
        return failed

    def _write(self, shard: _Open) -> Report:
        task = shard.task
        with shard.claim:
            try:
                self.cache.write_shard(task.split, task.shard, shard.maps, shard.status)
            except OSError as error:
                raise C3Error(
                    f"shard {task.shard} of {task.split} cannot be written to {self.cache.location}: "
                    f"{error.strerror or error}; what is finished is kept, the same command continues"
                ) from error
        return shard.report


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def spent(self, report: Report, phase: str) -> None:
        now = time.perf_counter()
        report.seconds[phase] += now - self._last
        self._last = now
