"""Several processes train one model: rows are divided, losses are those of the whole batch, and all end alike."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.evaluate.report.groups import group_runs
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import Layout
from c3.train.data.batches import Batch, BatchStream
from c3.train.data.placement import Placement
from c3.train.distributed.rank_rows import rank_rows, rank_sizes
from c3.train.distributed.world import World, _own_device
from c3.train.run import train
from c3.train.run_folder import Run, list_runs
from safetensors.torch import load_file
from two_processes import (
    RANKS,
    SECONDS,
    TRAINED,
    asked,
    compare_methods,
    descent,
    ends,
    go_on_and_die,
    launch,
    same,
    train_methods,
)

Make = Callable[..., FeatureCache]
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_every_row_has_one_rank_and_few_chunks_have_two(ranks: int) -> None:
    usable = np.flatnonzero(np.random.default_rng(0).random(1000) < 0.6)
    parts = [rank_rows(usable, 16, 3, rank, ranks) for rank in range(ranks)]
    assert np.array_equal(np.sort(np.concatenate(parts)), usable)
    assert all(np.array_equal(part, np.sort(part)) for part in parts)
    assert len({len(part) for part in parts}) <= 2
    chunks = [set((part // 16).tolist()) for part in parts]
    assert sum(map(len, chunks)) - len(set.union(*chunks)) <= ranks - 1
    again, other = (rank_rows(usable, 16, seed, 0, ranks) for seed in (3, 4))
    assert np.array_equal(again, parts[0])
    assert ranks == 1 or not np.array_equal(other, parts[0])


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_every_batch_is_shared_evenly_and_the_shares_are_all_rows_of_a_rank(ranks: int) -> None:
    for rows, batch_size in ((100, 7), (97, 48), (50, 50), (23, 8)):
        sizes = [batch_size] * (rows // batch_size) + [rows % batch_size] * (rows % batch_size > 0)
        shares = rank_sizes(sizes, ranks)
        assert shares.sum(axis=1).tolist() == sizes
        assert (np.ptp(shares, axis=1) <= 1).all()
        whole = [len(rank_rows(np.arange(rows), 4, 0, rank, ranks)) for rank in range(ranks)]
        assert shares.sum(axis=0).tolist() == whole


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("residency", ["stream", "ram"])
def test_the_streams_of_all_ranks_are_an_epoch_of_the_same_batches(
    make_cache: Make, ranks: int, residency: str
) -> None:
    cache = make_cache(rows=50)
    alone = BatchStream(cache, "train", ["p8"], 7, seed=0)
    streams = [
        BatchStream(cache, "train", ["p8"], 7, 0, 16, Placement(residency), World(rank=rank, size=ranks))
        for rank in range(ranks)
    ]
    truth = torch.from_numpy(cache.read("train", "p8", 0, 50))
    for epoch in (0, 1):
        batches = [list(stream.epoch(epoch)) for stream in streams]
        rows = [row for part in batches for batch in part for row in batch.rows.tolist()]
        assert sorted(rows) == alone.rows.tolist()  # every row once
        assert [sum(len(batch.rows) for batch in step) for step in zip(*batches, strict=True)] == alone.sizes
        assert all(torch.equal(batch.arrays["p8"], truth[batch.rows]) for part in batches for batch in part)
        for stream, part in zip(streams, batches, strict=True):
            assert [b.rows.tolist() for b in stream.epoch(epoch, 2)] == [b.rows.tolist() for b in part[2:]]


def test_no_rank_is_without_a_row(make_cache: Make) -> None:
    cache = make_cache(rows=50)
    for batch_size in (5, 6, 9, 13):
        streams = [BatchStream(cache, "train", ["p32"], batch_size, 0, world=World(rank=r, size=5)) for r in range(5)]
        usable = streams[0].rows
        for count in range(5, len(usable) + 1):
            for stream in streams:
                stream.rows = usable[:count]
            shares = rank_sizes(streams[0].sizes, 5)
            assert shares.min() >= 1
            assert shares.sum() == count
    for batch_size, size in ((4, 5), (60, 60)):
        with pytest.raises(C3Error, match=f"{size} processes need a row of every batch: batch_size is {batch_size}"):
            BatchStream(cache, "train", ["p32"], batch_size, 0, world=World(size=size))


def test_processes_of_one_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("c3.train.data.placement.free_memory", lambda: 8_000_000_000)
    assert [Placement("auto", processes=n).resolved(2_000_000_000) for n in (1, 2, 4)] == ["ram", "ram", "stream"]


def test_every_process_gets_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "c3.train.distributed.world.resolve_device", lambda name: torch.device("cuda" if name == "auto" else name)
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [_own_device(name, 1, 2) for name in ("auto", "cuda")] == [torch.device("cuda:1")] * 2
    assert _own_device("cpu", 1, 4) == torch.device("cpu")
    with pytest.raises(C3Error, match="torchrun gives every process a device of its own; use --device cuda"):
        _own_device("cuda:1", 1, 2)
    with pytest.raises(C3Error, match="4 processes on this machine, which has 2 CUDA devices"):
        _own_device("cuda", 1, 4)


def test_a_sweep_is_not_shared(make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(C3Error, match="only c3 train --cache can share"):
        train(asked(make_cache().path, tmp_path, "c3"))


def test_loss_gradients_and_buffers_of_every_method_are_those_of_one_process(tmp_path: Path) -> None:
    assert launch(compare_methods, tmp_path / "work") == [0] * RANKS


def losses(run: Run) -> list[float]:
    with (run.path / "log.csv").open() as file:
        return [float(line["loss"]) for line in csv.DictReader(file)]


class Replayed(BatchStream):
    """The batches of two ranks as one: what one process has to be fed with."""

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        parts = [
            BatchStream(
                self.cache, self.split, self.arrays, self.batch_size, self.seed, world=World(rank=r, size=RANKS)
            )
            for r in range(RANKS)
        ]
        for step in zip(*(part.epoch(epoch) for part in parts), strict=True):
            arrays = {name: torch.cat([batch.arrays[name] for batch in step]) for name in self.arrays}
            labels, rows = torch.cat([b.labels for b in step]), np.concatenate([b.rows for b in step])
            yield Batch(arrays, labels, rows)


def test_two_processes_train_what_one_does_with_the_same_batches(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, folder = make_cache(rows=50), tmp_path / "work"
    usable = BatchStream(cache, "train", ["p8"], 7, 0).rows.tolist()
    assert launch(train_methods, folder, cache.path) == [0] * RANKS
    for epoch in range(2):
        seen = [sorted(np.concatenate([np.load(f) for f in folder.glob(f"rows-{epoch}-*-{r}.npy")])) for r in (0, 1)]
        assert not set(seen[0]) & set(seen[1])
        assert sorted(seen[0] + seen[1]) == usable
    monkeypatch.setattr("c3.train.run.BatchStream", Replayed)
    monkeypatch.setattr("torch.optim.Adam", descent)
    runs = {run.method: run for run in list_runs(folder / "runs")}
    assert list(runs) == list(TRAINED)
    for method, run in runs.items():
        first, second = (load_file(folder / f"{run.id}-{rank}.safetensors") for rank in range(RANKS))
        assert same(first, second)
        assert same(first, load_file(run.path / "weights.safetensors"))
        alone = train(asked(cache.path, tmp_path / "alone", method))
        assert alone.id != run.id
        expected = load_file(alone.path / "weights.safetensors")
        for name, value in first.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        assert losses(run) == pytest.approx(losses(alone), rel=1e-4)
        groups, replaced = group_runs([run, alone])
        assert [group.apart for group in groups] == [{"ranks": 2}, {"ranks": 1}]  # no second seed of the same row
        assert not replaced


def torchrun(command: list[object]) -> tuple[str, str]:
    """What a command and the processes that it starts print; they have as long as those of `launch`."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            said, complaints = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its processes then, after 30 s by force
            pytest.fail(f"torchrun did not end within {SECONDS} s; it said: {process.communicate()[1]}")
    assert process.returncode == 0, complaints
    return said, complaints


