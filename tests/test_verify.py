"""Every flipped bit of a store is found and named; what can be made again is, and only that."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache, Status
from c3.extract.verify import verify
from PIL import Image


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_extraction: Callable[..., ExtractOptions]) -> ExtractOptions:
    """An extracted store of eight pictures, one of them missing, in int8: every kind of file is there."""
    options = small_extraction(tmp_path_factory.mktemp("verify"), 8, dtype="int8")
    (options.catalog.parent / "images/01.png").unlink()
    extract(options)
    return options


@pytest.fixture
def options(made: ExtractOptions, tmp_path: Path) -> ExtractOptions:
    shutil.copytree(made.out, tmp_path / "f.zarr")
    return replace(made, out=tmp_path / "f.zarr")


def maps(path: Path) -> dict[str, np.ndarray]:
    cache = FeatureCache.open(path)
    return {f"{s}/{level.name}": cache.maps(s, level.name)[:] for s in cache.splits for level in cache.levels}


def files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.stat().st_size)


def test_one_flipped_bit_in_any_file_is_found_and_named(options: ExtractOptions) -> None:
    assert "is sound" in verify(options.out)
    rng = random.Random(0)
    for file in files(Path(options.out)):
        content = file.read_bytes()
        damaged = bytearray(content)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        with pytest.raises(C3Error) as found:
            verify(options.out)
        key = file.relative_to(options.out)
        named = str(found.value)
        shard = f"{key.parts[0]} shard {key.parts[key.parts.index('c') + 1]}" if "c" in key.parts else str(key)
        array = "/".join(key.parts[: key.parts.index("c")]) if "c" in key.parts else str(key)
        assert str(key) in named or shard in named or array in named, f"{key}: {named}"
        assert "--repair" in named
        file.write_bytes(content)
    assert "is sound" in verify(options.out)


def test_any_lost_file_is_found(options: ExtractOptions) -> None:
    for file in files(Path(options.out)):
        content = file.read_bytes()
        file.unlink()
        if file.parts[-3:-1] == ("done", "c"):  # a shard without its flag is pending, which is no damage
            assert FeatureCache.open(options.out).pending(file.parts[-4]) == [int(file.name)]
        else:
            with pytest.raises(C3Error):
                verify(options.out)
        file.write_bytes(content)
    assert "is sound" in verify(options.out)


@pytest.mark.parametrize(
    "key",
    ["zarr.json", "classes/zarr.json", "classes/vector/c/0/0", "train/zarr.json", "train/pyramid/p8/zarr.json",
     "train/labels/indices/c/0", "train/image_id/c/0", "val/pyramid/p4/c/0/0/0/0", "test/scale/c/0/0/0",
     "train/status/c/1", "train/done/c/0"],
)  # fmt: skip
def test_repair_makes_whole_what_was_broken_and_touches_nothing_else(options: ExtractOptions, key: str) -> None:
    out = Path(options.out)
    if not (out / key).exists():
        (key,) = [str(file.relative_to(out)) for file in files(out) if str(file.relative_to(out)).startswith(key[:-2])]
    before = maps(out)
    data = {file: file.stat().st_mtime_ns for file in files(out) if "/pyramid/" in str(file) and "/c/" in str(file)}
    content = bytearray((out / key).read_bytes())
    content[len(content) // 2] ^= 4
    (out / key).write_bytes(content)
    said = verify(out, repair=True)
    assert "is sound" in verify(out), said
    for name, values in maps(out).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    changed = {file.relative_to(out).parts[0] for file, time in data.items() if file.stat().st_mtime_ns != time}
    rebuilt = [part for part in ("pyramid", "scale", "status", "done") if f"/{part}/" in key and "/c/" in key]
    assert changed == ({key.split("/")[0]} if rebuilt else set())


def test_repair_removes_what_does_not_belong(options: ExtractOptions) -> None:
    stray = Path(options.out) / "train/status/c/1.1234.partial"
    stray.write_bytes(b"left by a killed process")
    with pytest.raises(C3Error, match=r"1\.1234\.partial does not belong"):
        verify(options.out)
    verify(options.out, repair=True)
    assert not stray.exists()


def test_values_beyond_float16_survive_damage_to_their_mark(
    tmp_path: Path, make_cache: Callable[..., FeatureCache]
) -> None:
    cache = make_cache(rows=20)
    big = {level.name: np.full((4, level.channels, 7, 7), 2.0**18, np.float32) for level in cache.levels}
    cache.write_shard("train", 1, big, np.ones(4, np.uint8))
    (Path(cache.path) / "train/wide/c/0").write_bytes(b"12345")
    with pytest.raises(C3Error, match="train/wide is damaged"):
        verify(cache.path)
    verify(cache.path, repair=True)
    again = FeatureCache.open(cache.path).read("train", "p8", 14, 20)
    assert again.dtype == np.float32
    assert (again[2:] == 2.0**18).all()


def test_failures_can_be_retried_and_nothing_good_is_given_up(options: ExtractOptions, made: ExtractOptions) -> None:
    images = Path(options.catalog).parent / "images"
    before = maps(Path(options.out))
    again = replace(options, retry_failed=True)
    assert "1 missing" in extract(again)  # still not there
    good = images / "00.png"
    content = good.read_bytes()
    good.unlink()
    with pytest.raises(C3Error, match=r"00\.png: missing.*it was read when the store was made"):
        extract(again)
    good.write_bytes(content)
    Image.new("RGB", (30, 30), (200, 30, 30)).save(images / "01.png")
    try:
        assert "no failures" in extract(again)
        assert (FeatureCache.open(options.out).status("train") == Status.OK).all()
        assert "No failures to retry" in extract(again)
    finally:
        (images / "01.png").unlink()
    after = maps(Path(options.out))
    assert after["train/p8"][1].any()
    for name, values in before.items():
        if not name.startswith("train"):
            np.testing.assert_array_equal(after[name], values)


def test_a_store_that_does_not_say_how_it_was_made_is_not_guessed_at(make_cache: Callable[..., FeatureCache]) -> None:
    cache = make_cache(rows=20)
    (cache.path / "train/pyramid/p8/c/0/0/0/0").write_bytes(b"broken")
    with pytest.raises(C3Error, match="does not say how it was made"):
        verify(cache.path, repair=True)
