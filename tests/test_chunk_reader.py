"""The reader of chunks: it announces what it will read, keeps every check, and leaves no file open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from c3.common.errors import StoreDamaged
from c3.extract.store.arrays import CRC, NO_CHUNK, StoredArray, read_chunks
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import Layout
from c3.extract.store.storage import ADVICE, LocalStorage

Make = Callable[..., FeatureCache]
Damage = Callable[[bytes], bytes]
CHUNKS = 2  # of a shard of `make_cache`


def moved(offset: int) -> Damage:
    """Return a damage that lets chunk 1 start at `offset`, in an index whose checksum is right."""

    def move(shard: bytes) -> bytes:
        size = 16 * CHUNKS + CRC
        index = np.frombuffer(shard[-size:-CRC], "<u8").reshape(CHUNKS, 2).copy()
        index[1, 0] = offset
        return shard[:-size] + index.tobytes() + google_crc32c.value(index.tobytes()).to_bytes(4, "little")

    return move


def flipped(place: int) -> Damage:
    """Return a damage that changes one bit of the byte at `place`."""

    def flip(shard: bytes) -> bytes:
        changed = bytearray(shard)
        changed[place] ^= 1
        return bytes(changed)

    return flip


DAMAGES: dict[str, tuple[Damage, str]] = {
    "a byte of a chunk": (flipped(9), "the checksum of chunk 0 does not match"),
    "a byte of the index": (flipped(-CRC - 1), "the checksum of its index does not match"),
    "cut short": (lambda shard: shard[:20], "the file is shorter than its index"),
    "empty": (lambda shard: b"", "the file is shorter than its index"),
    "a chunk beyond the end": (moved(2**40), "the file ends inside chunk 1"),
    "a chunk not written": (moved(int(NO_CHUNK)), "chunks were never written"),
}


def read_all(array: StoredArray) -> np.ndarray:
    """Read every chunk as training does."""
    into = np.empty(array.shape, array.stored_dtype)
    with ThreadPoolExecutor(2) as pool:
        read_chunks([(array, into)], range(-(-len(array) // array.chunks[0])), pool)
    return into


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_check_names_the_shard_and_the_fault(make_cache: Make, damage: str) -> None:
    cache = make_cache(rows=40)
    change, said = DAMAGES[damage]
    shard = cache.path / "train/pyramid/p16/c/1/0/0/0"
    shard.write_bytes(change(shard.read_bytes()))
    with pytest.raises(StoreDamaged, match=rf"shard 1 of train/pyramid/p16 is damaged \({said}\)"):
        read_all(FeatureCache.open(cache.path).maps("train", "p16"))


def test_a_missing_shard_is_named(make_cache: Make) -> None:
    cache = make_cache(rows=40)
    (cache.path / "train/pyramid/p16/c/1/0/0/0").unlink()
    with pytest.raises(StoreDamaged, match="shard 1 of train/pyramid/p16 is missing"):
        read_all(FeatureCache.open(cache.path).maps("train", "p16"))


def test_what_is_read_was_announced_before(make_cache: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    array = FeatureCache.open(make_cache(rows=40).path).maps("train", "p16")
    announced: list[tuple[str, int, int]] = []
    late: list[object] = []
    read = LocalStorage.read

    def reading(self: LocalStorage, key: str, start: int = 0, stop: int | None = None) -> bytes | bytearray:
        if stop is not None and (key, start, stop) not in announced:
            late.append((key, start, stop))
        return read(self, key, start, stop)

    monkeypatch.setattr(LocalStorage, "announce", lambda self, *place: announced.append(place))
    monkeypatch.setattr(LocalStorage, "read", reading)
    values = read_all(array)
    assert len(announced) == len(set(announced)) == 5
    assert late == []
    first = announced[0]
    announced.clear()
    np.testing.assert_array_equal(array[:], values)
    assert late == [first]  # which is read at once


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="macOS has no posix_fadvise")
def test_an_announcement_covers_its_bytes_in_small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(bytes(10))
    advised: list[tuple[int, ...]] = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, *advice: advised.append(advice))
    LocalStorage(tmp_path).announce("file", 5, 2 * ADVICE + 8)
    will_need = os.POSIX_FADV_WILLNEED
    assert advised == [(5, ADVICE, will_need), (5 + ADVICE, ADVICE, will_need), (5 + 2 * ADVICE, 3, will_need)]


def test_reading_leaves_no_file_open(make_cache: Make) -> None:
    cache = FeatureCache.open(make_cache(rows=160, layout=Layout(8, 8)).path)
    read_all(cache.maps("train", "p8"))
    before = len(list(Path("/dev/fd").iterdir()))
    for level in ("p16", "p32"):
        read_all(cache.maps("train", level))
        np.asarray(cache.maps("train", level))
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_a_store_made_again_is_not_read_through_the_old_one(make_cache: Make) -> None:
    layout = Layout(8, 16, codec="none")  # the chunks of both stores lie at the same places
    old = FeatureCache.open(make_cache(layout=layout).path)
    values = read_all(old.maps("train", "p16"))
    new = make_cache(layout=layout, name="new.zarr", factor=2.0).path
    shutil.rmtree(old.path)
    new.rename(old.path)
    for cache in (old, FeatureCache.open(old.path)):
        found = read_all(cache.maps("train", "p16"))
        assert not np.array_equal(found, values)
        np.testing.assert_array_equal(found, np.asarray(FeatureCache.open(old.path).maps("train", "p16")))