def test_whatever_ends_one_process_ends_both_and_the_same_command_continues(make_cache: Make, tmp_path: Path) -> None:
    cache, folder = make_cache(rows=50, layout=Layout(chunk_rows=4, shard_rows=4)), tmp_path / "work"
    assert launch(ends, folder, cache.path) == [0] * RANKS
    assert [len(list((folder / name).glob("*/checkpoint.safetensors"))) for name in ("stopped", "damaged")] == [1, 1]
    assert launch(go_on_and_die, folder, cache.path) == [-signal.SIGKILL] * RANKS
    options = replace(asked(cache.path, folder, "fast0tag"), runs=folder / "stopped")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(RANKS),
               "-m", "c3", "train", "--cache", cache.path, "--method", "fast0tag", "--runs", options.runs,
               "--device", "cpu"]  # fmt: skip
    for name, value in options.settings.items():
        command += ["--set", f"{name}={value}"]
    said, complaints = torchrun(command)
    assert said.count("is trained: ") == 1
    assert complaints.count("continuing after 3 batches of epoch 2") == 1  # the first rank alone speaks
    (run,) = list_runs(folder / "stopped")
    whole = next(run for run in list_runs(folder / "runs") if run.finished)
    assert run.id == whole.id
    assert same(load_file(run.path / "weights.safetensors"), load_file(whole.path / "weights.safetensors"))
    assert not list(run.path.glob(".*"))
