"""Every codec and number type gives back what it was given, within what it promises."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import zarr
from c3.common.errors import C3Error
from c3.extract.store import quantise
from c3.extract.store.arrays import read_chunks
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import CODECS, FeatureArray, Layout
from c3.extract.store.names import CODEC_NAMES
from hypothesis import given, settings
from hypothesis import strategies as st

LEVELS = (FeatureArray("p8", 5), FeatureArray("p16", 4), FeatureArray("p32", 3))
Make = Callable[..., FeatureCache]


def test_the_command_line_offers_every_codec() -> None:
    assert ("auto", *CODECS) == CODEC_NAMES


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_our_reader_and_zarr_read_the_same(make_cache: Make, codec: str, dtype: str) -> None:
    cache = make_cache(rows=37, layout=Layout(8, 16, dtype, codec))
    for level in cache.levels:
        stored = zarr.open_array(cache.path / f"train/pyramid/{level.name}", mode="r")[:]
        scale = zarr.open_array(cache.path / "train/scale", mode="r")[:]
        found = cache.read("train", level.name, 0, 37)
        assert found.dtype == np.float16
        if dtype == "float16":
            np.testing.assert_array_equal(found, stored)
            continue
        start = sum(other.channels for other in cache.levels[: cache.levels.index(level)])
        for row in range(37):
            step, offset = scale[row // 16, start : start + level.channels].T[:, :, None, None]
            np.testing.assert_array_equal(found[row], (stored[row] * step + offset).astype(np.float16))


def test_rows_come_in_any_order_and_by_any_index(make_cache: Make) -> None:
    maps = make_cache(rows=37).maps("train", "p16")
    whole = maps[:]
    np.testing.assert_array_equal(np.asarray(maps), whole)
    for index in (5, -1, slice(3, 30, 4), slice(None, None, -1), [36, 0, 0, 17], np.array([8, 9, 10]), slice(8, 24)):
        np.testing.assert_array_equal(maps[index], whole[index], err_msg=str(index))
    np.testing.assert_array_equal(maps[4:9, 2, :, 1], whole[4:9, 2, :, 1])
    np.testing.assert_array_equal(maps[4, 2], whole[4, 2])
    with pytest.raises(IndexError):
        maps[37]
    into = np.empty((5 + 8, 4, 7, 7), np.float16)
    with ThreadPoolExecutor(2) as pool:
        read_chunks([(maps, into)], [4, 1], pool)
    np.testing.assert_array_equal(into, np.concatenate([whole[32:37], whole[8:16]]))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31),
    st.floats(1e-6, 1e7),
    st.booleans(),
)
def test_int8_errs_by_at_most_half_a_step(seed: int, size: float, negative: bool) -> None:
    rng = np.random.default_rng(seed)
    maps = (size * rng.random((3, 4, 7, 7)) ** 3 * (rng.random((3, 4, 7, 7)) < 0.5)).astype(np.float32)
    maps[:, 1] = 0
    if negative:
        maps[:, 2] *= -1
    stored, scale = quantise.encode(maps, "int8")
    assert stored.dtype == np.int8
    out = np.empty(maps.shape, np.float32)
    quantise.decode(stored, scale, out)
    step = scale[:, 0][:, None, None]
    assert (np.abs(out - maps) <= 0.5001 * step + 1e-6 * np.abs(maps)).all()
    assert (step[0] <= maps[:, 0].max() / 255 * 1.0001 + (maps[:, 0].max() == 0)).all()
    if not negative:
        assert (out[maps == 0] == 0).all()


@pytest.mark.parametrize("largest", [65504.0, 65520.0, 1e5, 3e8])
def test_values_beyond_float16_are_scaled_never_infinite(make_cache: Make, largest: float) -> None:
    cache = make_cache(rows=20)
    big = {level.name: np.full((4, level.channels, 7, 7), 1.0, np.float32) for level in cache.levels}
    big["p16"][2, 1, 3, 3] = largest
    cache.write_shard("train", 1, big, np.ones(4, np.uint8))
    for opened in (cache, FeatureCache.open(cache.path)):
        found = opened.read("train", "p16", 16, 20)
        assert found.dtype == (np.float16 if largest <= 65504 else np.float32)
        np.testing.assert_allclose(found, big["p16"], rtol=2**-10)
        assert np.isfinite(opened.read("train", "p16", 0, 20)).all()
        assert opened.read("train", "p8", 0, 20).dtype == np.float16


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_never_reach_the_disk(make_cache: Make, value: float) -> None:
    cache = make_cache(rows=20)
    before = cache.read("train", "p8", 0, 20)
    bad = {level.name: np.ones((4, level.channels, 7, 7), np.float16) for level in cache.levels}
    bad["p32"][0, 0, 0, 0] = value
    with pytest.raises(C3Error, match="NaN or infinity"):
        cache.write_shard("train", 1, bad, np.ones(4, np.uint8))
    np.testing.assert_array_equal(FeatureCache.open(cache.path).read("train", "p8", 0, 20), before)


def test_auto_packs_dense_levels_by_shuffle_and_the_deepest_plainly() -> None:
    assert [Layout().codec_of(level, LEVELS) for level in LEVELS] == ["zstd-shuffle", "zstd-shuffle", "zstd"]
    assert {Layout(dtype="int8").codec_of(level, LEVELS) for level in LEVELS} == {"zstd"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((64, 100), "whole chunks"),
        ((0, 64), "at least one row"),
        ((-1, -1), "at least one row"),
        ((1, 1, "float32"), "Known: float16, int8"),
        ((1, 1, "int8", "gzip"), "Known: auto, zstd"),
    ],
)
def test_layouts_that_make_no_sense_are_refused(arguments: tuple, said: str) -> None:
    with pytest.raises(C3Error, match=said):
        Layout(*arguments)
