"""Contract 1: a store is created whole, filled shard by shard, and never makes up a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error, StoreDamaged
from c3.extract.store.attributes import write_attributes
from c3.extract.store.cache import FeatureCache, Status
from c3.extract.store.layout import FeatureArray, Layout
from c3.extract.store.tables import Classes, Rows, SparseLabels
from origins import PROVENANCE, origin_of

Make = Callable[..., FeatureCache]


def empty_store(path: Path, overwrite: bool = False, **settings: object) -> FeatureCache:
    rows = Rows(
        np.array(["a", "b", "c"]),
        np.zeros((3, 4), np.float32),
        SparseLabels.from_lists([([0], []), ([], []), ([1], [0])]),
        np.array(["a.jpg", "b.jpg", ""]),
    )
    return FeatureCache.create(
        path,
        origin=origin_of(labelling="verified", **settings),
        provenance=PROVENANCE,
        levels=(FeatureArray("p8", 2),),
        classes=Classes(("x", "y"), np.array([True, False]), np.eye(2, dtype=np.float32)),
        splits={"train": rows},
        layout=Layout(chunk_rows=1, shard_rows=2),
        overwrite=overwrite,
    )


def maps(rows: int, value: float = 1.0) -> dict[str, np.ndarray]:
    return {"p8": np.full((rows, 2, 7, 7), value, np.float16)}


def test_a_store_gives_back_what_was_written(tmp_path: Path) -> None:
    empty_store(tmp_path / "s.zarr")
    cache = FeatureCache.open(tmp_path / "s.zarr", mode="r+")
    assert cache.pending("train") == [0, 1]
    first = {"p8": np.arange(2 * 2 * 49, dtype=np.float16).reshape(2, 2, 7, 7)}
    cache.write_shard("train", 0, first, np.array([Status.OK, Status.MISSING], np.uint8))
    again = FeatureCache.open(tmp_path / "s.zarr")
    assert again.pending("train") == [1]
    np.testing.assert_array_equal(again.read("train", "p8", 0, 2), first["p8"])
    assert again.status("train").tolist() == [Status.OK, Status.MISSING, Status.PENDING]
    assert again.image_ids("train").tolist() == ["a", "b", "c"]
    assert again.classes.names == ("x", "y")
    assert again.labels("train").dense(2, absent=0).tolist() == [[1, 0], [0, 0], [-1, 1]]


def test_incomplete_stores_are_refused_for_training(tmp_path: Path) -> None:
    cache = empty_store(tmp_path / "s.zarr")
    cache.write_shard("train", 0, maps(2), np.ones(2, np.uint8))
    with pytest.raises(C3Error, match="1 of 2 in train"):
        cache.require_complete()
    cache.write_shard("train", 1, maps(1), np.ones(1, np.uint8))
    cache.require_complete()


def test_a_zero_map_is_stored_and_a_lost_one_is_an_error(tmp_path: Path) -> None:
    cache = empty_store(tmp_path / "s.zarr")
    cache.write_shard("train", 0, maps(2, 0.0), np.ones(2, np.uint8))
    assert not cache.read("train", "p8", 0, 2).any()
    next((tmp_path / "s.zarr/train/pyramid/p8/c").rglob("0/0/0/0")).unlink()
    with pytest.raises(C3Error, match="shard 0 of train/pyramid/p8 is missing, lost"):
        cache.read("train", "p8", 0, 2)


@pytest.mark.parametrize("key", ["train/labels/value", "train/image_path", "train/crop", "classes/seen"])
def test_a_lost_table_is_an_error_and_never_zeros(make_cache: Make, key: str) -> None:
    path = make_cache(rows=3).path
    next(file for file in (path / key / "c").rglob("*") if file.is_file() and file.name.isdigit()).unlink()
    cache = FeatureCache.open(path)
    with pytest.raises(StoreDamaged, match=f"{key}/c/0.* is missing; mend it with: c3 verify"):
        (cache.classes, cache.table("train"))


def test_every_flipped_byte_of_the_maps_is_detected(make_cache: Make) -> None:
    cache = make_cache(rows=3)
    shard = cache.path / "train/pyramid/p16/c/0/0/0/0"
    content = shard.read_bytes()
    before = cache.read("train", "p16", 0, 3)
    for position in range(0, len(content), max(len(content) // 40, 1)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        shard.write_bytes(damaged)
        with pytest.raises(C3Error, match=r"shard 0 of train/pyramid/p16 is damaged"):
            FeatureCache.open(cache.path).read("train", "p16", 0, 3)
    shard.write_bytes(content)
    np.testing.assert_array_equal(FeatureCache.open(cache.path).read("train", "p16", 0, 3), before)


def test_creation_leaves_nothing_behind_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "c3.extract.store.create.write_arrays", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(C3Error, match="No space left"):
        empty_store(tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


def test_overwrite_replaces_a_store_but_no_other_folder(tmp_path: Path) -> None:
    empty_store(tmp_path / "s.zarr", crops="five")
    with pytest.raises(C3Error, match="--overwrite"):
        empty_store(tmp_path / "s.zarr", crops="ten")
    assert empty_store(tmp_path / "s.zarr", overwrite=True, crops="ten").origin.crops == "ten"
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/precious.txt").write_text("keep")
    with pytest.raises(C3Error, match="not a feature store"):
        empty_store(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos/precious.txt").exists()


def test_a_request_that_differs_is_refused_with_both_values(tmp_path: Path) -> None:
    cache = empty_store(tmp_path / "s.zarr", backbone="vgg19")
    cache.require_origin(replace(cache.origin, backbone="vgg19"))
    with pytest.raises(C3Error, match="backbone: store 'vgg19', request 'resnet50'"):
        cache.require_origin(replace(cache.origin, backbone="resnet50"))
    with pytest.raises(C3Error, match="crops: store 'whole', request 'five'"):
        cache.require_origin(replace(cache.origin, crops="five"))
    with pytest.raises(C3Error, match="precision: store None, request 'bf16'"):
        cache.require_origin(replace(cache.origin, precision="bf16"))


def test_what_is_not_a_store_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("hello")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/x").write_text("hello")
    for name, said in (
        ("nothing", "no feature store"),
        ("empty", "empty folder"),
        ("file", "not a"),
        ("folder", "not a"),
    ):
        with pytest.raises(C3Error, match=said) as caught:
            FeatureCache.open(tmp_path / name)
        assert "c3 extract" in str(caught.value)


@pytest.mark.parametrize(("schema", "said"), [(99, "newer c3"), (0, "extract it again"), (None, "extract it again")])
def test_other_schema_versions_are_refused(tmp_path: Path, schema: int | None, said: str) -> None:
    empty_store(tmp_path / "s.zarr")
    cache = FeatureCache.open(tmp_path / "s.zarr", mode="r+")
    write_attributes(cache.storage, cache.attributes.record() | {"schema": schema})
    with pytest.raises(C3Error, match=said):
        FeatureCache.open(tmp_path / "s.zarr")


def test_wrong_shapes_never_reach_the_disk(tmp_path: Path) -> None:
    cache = empty_store(tmp_path / "s.zarr")
    with pytest.raises(ValueError, match="expected"):
        cache.write_shard("train", 0, maps(1), np.ones(1, np.uint8))
    with pytest.raises(ValueError, match="float16"):
        cache.write_shard("train", 0, {"p8": np.zeros((2, 2, 7, 7), np.float64)}, np.ones(2, np.uint8))
    assert cache.pending("train") == [0, 1]


def test_sparse_labels_take_rows_in_any_order() -> None:
    labels = SparseLabels.from_lists([([2, 0], [1]), ([], []), ([], [3]), ([1], [])])
    dense = labels.dense(4, absent=0)
    for rows in ([3, 0, 0, 2], [1], []):
        picked = np.array(rows, dtype=int)
        np.testing.assert_array_equal(labels.take(picked).dense(4, absent=0), dense[picked])


def test_import_c3_loads_neither_torch_nor_zarr_and_opens_features(make_cache: Make) -> None:
    import subprocess
    import sys

    path = make_cache(rows=3).path
    code = (
        "import sys, c3; assert not {'torch', 'zarr'} & set(sys.modules); "
        f"print(c3.open_features({str(path)!r}).rows('train')); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "3"
