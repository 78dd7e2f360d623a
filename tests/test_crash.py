"""Whatever stops an extraction, the same command goes on, and the store equals that of an uninterrupted run."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from forks import FORKS
from small_disk import SmallDisk

KILLS = 25


def arrays(path: Path | str) -> Iterator[tuple[str, np.ndarray]]:
    cache = FeatureCache.open(path)
    cache.require_complete()
    for split in cache.splits:
        yield f"{split}/status", cache.status(split)
        yield f"{split}/image_id", cache.image_ids(split)
        for level in cache.levels:
            yield f"{split}/{level.name}", cache.maps(split, level.name)[:]


def assert_equal(one: Path | str, other: Path | str) -> None:
    for (name, found), (_, expected) in zip(arrays(one), arrays(other), strict=True):
        np.testing.assert_array_equal(found, expected, err_msg=name)


def start(options: ExtractOptions) -> multiprocessing.Process:
    process = FORKS.Process(target=extract, args=(options,), daemon=True)
    process.start()
    return process


def flags(options: ExtractOptions) -> set[Path]:
    return {file for file in Path(options.out).glob("*/done/c/*") if "." not in file.name}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_store(finished: ExtractOptions, tmp_path: Path) -> None:
    options = replace(finished, out=tmp_path / "killed.zarr")
    rng = random.Random(0)
    killed = 0
    while killed < KILLS:
        before = {flag: flag.stat().st_mtime_ns for flag in flags(options)}
        process = start(options)
        process.join(rng.uniform(0.0, 1.2))
        if not process.is_alive():  # it finished first: begin anew
            assert process.exitcode == 0
            assert_equal(options.out, finished.out)
            options = replace(options, out=tmp_path / f"killed-{killed}.zarr")
            continue
        process.kill()
        process.join()
        killed += 1
        after = {flag: flag.stat().st_mtime_ns for flag in flags(options)}
        assert before.items() <= after.items()  # a finished shard is never made again
    assert "is complete" in extract(options)
    assert_equal(options.out, finished.out)


def stop_itself(command: list[str], number: signal.Signals, said: Path) -> None:
    """What a child runs: the program, which gets a signal after its third shard; `said` is its stderr."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    write, written = FeatureCache.write_shard, []

    def write_shard(*arguments: object) -> None:
        write(*arguments)
        written.append(1)
        if len(written) == 3:
            os.kill(os.getpid(), number)

    FeatureCache.write_shard = write_shard
    with said.open("w") as file:
        os.dup2(file.fileno(), 2)
    main(command)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_says_how_to_go_on(
    finished: ExtractOptions, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "stopped.zarr"
    command = ["--catalog", str(finished.catalog), "extract", "--dataset", "tiny", "--backbone", "squeezenet1_1",
               "--weights", "random:0", "--out", str(out), "--batch-size", "2", "--chunk-rows", "1",
               "--shard-rows", "2", "--device", "cpu"]  # fmt: skip
    process = FORKS.Process(target=stop_itself, args=(command, number, tmp_path / "said"), daemon=True)
    process.start()
    process.join()
    said = (tmp_path / "said").read_text()
    assert process.exitcode == 130, said
    assert f"c3: interrupted. {out} keeps every finished shard" in said
    assert "Traceback" not in said
    assert 3 <= len(flags(replace(finished, out=out))) < 24
    extract(replace(finished, out=out))
    assert_equal(out, finished.out)


def test_two_processes_on_one_store_share_the_work(finished: ExtractOptions, tmp_path: Path) -> None:
    options = replace(finished, out=tmp_path / "both.zarr")
    first = start(options)
    while not flags(options) and first.is_alive():
        time.sleep(0.005)
    second = start(options)
    for process in (first, second):
        process.join()
        assert process.exitcode == 0
    assert "Nothing to do" in extract(options)
    assert_equal(options.out, finished.out)


def test_a_shard_in_other_hands_is_left_alone(finished: ExtractOptions, tmp_path: Path) -> None:
    options = replace(finished, out=tmp_path / "held.zarr")
    extract(replace(options, part=(1, 12)))  # makes the store and a twelfth of it
    code = (
        "import sys; from c3.extract.store.cache import FeatureCache\n"
        f"with FeatureCache.open({str(options.out)!r}, mode='r+').claim('train', 5) as held:\n"
        "    print(held, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    said = extract(options)
    assert "shards pending: 1 of 12 in train" in said
    assert "1 were left to another process" in said
    holder.communicate("")
    assert "is complete" in extract(options)
    assert_equal(options.out, finished.out)


def test_a_full_disk_is_one_line_and_nothing_is_lost(finished: ExtractOptions, small_disk: SmallDisk) -> None:
    options = replace(finished, out=small_disk.path / "full.zarr")
    extract(replace(options, limit=2))  # fits
    options = replace(options, out=small_disk.path / "fuller.zarr", codec="none")
    with pytest.raises(C3Error, match=r"shard \d+ of \w+ cannot be written to .*No space left.*same command continues"):
        extract(options)
    done = len(flags(options))
    assert 0 < done < 24
    small_disk.grow(50)
    assert "is complete" in extract(options)
    assert_equal(options.out, finished.out)


def test_too_little_space_is_said_before_anything_is_written(
    finished: ExtractOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("c3.extract.store.storage.LocalStorage.free_bytes", lambda self: 1_000_000)
    with pytest.raises(C3Error, match=r"about 0\.0 GB are needed \(48 rows.*0\.0 GB are free.*--dtype int8"):
        extract(replace(finished, out=tmp_path / "none.zarr"))
    assert not (tmp_path / "none.zarr").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_one_line(finished: ExtractOptions, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(C3Error, match="cannot create"):
        extract(replace(finished, out=tmp_path / "locked" / "f.zarr"))
