"""Extract a data set into a store: find the pending shards, give them to workers, report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext

import numpy as np

from ..common.errors import C3Error
from ..common.progress import progress
from ..common.signals import terminated_like_interrupted
from .append import append
from .cluster import Cluster, WorkerSetup
from .datasets.manifest import Manifest
from .options import ExtractOptions
from .request import Request, open_or_create, prepare
from .store.cache import FeatureCache, Status
from .store.tables import UNKNOWN_PATH
from .worker import Report, ShardTask, ShardWorker

LOG = logging.getLogger(__name__)


def extract(options: ExtractOptions) -> str:
    """Fill a feature store and return a summary. A store that the same request began is continued.

    Raises C3Error when the request cannot be met; the store is then untouched.
    """
    request = prepare(options)
    with _cluster(request) as cluster:  # a cluster that does not answer must not leave a store behind
        if options.append:
            request, cache = append(request)
        else:
            cache = open_or_create(request)
        if options.retry_failed:
            wanted = {split: failed_shards(cache, split) for split in cache.splits}
        else:
            wanted = {split: cache.pending(split) for split in cache.splits}
        tasks = part_of(tasks_of(request.manifest, cache, wanted, options.retry_failed), options.part)
        if tasks:
            return _fill(request, cache, tasks, cluster)
    if not _complete(cache):
        return _unfinished(cache)
    return f"{options.out} is complete already: {contents(cache)}. " + (
        "No failures to retry" if options.retry_failed else "Nothing to do"
    )


def _fill(request: Request, cache: FeatureCache, tasks: list[ShardTask], cluster: Cluster | None) -> str:
    options = request.options
    where = options.scheduler or (f"{options.workers} workers" if options.workers else request.backbone.device)
    weights = request.backbone.weights_id
    if request.backbone.licence:
        weights += f", licence {request.backbone.licence}"
    LOG.info("%s with %s (%s) on %s -> %s", request.manifest.dataset, options.backbone, weights, where, options.out)
    report = Report()
    with progress("extract", sum(len(task.paths) for task in tasks), "images") as bar, terminated_like_interrupted():
        try:
            for done in _reports(request, cache, tasks, cluster, bar.advance):
                report.add(done)
                bar.note = report.shares()
        except KeyboardInterrupt:
            left = sum(len(cache.pending(split)) for split in cache.splits)
            raise KeyboardInterrupt(
                f"{options.out} keeps every finished shard, {left} are pending; the same command continues"
            ) from None
    for failure in report.failures:
        LOG.warning("failed: %s", failure)
    for line in report.remarks.lines("image" if request.manifest.crops == "whole" else "crop"):
        LOG.warning("%s", line)
    if not _complete(cache):
        return _unfinished(cache, report.left)
    if not any((cache.status(split) == Status.OK).any() for split in cache.splits):
        raise C3Error(
            f"not one image under {request.manifest.root} could be read (first: {report.failures[0]}). {options.out} "
            "holds failures only: mend the image folder, then give the same command with --retry-failed"
        )
    failed = ", ".join(f"{n} {status.name.lower()}" for status, n in report.rows.items() if status != Status.OK)
    return f"{options.out} is complete: {contents(cache)}; {failed or 'no failures'}; {report.shares()}"


def _cluster(request: Request) -> AbstractContextManager[Cluster | None]:
    options = request.options
    if options.workers is None and options.scheduler is None:
        return nullcontext()
    return closing(Cluster(WorkerSetup.of(request), options.scheduler, options.workers))


def _reports(
    request: Request,
    cache: FeatureCache,
    tasks: list[ShardTask],
    cluster: Cluster | None,
    on_batch: Callable[[int, int], None],
) -> Iterator[Report]:
    if cluster is None:
        yield from ShardWorker(request.backbone, cache, request.options.batch_size, request.options.decoding).run(
            tasks, on_batch
        )
        return
    for report in cluster.run(tasks):
        on_batch(sum(report.rows.values()), report.failed)
        yield report


def tasks_of(
    manifest: Manifest, cache: FeatureCache, wanted: dict[str, list[int]], again: bool = False
) -> list[ShardTask]:
    """Return a task for every wanted shard; `again` says that they are finished shards with failures."""
    tasks = []
    for split, shards in wanted.items():
        source = manifest.splits[split]
        ok = cache.status(split) == Status.OK if again and shards else None
        for shard in shards:
            rows = cache.shard_rows(split, shard)
            where = slice(rows.start, rows.stop)
            was_ok = None if ok is None else ok[where]
            if (source.path[where] == UNKNOWN_PATH).any():
                raise C3Error(
                    f"{cache.location}: shard {shard} of {split} has to be extracted again, and this data set does not "
                    "say where its pictures are; give --append with the data set that has them"
                )
            tasks.append(ShardTask(split, shard, manifest.root, source.path[where], source.crop[where], was_ok))
    return tasks


def failed_shards(cache: FeatureCache, split: str) -> list[int]:
    """Return the finished shards with a failed row, in order."""
    failed = np.flatnonzero(cache.status(split) > Status.OK) // cache.layout.shard_rows
    shards: list[int] = np.unique(failed).tolist()
    return shards


def part_of(tasks: list[ShardTask], part: tuple[int, int] | None) -> list[ShardTask]:
    """Return the tasks of part (i, n): every n-th shard from the i-th on, by number, so that parts never overlap."""
    if part is None:
        return tasks
    number, parts = part
    return [task for task in tasks if task.shard % parts == number - 1]


def _complete(cache: FeatureCache) -> bool:
    return not any(cache.pending(split) for split in cache.splits)


def _unfinished(cache: FeatureCache, left: int = 0) -> str:
    pending = ", ".join(f"{len(cache.pending(split))} of {cache.shards(split)} in {split}" for split in cache.splits)
    others = f"; {left} were left to another process" if left else ""
    return f"{cache.location}: this part is done; shards pending: {pending}{others}"


def contents(cache: FeatureCache) -> str:
    """Return the rows, arrays and classes of a store in one line."""
    splits = ", ".join(f"{split} {cache.rows(split):,}" for split in cache.splits)
    arrays = " ".join(f"{array.name}({array.channels})" for array in cache.arrays)
    return f"{splits} rows, {arrays}, {len(cache.classes)} classes"
