"""Where the arrays are has no influence on what is trained; and what is chosen fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.train.data import placement as residency
from c3.train.data.batches import Batch, BatchStream
from c3.train.data.placement import Placement
from c3.train.run import TrainOptions, train
from safetensors.torch import load_file

Make = Callable[..., FeatureCache]
CPU = torch.device("cpu")


def assert_equal(found: Sequence[Batch], expected: Sequence[Batch]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.rows.tolist() == other.rows.tolist()
        assert torch.equal(one.labels, other.labels)
        assert all(torch.equal(one.arrays[name], other.arrays[name]) for name in ("p8", "p32"))


@pytest.mark.parametrize("buffer_rows", [8, 16, 1000])
def test_batches_are_the_same_from_memory_and_from_any_batch_on(make_cache: Make, buffer_rows: int) -> None:
    cache = make_cache(rows=50)
    streamed, resident = (
        BatchStream(cache, "train", ["p8", "p32"], 7, seed=0, buffer_rows=buffer_rows, place=Placement(name))
        for name in ("stream", "ram")
    )
    expected = list(streamed.epoch(1))
    assert_equal(list(resident.epoch(1)), expected)
    for skip in range(len(expected) + 1):
        for stream in (streamed, resident):
            assert_equal(list(stream.epoch(1, skip)), expected[skip:])


def test_weights_are_the_same_from_memory_and_streamed(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache()
    settings = {"epochs": 2, "batch_size": 8, "groups": 2}
    found = {}
    for name in ("stream", "ram"):
        run = train(TrainOptions(cache.path, "c3", tmp_path / name, settings, device="cpu", residency=name))
        found[name] = load_file(run.path / "weights.safetensors")
    assert all(torch.equal(found["stream"][name], found["ram"][name]) for name in found["ram"])


def test_only_chunks_with_rows_of_training_are_held(make_cache: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make_cache(rows=40)
    needed = []
    monkeypatch.setattr(Placement, "resolved", lambda self, size, content: needed.append(size) or "ram")
    labels = cache.labels("train")
    labels.value[labels.row < 16] = -1  # the first two of five chunks teach nothing
    monkeypatch.setattr(FeatureCache, "labels", lambda self, split: labels)
    stream = BatchStream(cache, "train", ["p16"], 4, seed=0)
    assert needed == [3 * 8 * 4 * 49 * 2]
    truth = torch.from_numpy(cache.read("train", "p16", 0, 40))
    assert all(torch.equal(batch.arrays["p16"], truth[batch.rows]) for batch in stream.epoch(0))


def test_auto_takes_the_fastest_that_fits_with_a_margin_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(residency, "free_memory", lambda: 10_000_000_000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000_000_000, 2_000_000_000))
    assert Placement("auto", CPU).resolved(6_000_000_000) == "ram"
    assert Placement("auto", CPU).resolved(6_100_000_000) == "stream"
    assert "residency stream: the arrays are 6.10 GB, 10.00 GB free (ram), of which 60% may be used" in caplog.text
    cuda = torch.device("cuda:0")
    sizes = (600_000_000, 700_000_000, 6_100_000_000)
    assert [Placement("auto", cuda).resolved(size) for size in sizes] == ["device", "ram", "stream"]
    assert Placement("ram", CPU).resolved(9_000_000_000) == "ram"  # asked for by name: all that is free may be used
    for place, size, said in (
        (Placement("ram", CPU), 11_000_000_000, "11.00 GB, 10.00 GB are free; use --residency stream"),
        (Placement("device", cuda), 1_100_000_000, "1.10 GB, 1.00 GB are free"),
        (Placement("device", CPU), 1, "cpu has no memory of its own"),
        (Placement("disk", CPU), 1, "expected auto, stream, ram, device, found 'disk'"),
    ):
        with pytest.raises(C3Error, match=said):
            place.resolved(size)


def test_a_control_group_bounds_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residency, "CGROUP", tmp_path)
    monkeypatch.setattr(residency.psutil, "virtual_memory", lambda: SimpleNamespace(available=9000))
    assert residency.free_memory() == 9000
    files = {"memory.max": "5000\n", "memory.current": "3000\n", "memory.stat": "anon 9\ninactive_file 500\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert residency.free_memory() == 2500
    (tmp_path / "memory.max").write_text("max\n")
    assert residency.free_memory() == 9000


def test_an_error_of_the_store_comes_after_the_batches_before_it(make_cache: Make) -> None:
    cache = make_cache(rows=50)
    stream = BatchStream(cache, "train", ["p8"], 4, seed=0, buffer_rows=8)
    expected = [batch.rows.tolist() for batch in stream.epoch(0)]
    (cache.path / "train/pyramid/p8/c/2/0/0/0").write_bytes(b"")
    fresh = BatchStream(FeatureCache.open(cache.path), "train", ["p8"], 4, seed=0, buffer_rows=8)
    found = []
    with pytest.raises(C3Error, match="shard 2 of train/pyramid/p8 is damaged"):
        for batch in fresh.epoch(0):
            found.append(batch.rows.tolist())
    assert found
    assert found == expected[: len(found)]
