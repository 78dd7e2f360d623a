"""The reader: a real shuffle as a pure function, masked rows, and labels of seen classes only."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache, Status
from c3.extract.store.layout import Layout
from c3.train.data.batches import BatchStream, epoch_buffers
from c3.train.data.placement import Placement

Make = Callable[..., FeatureCache]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("rows", "chunk", "size"), [(1, 8, 16), (40, 8, 16), (41, 8, 1000), (100, 7, 3)])
def test_an_epoch_is_a_permutation_in_buffers_of_bounded_size(seed: int, rows: int, chunk: int, size: int) -> None:
    usable = np.flatnonzero(np.random.default_rng(seed).random(rows) < 0.8) if rows > 1 else np.arange(1)
    buffers = epoch_buffers(usable, chunk, size, seed, epoch=0)
    assert sorted(np.concatenate(buffers).tolist()) == usable.tolist()
    assert max(map(len, buffers)) <= max(size, chunk)


def test_epochs_and_seeds_differ_and_repeat() -> None:
    usable = np.arange(500)

    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(epoch_buffers(usable, 8, 64, seed, epoch)).tolist()

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 0)


def test_pools_mix_chunks_from_the_whole_store() -> None:
    buffers = epoch_buffers(np.arange(6400), 64, 640, seed=0, epoch=0)
    spread = [np.ptp(size // 64) for size in buffers]
    assert min(spread) > 50  # ten neighbouring chunks would span nine


def stream_rows(stream: BatchStream, epoch: int = 0) -> list[int]:
    return [row for batch in stream.epoch(epoch) for row in batch.rows.tolist()]


@pytest.mark.parametrize("buffer_rows", [8, 16, 1000])
def test_every_usable_row_comes_once_with_its_own_maps_and_labels(make_cache: Make, buffer_rows: int) -> None:
    cache = make_cache(rows=50)
    stream = BatchStream(cache, "train", ["p8", "p32"], batch_size=7, seed=0, buffer_rows=buffer_rows)
    truth = {level: torch.from_numpy(cache.read("train", level, 0, 50)) for level in ("p8", "p32")}
    labels = cache.labels("train").dense(5, absent=-1)[:, cache.classes.seen]
    seen_rows = []
    for batch in stream.epoch(3):
        seen_rows += batch.rows.tolist()
        for level, maps in batch.arrays.items():
            assert torch.equal(maps, truth[level][batch.rows])
        assert batch.labels.tolist() == labels[batch.rows].tolist()
    usable = np.flatnonzero((labels == 1).any(axis=1))
    assert sorted(seen_rows) == usable.tolist()


def test_batches_keep_their_maps_while_pools_and_other_epochs_go_on(make_cache: Make) -> None:
    cache = make_cache(rows=50)
    truth = torch.from_numpy(cache.read("train", "p16", 0, 50))
    stream = BatchStream(cache, "train", ["p16"], batch_size=7, seed=0, buffer_rows=16)
    kept = [batch for pair in zip(stream.epoch(0), stream.epoch(1), strict=True) for batch in pair]
    next(stream.epoch(2))  # given up after one batch
    kept += stream.epoch(3)
    assert all(torch.equal(batch.arrays["p16"], truth[batch.rows]) for batch in kept)


@pytest.mark.parametrize("residency", ["stream", "ram"])
@pytest.mark.parametrize(("dtype", "factor"), [("float16", 1.0), ("float16", 100.0), ("int8", 1.0), ("int8", 100.0)])
def test_batches_hold_what_is_stored_and_give_what_the_store_means(
    make_cache: Make, dtype: str, factor: float, residency: str
) -> None:
    cache = make_cache(rows=50, layout=Layout(8, 16, dtype), factor=factor)
    assert cache.maps("train", "p8").dtype == (np.float16 if factor == 1 else np.float32)
    truth = {level: torch.from_numpy(cache.read("train", level, 0, 50)).float() for level in ("p8", "p32")}
    stream = BatchStream(cache, "train", ["p8", "p32"], 7, seed=0, buffer_rows=32, place=Placement(residency))
    for batch in stream.epoch(0):
        assert {str(values.dtype) for values in batch.arrays.values()} == {f"torch.{dtype}"}
        for level, values in batch.features().items():
            assert values.dtype == torch.float32
            # the reader rounds decoded int8 to float16, this does not
            rounding = 2**-11 if dtype == "int8" and cache.maps("train", level).dtype == np.float16 else 0
            torch.testing.assert_close(values, truth[level][batch.rows], rtol=rounding, atol=0)


def test_absent_labels_are_unknown_where_labels_are_verified(make_cache: Make) -> None:
    for labelling, absent in (("complete", -1), ("verified", 0)):  # the seen classes are 2, 3 and 4
        cache = make_cache(rows=4, labelling=labelling, name=f"{labelling}.zarr")
        batch = next(BatchStream(cache, "train", ["p8"], 10, seed=0).epoch(0))
        row = batch.rows.tolist().index(1)  # positive 1 and 2, verified negative 3
        assert batch.labels[row].tolist() == [1, -1, absent]


def test_failed_images_and_images_without_a_seen_label_are_left_out(make_cache: Make) -> None:
    cache = make_cache(rows=20)
    status = np.ones(16, np.uint8)
    status[[1, 6]] = Status.UNREADABLE
    zeros = {level.name: np.zeros((16, level.channels, 7, 7), np.float16) for level in cache.levels}
    cache.write_shard("train", 0, zeros, status)
    rows = stream_rows(BatchStream(cache, "train", ["p8"], 4, seed=0))
    without_seen = {0, 5, 10, 15}  # positives are the classes 0 and 1, both unseen
    assert sorted(rows) == sorted(set(range(20)) - {1, 6} - without_seen)


def test_no_batch_has_a_single_row(make_cache: Make) -> None:
    cache = make_cache(rows=50)
    for batch_size in (2, 3, 6, 8):
        stream = BatchStream(cache, "train", ["p32"], batch_size, seed=0, buffer_rows=8)
        usable = stream.rows
        for count in range(2, len(usable) + 1):
            stream.rows = usable[:count]
            sizes = [len(batch.rows) for batch in stream.epoch(0)]
            assert sum(sizes) == count
            assert 2 <= min(sizes) <= max(sizes) <= batch_size + 1


def test_a_split_that_nothing_can_be_learnt_from_is_refused(make_cache: Make) -> None:
    cache = make_cache(rows=1)
    with pytest.raises(C3Error, match="at least 2"):
        BatchStream(cache, "train", ["p8"], 4, seed=0)
