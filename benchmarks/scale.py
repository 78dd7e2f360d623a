"""Measure planning, resuming and listing for up to ten million crops.

    python benchmarks/scale.py

A store of VGG19 levels is created for seeded rows. Half of its shards get every file of a finished shard, the maps as
empty files. Then each step of a resumed extraction that grows with the rows runs in its own process. Its peak memory
(VmHWM) is printed beside the memory before and after the step: the libraries (most of it torch), and the manifest
where the step has one. The seconds of a processor depend less on what else runs than the seconds that pass.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
from c3.extract.cluster import Cluster
from c3.extract.datasets.manifest import Manifest, whole_images
from c3.extract.datasets.openimages_csv import id_texts
from c3.extract.run import tasks_of
from c3.extract.store.cache import FeatureCache
from c3.extract.store.inspect import describe
from c3.extract.store.layout import FeatureArray, Layout
from c3.extract.store.origin import FeatureOrigin, Provenance
from c3.extract.store.tables import Classes, SparseLabels
from c3.extract.store.texts import Texts
from c3.extract.worker import Report, ShardTask
from memory import peak, resident

LEVELS = (FeatureArray("p8", 256), FeatureArray("p16", 512), FeatureArray("p32", 512))
SEEN, UNSEEN = 7186, 400  # Open Images
LABELS = 4  # per crop
SHARD_ROWS = 1024  # what `c3 extract` chooses above 100,000 rows


def manifest_of(rows: int) -> Manifest:
    """Draw rows whose ids, paths, crops and labels have the sizes of Open Images."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 2**64, rows, np.uint64)
    indices = np.empty((rows, LABELS), np.int32)
    indices[:] = rng.integers(0, SEEN + UNSEEN - LABELS, (rows, 1), np.int32)
    indices += np.arange(LABELS, dtype=np.int32)
    indptr = np.arange(0, (rows + 1) * LABELS, LABELS, dtype=np.int64)
    labels = SparseLabels(indptr, indices.reshape(-1), np.ones(rows * LABELS, np.int8))
    count = SEEN + UNSEEN
    classes = Classes(tuple(map(str, range(count))), np.arange(count) < SEEN, np.ones((count, 300), np.float32))
    ids = Texts(((id_texts(numbers), None),))
    folders = [f"train/train_{digit}/" for digit in "0123456789abcdef"]
    paths = ids.affixed(folders, (numbers >> np.uint64(60)).astype(np.uint8), ".jpg")
    return Manifest("scale", Path("images"), "verified", classes, {"train": whole_images(paths, ids, labels)})


def create(manifest: Manifest, path: Path) -> FeatureCache:
    """Create the store of a manifest."""
    return FeatureCache.create(
        path,
        origin=FeatureOrigin("scale", "0" * 64, "verified", "vgg19", "0" * 64, (), None, "whole"),
        provenance=Provenance("2026-01-01", "none"),
        levels=LEVELS,
        classes=manifest.classes,
        splits={"train": manifest.splits["train"]},
        layout=Layout(chunk_rows=64, shard_rows=SHARD_ROWS),
        overwrite=True,
    )


def finish_half(path: Path) -> None:
    """Give every other shard of a store the files of a finished one."""
    cache = FeatureCache.open(path, "r+")
    shard = cache.shard_rows("train", 0)
    maps = {level.name: np.zeros((len(shard), level.channels, 7, 7), np.float16) for level in LEVELS}
    cache.write_shard("train", 0, maps, np.ones(len(shard), np.uint8))
    keys = [*cache.shape.shard_keys("train", 0), "train/done/c/0"]
    files = {key: b"" if "/pyramid/" in key else bytes(cache.storage.read(key)) for key in keys}
    for number in range(2, cache.shards("train") - 1, 2):  # the last shard is short
        for key, data in files.items():
            cache.storage.write(key.replace("/c/0", f"/c/{number}"), data)


class NoWork(Cluster):
    """The real window of tasks on a scheduler in this process, whose one worker does nothing."""

    def __init__(self) -> None:
        from distributed import Client, LocalCluster

        self._local = LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None)
        self._client, self._setup = Client(self._local), None
        submit = self._client.submit
        self._client.submit = lambda work, task, setup, **options: submit(count_rows, task, **options)


def count_rows(task: ShardTask) -> Report:
    """Return an empty report, without any work."""
    return Report()


def pending_tasks(manifest: Manifest, path: Path) -> list[ShardTask]:
    """Return the tasks that a resumed extraction begins with."""
    cache = FeatureCache.open(path)
    return tasks_of(manifest, cache, {"train": cache.pending("train")})


def schedule(tasks: list[ShardTask]) -> int:
    """Give every task to the scheduler; return the number of reports."""
    with closing(NoWork()) as cluster:
        return sum(1 for _ in cluster.run(tasks))


# Step -> how to prepare its input, and the step itself.
STEPS: dict[str, tuple[Callable[[int, Path], object], Callable[[object], object]]] = {
    "manifest": (lambda rows, path: rows, manifest_of),
    "manifest digest": (lambda rows, path: manifest_of(rows), lambda manifest: manifest.digest()),
    "create": (lambda rows, path: (manifest_of(rows), path), lambda both: create(*both)),
    "finish half of the shards": (lambda rows, path: path, finish_half),
    "open": (lambda rows, path: path, FeatureCache.open),
    "list pending shards": (lambda rows, path: FeatureCache.open(path), lambda cache: cache.pending("train")),
    "read statuses": (lambda rows, path: FeatureCache.open(path), lambda cache: cache.status("train")),
    "c3 inspect": (lambda rows, path: path, lambda path: describe(FeatureCache.open(path))),
    "build tasks": (lambda rows, path: (manifest_of(rows), path), lambda both: pending_tasks(*both)),
    "dask scheduler": (lambda rows, path: pending_tasks(manifest_of(rows), path), schedule),
}


def child(step: str, rows: int, path: Path) -> dict[str, float]:
    """Run a step in this process; return its seconds, and the MiB before it and at its peak."""
    prepare, act = STEPS[step]
    given = prepare(rows, path)
    before = resident()
    start, cpu = time.perf_counter(), time.process_time()
    made = act(given)
    seconds = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    most = peak()
    return {**seconds, "before": before, "peak": most, "after": resident() if made is not None else 0}


def run(step: str, rows: int, path: Path) -> dict[str, float]:
    """Run `child` in a new process."""
    command = [sys.executable, __file__, "--child", step, str(rows), str(path)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def main() -> None:
    """Create each store and time each step; print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    parser.add_argument("--steps", nargs="+", choices=STEPS, help="only these; a store needs create before it is read")
    parser.add_argument(
        "--quick", action="store_true", help="10,000 rows in one process, to check that everything runs"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, rows, path = arguments.child
        print(json.dumps(child(step, int(rows), Path(path))))
        return
    load = os.getloadavg()[0]
    print("| rows | step | seconds | of a processor | MiB before | at most | after |\n|---|---|---|---|---|---|---|")
    for rows in [10**4] if arguments.quick else arguments.rows:
        folder = Path(tempfile.mkdtemp(prefix="c3-scale-"))
        try:
            for step in arguments.steps or STEPS:
                done = (child if arguments.quick else run)(step, rows, folder / "features.zarr")
                print(
                    f"| {rows:,} | {step} | {done['seconds']:.2f} | {done['cpu']:.2f} | {done['before']:.0f} "
                    f"| {done['peak']:.0f} | {done['after']:.0f} |",
                    flush=True,
                )
        finally:
            shutil.rmtree(folder)
    print(f"\nload {load:.1f} before, {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
