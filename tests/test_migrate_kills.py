"""A migration that is killed leaves a store that opens, and the same command finishes it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.migrate import migrate
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import FeatureArray, Layout
from c3.extract.store.migrate import MARKER, migrate_store
from c3.extract.store.tables import Classes, Rows, SparseLabels
from c3.extract.verify import verify
from forks import FORKS
from origins import PROVENANCE, origin_of
from schema_2 import new_stores_of_version_2

RANDOM_KILLS = 12


def small_store(path: Path) -> Path:
    """One split of two rows, one level."""
    labels = SparseLabels.from_lists([([0], []), ([], [])])
    ids = np.array(["a", "b"])
    cache = FeatureCache.create(
        path, origin=origin_of(), provenance=PROVENANCE, levels=(FeatureArray("p8", 2),), layout=Layout(2, 2),
        classes=Classes(("x",), np.array([True]), np.ones((1, 2), np.float32)),
        splits={"train": Rows(ids, np.zeros((2, 4), np.float32), labels, ids)},
    )  # fmt: skip
    cache.write_shard("train", 0, {"p8": np.ones((2, 2, 7, 7), np.float16)}, np.ones(2, np.uint8))
    return path


def killed_at(path: Path, step: int) -> None:
    """Migrate; the process is killed before the file operation number `step`. Exits with 0 when there are fewer."""
    left = step

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir") and str(path) in str(arguments[0]):
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    cache = FeatureCache.open(path, mode="r+")
    sys.addaudithook(count)
    migrate_store(cache.storage, cache.attributes, known_paths(cache))


def known_paths(cache: FeatureCache) -> dict[str, np.ndarray]:
    return {split: np.array([f"{name}.png" for name in cache.image_ids(split).tolist()]) for split in cache.splits}


def run(target: Callable[..., object], *arguments: object, seconds: float | None = None) -> int | None:
    process = FORKS.Process(target=target, args=arguments, daemon=True)
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode


def finish(path: Path) -> None:
    """What must hold of a store whose migration was killed, and that the same command finishes it."""
    cache = FeatureCache.open(path, mode="r+")
    assert cache.schema in (2, 3)
    cache.require_complete()
    assert cache.read("train", "p8", 0, 2).all()
    if MARKER in cache.storage.names(""):
        with pytest.raises(C3Error, match="its migration was interrupted; finish it with: c3 migrate"):
            verify(path, repair=True)
    if cache.schema == 2:
        migrate_store(cache.storage, cache.attributes, known_paths(cache))
    else:
        migrate(path)
    done = FeatureCache.open(path)
    assert (done.schema, done.digest) == (3, cache.digest)
    assert done.image_paths("train").tolist() == known_paths(done)["train"].tolist()
    assert "is sound" in verify(path)  # no scratch file is left either


@pytest.mark.slow
def test_killed_at_each_step_it_is_finished_by_the_same_command(tmp_path: Path) -> None:
    with new_stores_of_version_2():
        old = small_store(tmp_path / "old.zarr")
    for step in range(1, 1000):
        path = tmp_path / f"step{step}.zarr"
        shutil.copytree(old, path)
        code = run(killed_at, path, step)
        assert code in (0, -signal.SIGKILL)
        finish(path)
        shutil.rmtree(path)
        if code == 0:
            break
    assert step > 25  # the metadata of each of 13 arrays, three files of paths, two of attributes, marker and folders


@pytest.mark.slow
def test_killed_at_any_moment_it_is_finished_by_the_same_command(
    small_extraction: Callable[..., ExtractOptions], tmp_path: Path
) -> None:
    options, rng = small_extraction(tmp_path, 8), random.Random(0)
    with new_stores_of_version_2():
        extract(options)
    old = options.out
    for number in range(RANDOM_KILLS):
        path = old.with_name(f"kill{number}.zarr")
        shutil.copytree(old, path)
        run(migrate, path, seconds=rng.uniform(0, 0.6))
        cache = FeatureCache.open(path)
        assert cache.schema in (2, 3)
        migrate(path)
        done = FeatureCache.open(path)
        found = [name for split in done.splits for name in done.image_paths(split).tolist()]
        assert found == [f"{number:02d}.png" for number in range(8)]
        assert "is sound" in verify(path)
