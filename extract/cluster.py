"""Extract on a dask cluster: one task is one shard, one process holds one backbone, the scheduler is the user's.

Every process runs worker.py, as a local extraction does. This module distributes the shards and checks that the
machines agree on packages and weights.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import PackageNotFoundError
from itertools import count, islice
from typing import TYPE_CHECKING

import torch

from ..common.devices import nth_device, resolve_device
from ..common.errors import C3Error
from .backbone.network import Backbone
from .backbone.weights import load_backbone
from .catalog.catalog import Catalog, weights_of
from .options import ExtractOptions, from_anywhere
from .request import Request, package_versions
from .store.cache import FeatureCache
from .store.storage import open_storage
from .worker import Report, ShardTask, ShardWorker

if TYPE_CHECKING:
    from distributed import Future, Worker

LOG = logging.getLogger(__name__)
ANSWER_WITHIN = 30  # seconds for a scheduler, and for its first worker
RETRIES = 2  # of a shard whose task raised an error; the scheduler itself moves the shards of a lost worker
TASKS_PER_WORKER = 2  # submitted at a time, so that the scheduler never holds a long list
ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker process needs to build its backbone: options whose paths mean the same on every machine.

    `threads` is its share of this machine; 0 means all.
    """

    options: ExtractOptions
    weights_sha256: str
    threads: int
    versions: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, request: Request) -> WorkerSetup:
        """Return the setup for a request."""
        options = request.options
        weights = from_anywhere(weights_of(options.backbone, options.weights, Catalog(options.catalog)))
        return cls(
            options=replace(options, out=open_storage(options.out).address, weights=weights),
            weights_sha256=request.backbone.weights_sha256,
            threads=max((os.cpu_count() or 1) // options.workers, 1) if options.workers else 0,
            versions=tuple(package_versions(options.backbone).items()),
        )


def check_worker(setup: WorkerSetup, dask_worker: Worker | None = None) -> str | None:
    """Say how this worker, which dask names, differs from the machine that submits; None when it does not."""
    where = socket.gethostname()
    try:
        mine = package_versions(setup.options.backbone)
    except PackageNotFoundError as error:
        return f"worker {where} lacks the package {error.name}"
    differing = [f"{name} {mine[name]}, here {version}" for name, version in setup.versions if mine[name] != version]
    if differing:
        return f"worker {where} has {'; '.join(differing)}"
    try:
        found = _backbone(setup, _number(dask_worker)).weights_sha256
    except C3Error as error:
        return f"worker {where}: {error}"
    if found != setup.weights_sha256:
        return f"worker {where} has weights {found[:12]}, here {setup.weights_sha256[:12]}"
    return None


def work(task: ShardTask, setup: WorkerSetup) -> Report:
    """Extract one shard on this worker, with the backbone of the process."""
    worker = _this_worker()
    with ONE_AT_A_TIME:  # the threads of a process share one device
        wrong = check_worker(setup, worker)  # workers may join late
        if wrong:
            raise C3Error(wrong)
        total = Report()
        for report in _shard_worker(setup, _number(worker)).run([task], lambda _rows, _failed: None):
            total.add(report)
        return total


@lru_cache(maxsize=1)
def _backbone(setup: WorkerSetup, number: int) -> Backbone:
    if setup.threads:
        torch.set_num_threads(setup.threads)
    options, device = setup.options, resolve_device(nth_device(setup.options.device, number))
    backbone = load_backbone(
        options.backbone, options.weights, device, options.precision, options.extras, options.input_size
    )
    if options.compiled:
        backbone.compile_for(options.batch_size)
    return backbone


@lru_cache(maxsize=1)
def _shard_worker(setup: WorkerSetup, number: int) -> ShardWorker:
    cache = FeatureCache.open(setup.options.out, mode="r+")
    options = setup.options
    return ShardWorker(_backbone(setup, number), cache, options.batch_size, options.decoding, setup.threads or None)


def _this_worker() -> Worker | None:
    """Return the dask worker that runs this task; None outside of a task, as in a test."""
    from distributed import get_worker

    try:
        return get_worker()
    except ValueError:
        return None


def _number(worker: Worker | None) -> int:
    """Return the number of a worker, by which the workers of a machine share its devices out; 0 when it has none."""
    name = str(worker.name) if worker else ""
    return int(name) if name.isdigit() else 0


def _lost(task: ShardTask, error: Exception) -> C3Error:
    return C3Error(
        f"shard {task.split}-{task.shard} could not be made ({type(error).__name__}: {error}); finished shards are "
        "kept, the same command continues"
    )


class Cluster:
    """A scheduler for shards: the one at `address`, or `workers` processes on this machine."""

    def __init__(self, setup: WorkerSetup, address: str | None = None, workers: int | None = None) -> None:
        from distributed import Client, LocalCluster

        self._setup = setup
        self._local = None
        try:
            if address is None:
                self._local = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                )
            self._client = Client(self._local or address, timeout=ANSWER_WITHIN)
            self._client.wait_for_workers(1, timeout=ANSWER_WITHIN)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            self.close()
            where = address or "a local cluster"
            raise C3Error(
                f"{where} has no worker that answered within {ANSWER_WITHIN} s ({type(error).__name__}: {error}); "
                "check the address, and start workers with: dask worker tcp://... --nthreads 1"
            ) from error
        LOG.info("dashboard: %s", self._client.dashboard_link)
        wrong = [answer for answer in self._client.run(check_worker, setup).values() if answer]
        if wrong:
            self.close()
            raise C3Error(f"{wrong[0]}; every worker needs the same packages and weights")

    def run(self, tasks: list[ShardTask]) -> Iterator[Report]:
        """Yield the report of every shard when it is finished, in any order.

        The scheduler gives a shard up when several workers died with it, whatever they died of. Such shards are tried
        again after all others, for as long as one of them succeeds: it is the shard's own fault only if none does.
        """
        for attempt in count():
            given_up: list[tuple[ShardTask, Exception]] = []
            yield from self._attempt(attempt, tasks, given_up)
            if not given_up:
                return
            if len(given_up) == len(tasks):
                raise _lost(*given_up[0]) from given_up[0][1]
            tasks = [task for task, _ in given_up]
            LOG.warning("%d shards are tried again, %s-%d first: workers died with them", len(tasks), tasks[0].split,
                        tasks[0].shard)  # fmt: skip

    def _attempt(
        self, attempt: int, tasks: list[ShardTask], given_up: list[tuple[ShardTask, Exception]]
    ) -> Iterator[Report]:
        """Yield the reports of one attempt, and add the shards that the scheduler gave up."""
        from distributed import KilledWorker, as_completed

        waiting, submitted = iter(tasks), dict[object, ShardTask]()

        def submit(number: int) -> Iterator[Future[Report]]:
            for task in islice(waiting, number):
                future = self._client.submit(
                    work, task, self._setup, key=f"{task.split}-{task.shard}-{attempt}", retries=RETRIES, pure=False
                )
                submitted[future.key] = task
                yield future

        under_way = as_completed(list(submit(self._room())))
        for future in under_way:
            task = submitted.pop(future.key)
            try:
                yield future.result()
            except C3Error:
                raise
            except KilledWorker as error:
                given_up.append((task, error))
            except Exception as error:  # any error that came back after the retries
                raise _lost(task, error) from error
            for new in submit(max(self._room() - under_way.count(), 0)):
                under_way.add(new)

    def _room(self) -> int:
        return max(len(self._client.scheduler_info(n_workers=-1)["workers"]), 1) * TASKS_PER_WORKER

    def close(self) -> None:
        """Leave the scheduler, and end a local cluster."""
        for part in (getattr(self, "_client", None), self._local):
            if part is not None:
                part.close()
