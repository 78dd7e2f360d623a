"""Rows added to a store, and stores joined: finished shards are taken over, never made again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.merge import merge
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.attributes import write_attributes
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import Layout
from c3.extract.verify import verify

Make = Callable[..., FeatureCache]


@pytest.fixture
def options(tmp_path: Path, small_extraction: Callable[..., ExtractOptions]) -> ExtractOptions:
    return small_extraction(tmp_path, 20)


def by_image(path: Path | str) -> dict[tuple[str, str, str], np.ndarray]:
    cache = FeatureCache.open(path)
    cache.require_complete()
    return {
        (split, image, level.name): maps
        for split in cache.splits
        for level in cache.levels
        for image, maps in zip(cache.image_ids(split).tolist(), cache.maps(split, level.name)[:], strict=True)
    }


def shard_files(path: Path | str) -> dict[Path, int]:
    return {file.relative_to(path): file.stat().st_ino for file in Path(path).glob("*/pyramid/*/c/*/0/0/0")}


def assert_same(found: Path | str, expected: Path | str) -> None:
    one, other = by_image(found), by_image(expected)
    assert one.keys() == other.keys()
    for key, maps in one.items():
        np.testing.assert_array_equal(maps, other[key], err_msg=str(key))


def test_new_images_and_splits_are_added_behind_what_is_there(options: ExtractOptions, tmp_path: Path) -> None:
    extract(replace(options, out=tmp_path / "whole.zarr"))
    extract(replace(options, splits=("train",), limit=7))
    before = shard_files(options.out)
    said = extract(replace(options, append=True))
    assert "is complete: train 10, val 5, test 5 rows" in said
    assert_same(options.out, tmp_path / "whole.zarr")
    after = shard_files(options.out)
    last = {file for file in before if file.parts[4] == "3"}  # the shard that was not full
    assert all(after[file] == inode for file, inode in before.items() if file not in last)
    assert "Nothing to do" in extract(replace(options, append=True))
    assert "is sound" in verify(options.out)
    labels = FeatureCache.open(options.out).labels("train").dense(3, -1)
    np.testing.assert_array_equal(labels, FeatureCache.open(tmp_path / "whole.zarr").labels("train").dense(3, -1))


def test_an_append_that_is_stopped_goes_on(
    options: ExtractOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    extract(replace(options, out=tmp_path / "whole.zarr"))
    extract(replace(options, splits=("train",), limit=7))
    write = FeatureCache.write_shard

    def stop(self: FeatureCache, split: str, *rest: object) -> None:
        if split == "test":
            raise KeyboardInterrupt
        write(self, split, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FeatureCache, "write_shard", stop)
        extract(replace(options, append=True))
    assert "is complete" in extract(replace(options, append=True))
    assert_same(options.out, tmp_path / "whole.zarr")


def test_append_only_adds(options: ExtractOptions) -> None:
    extract(options)
    table = Path(options.catalog).parent / "labels.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:2] + lines[3:]) + "\n")
    with pytest.raises(C3Error, match=r"1 rows of train are not in the data set any more, first image"):
        extract(replace(options, append=True))
    table.write_text("\n".join([lines[0], lines[1].replace(",red,", ",blue,"), *lines[2:]]) + "\n")
    with pytest.raises(C3Error, match="labels of train have changed"):
        extract(replace(options, append=True))
    table.write_text("\n".join(lines) + "\n")
    with pytest.raises(C3Error, match="do not fit: weights_sha256"):
        extract(replace(options, append=True, weights="random:1"))
    with pytest.raises(C3Error, match=r"manifest_sha256.*New images or splits are added with --append"):
        extract(replace(options, splits=("train",)))
    assert "Nothing to do" in extract(options)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_the_parts_of_one_extraction_become_one_store(options: ExtractOptions, tmp_path: Path, dtype: str) -> None:
    options = replace(options, dtype=dtype)
    extract(replace(options, out=tmp_path / "whole.zarr"))
    parts = [tmp_path / f"part{number}.zarr" for number in (1, 2, 3)]
    for number, part in enumerate(parts, 1):
        said = extract(replace(options, out=part, part=(number, 3)))
        assert "shards pending" in said
    assert "0 of 11 shards pending" in merge(parts, tmp_path / "merged.zarr")
    assert_same(tmp_path / "merged.zarr", tmp_path / "whole.zarr")
    assert FeatureCache.open(tmp_path / "merged.zarr").digest == FeatureCache.open(tmp_path / "whole.zarr").digest
    assert "is sound" in verify(tmp_path / "merged.zarr")
    assert "pending" in merge(parts[:2], tmp_path / "two.zarr")
    assert "is complete" in extract(replace(options, out=tmp_path / "two.zarr"))


@pytest.mark.parametrize("rows", [(16, 20), (20, 16)])
def test_different_rows_follow_each_other(make_cache: Make, tmp_path: Path, rows: tuple[int, int]) -> None:
    stores = [make_cache(rows=count, name=f"{n}.zarr", prefix=f"s{n}-") for n, count in enumerate(rows)]
    merge([store.path for store in stores], tmp_path / "m.zarr")
    merged = FeatureCache.open(tmp_path / "m.zarr")
    merged.require_complete()
    for split in ("train", "val"):
        for level in ("p8", "p32"):
            expected = np.concatenate([store.maps(split, level)[:] for store in stores])
            np.testing.assert_array_equal(merged.maps(split, level)[:], expected)
        assert merged.image_ids(split).tolist() == [i for store in stores for i in store.image_ids(split).tolist()]
        expected = np.concatenate([store.labels(split).dense(5, 0) for store in stores])
        np.testing.assert_array_equal(merged.labels(split).dense(5, 0), expected)


def test_paths_are_relative_to_the_folder_that_holds_all_images(make_cache: Make, tmp_path: Path) -> None:
    stores = []
    for prefix in "ab":
        cache = make_cache(rows=16, name=f"{prefix}.zarr", prefix=prefix)
        made = replace(cache.provenance, image_root=f"/data/{prefix}/images")
        write_attributes(cache.storage, replace(cache.attributes, provenance=made).record())
        stores.append(cache.path)
    merge(stores, tmp_path / "m.zarr")
    merged = FeatureCache.open(tmp_path / "m.zarr")
    assert merged.provenance.image_root == "/data"
    paths = merged.image_paths("train").tolist()
    assert (paths[0], paths[16]) == ("a/images/atrain0.png", "b/images/btrain0.png")
    merge(stores[:1], tmp_path / "one.zarr")
    assert FeatureCache.open(tmp_path / "one.zarr").image_paths("train")[0] == "atrain0.png"


def test_stores_that_do_not_fit_are_refused(make_cache: Make, tmp_path: Path) -> None:
    one = make_cache(rows=20, name="1.zarr", prefix="a")
    for other, said in (
        (make_cache(rows=20, name="2.zarr", prefix="b", d_w=5), "word vectors differ"),
        (make_cache(rows=20, name="3.zarr", prefix="b", labelling="verified"), "labelling: store 'complete'"),
        (
            make_cache(rows=20, name="4.zarr", prefix="b", layout=Layout(4, 16)),
            "laid out differently: chunk rows 8 and 4; extract",
        ),
        (make_cache(rows=18, name="5.zarr", prefix="a"), "image atrain0 of train is in"),
    ):
        with pytest.raises(C3Error, match=said):
            merge([one.path, other.path], tmp_path / "m.zarr")
        assert not (tmp_path / "m.zarr").exists()
    packed = [make_cache(rows=20, name=f"i{n}.zarr", prefix=n, layout=Layout(8, 16, "int8")) for n in "ab"]
    with pytest.raises(C3Error, match="ends inside a shard of train"):
        merge([store.path for store in packed], tmp_path / "m.zarr")


@pytest.mark.parametrize("first", [("train",), ()])
def test_images_that_moved_before_an_append_are_found_again(
    options: ExtractOptions, tmp_path: Path, first: tuple[str, ...]
) -> None:
    extract(replace(options, splits=first, limit=7 if not first else None))
    before = by_image(options.out)
    assert options.catalog
    home = options.catalog.parent
    if first:  # the images of train stay; those of the data set are in another folder now
        shutil.copytree(home / "images", home / "elsewhere")
    else:
        (home / "images").rename(home / "elsewhere")
    options.catalog.write_text(options.catalog.read_text().replace("images: images", "images: elsewhere"))
    extract(replace(options, splits=("val", "test") if first else (), append=True))
    for split in FeatureCache.open(options.out).splits:
        next(Path(options.out).glob(f"{split}/pyramid/*/c/0/0/0/0")).unlink()
    assert "3 shards made again" in verify(options.out, repair=True)
    after = by_image(options.out)
    for key, maps in before.items():
        np.testing.assert_allclose(after[key], maps, atol=0.01, err_msg=str(key))  # other batches round otherwise
