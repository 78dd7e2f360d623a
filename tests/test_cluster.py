"""The same store from several processes, whatever happens to them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract import cluster
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.extract.worker import Report, ShardTask

# Processes with other numbers of threads may differ in the last bit of a sum.
CLOSE = {"rtol": 2e-3, "atol": 2e-3}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a worker takes a minute to import torch."""
    monkeypatch.setattr(cluster, "ANSWER_WITHIN", 240)


@pytest.fixture(autouse=True)
def same_environment() -> Iterator[None]:
    """dask sets OMP_NUM_THREADS for its workers in the environment of the process that starts them."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def scheduler() -> Iterator[tuple[str, Callable[[], subprocess.Popen]]]:
    """A scheduler of its own process, and a function that starts a worker for it."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    # a shard is given up at the first worker that dies with it: the most that a scheduler may be set to
    environment = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}

    def run(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:], "--no-dashboard"]
        processes.append(
            subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
        )
        return processes[-1]

    address = f"tcp://127.0.0.1:{port}"
    run("dask_scheduler", "--host", "127.0.0.1", "--port", str(port))
    yield address, lambda: run("dask_worker", address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0")
    for process in processes:
        process.kill()
        process.wait()


def assert_close(one: Path | str, other: Path | str) -> None:
    found, expected = FeatureCache.open(one), FeatureCache.open(other)
    found.require_complete()
    assert found.digest == expected.digest
    for split in expected.splits:
        np.testing.assert_array_equal(found.status(split), expected.status(split))
        for level in expected.levels:
            np.testing.assert_allclose(
                found.maps(split, level.name)[:], expected.maps(split, level.name)[:], err_msg=level.name, **CLOSE
            )


@pytest.mark.slow
def test_workers_on_this_machine_make_the_same_store(finished: ExtractOptions, tmp_path: Path) -> None:
    options = replace(finished, out=tmp_path / "w.zarr", workers=2)
    assert "is complete" in extract(options)
    assert_close(options.out, finished.out)
    assert "Nothing to do" in extract(replace(options, workers=None))


@pytest.mark.slow
def test_workers_that_die_cost_their_shard_and_nothing_else(
    finished: ExtractOptions,
    tmp_path: Path,
    scheduler: tuple[str, Callable[[], subprocess.Popen]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One dies before it writes a shard, one before it reports a written one, and others join in their places."""
    address, add_worker = scheduler
    started = [add_worker(), add_worker()]

    def work(task: ShardTask, setup: cluster.WorkerSetup) -> Report:
        mark = tmp_path / f"{task.split}-{task.shard}"
        if mark.name in ("train-1", "train-5", "val-0") and not mark.exists():
            mark.touch()
            write = FeatureCache.write_shard

            def die(*arguments: object) -> None:
                if task.split == "val":
                    write(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)

            FeatureCache.write_shard = die
        return cluster.work(task, setup)  # a worker has its own

    monkeypatch.setattr(cluster, "work", work)
    options = replace(finished, out=tmp_path / "d.zarr", scheduler=address)
    stop = threading.Event()

    def dead() -> int:
        return sum(worker.poll() == -signal.SIGKILL for worker in started)

    def replace_the_dead() -> None:
        while not stop.wait(0.05):
            if len(started) < 2 + dead():
                started.append(add_worker())

    replacing = threading.Thread(target=replace_the_dead)
    replacing.start()
    try:
        said = extract(options)
    finally:
        stop.set()
        replacing.join()
    assert dead() == 3
    assert "is complete" in said
    assert_close(options.out, finished.out)


def test_a_shard_that_ends_every_worker_is_named_after_all_others_are_done(
    finished: ExtractOptions, scheduler: tuple[str, Callable[[], subprocess.Popen]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, add_worker = scheduler
    workers = [add_worker(), add_worker()]

    def work(task: ShardTask, setup: object) -> Report:
        if task.shard == 4:
            time.sleep(0.5)
            os._exit(1)
        return Report(left=1)

    monkeypatch.setattr(cluster, "work", work)
    tasks = [ShardTask("train", shard, Path(), np.empty(0), np.empty(0)) for shard in (0, 1, 2, 3, 5, 4)]
    done = []
    found = cluster.Cluster(setup(finished), address)
    try:
        with pytest.raises(C3Error, match=r"shard train-4 could not be made \(KilledWorker"):
            done.extend(found.run(tasks))
    finally:
        found.close()
    assert len(done) == 5
    assert all(worker.wait(120) for worker in workers)


def test_a_scheduler_that_does_not_answer_is_one_line(
    finished: ExtractOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER_WITHIN", 1)
    out = tmp_path / "none.zarr"
    with pytest.raises(C3Error, match=r"tcp://127\.0\.0\.1:9 has no worker that answered within 1 s"):
        extract(replace(finished, out=out, scheduler="tcp://127.0.0.1:9"))
    assert not out.exists()


def setup(finished: ExtractOptions, **changed: object) -> cluster.WorkerSetup:
    from c3.extract.request import prepare

    return replace(cluster.WorkerSetup.of(prepare(finished)), **changed)


def test_a_worker_with_other_packages_or_weights_is_named(finished: ExtractOptions) -> None:
    assert cluster.check_worker(setup(finished)) is None
    versions = (("torch", "1.0"), ("numpy", "9"))
    assert "here 1.0; numpy" in cluster.check_worker(setup(finished, versions=versions))
    assert "has weights" in cluster.check_worker(setup(finished, weights_sha256="f" * 64))
    assert "random:SEED" in cluster.check_worker(setup(finished, options=replace(finished, weights="random:x")))


def test_a_setup_means_the_same_on_every_machine(finished: ExtractOptions) -> None:
    from c3.extract.request import prepare

    request = prepare(finished)
    for out, expected in ((os.path.relpath(finished.out), str(finished.out)), ("s3://b/f.zarr", "s3://b/f.zarr")):
        asked = replace(request, options=replace(finished, out=out))
        assert cluster.WorkerSetup.of(asked).options.out == expected


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 24, 30])
def test_parts_are_disjoint_and_together_everything(finished: ExtractOptions, parts: int) -> None:
    from c3.extract.request import prepare
    from c3.extract.run import part_of, tasks_of

    cache = FeatureCache.open(finished.out)
    wanted = {split: list(range(cache.shards(split))) for split in cache.splits}
    tasks = tasks_of(prepare(finished).manifest, cache, wanted)
    dealt = [part_of(tasks, (number, parts)) for number in range(1, parts + 1)]
    assert sorted(
        (task.split, task.shard) for part in dealt for task in part
    ) == sorted((task.split, task.shard) for task in tasks)  # fmt: skip
    sizes = [len(part) for part in dealt]
    assert max(sizes) - min(sizes) <= len(cache.splits)
