"""Crop policies: the boxes of every image, in order, with the labels of their image; and what a manifest keeps."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.backbone.pictures.crops import load_crop
from c3.extract.catalog.catalog import Catalog
from c3.extract.datasets import manifest as manifest_module
from c3.extract.datasets.manifest import Manifest, ReadOptions, crop_manifest
from c3.extract.datasets.read import read_manifest
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.extract.store.tables import Classes, Rows, SparseLabels
from c3.extract.store.texts import Texts
from PIL import Image

ROWS = {"whole": 1, "center": 1, "five": 5, "ten": 10}


def tiny(table_dataset: Path, **options: object) -> Manifest:
    return read_manifest(Catalog(table_dataset / "catalog.yaml").dataset("tiny"), ReadOptions(**options))


@pytest.mark.parametrize(("policy", "count"), ROWS.items())
def test_crops_of_an_image_are_neighbours_and_have_its_labels(table_dataset: Path, policy: str, count: int) -> None:
    whole, cropped = tiny(table_dataset), tiny(table_dataset, crops=policy)
    assert cropped.crops == policy
    for name, split in whole.splits.items():
        rows = cropped.splits[name]
        assert rows.image_id.tolist() == [image for image in split.image_id.tolist() for _ in range(count)]
        assert cropped.splits[name].path.tolist() == [path for path in split.path.tolist() for _ in range(count)]
        expected = split.labels.dense(3, absent=-1).repeat(count, axis=0)
        np.testing.assert_array_equal(rows.labels.dense(3, absent=-1), expected)
        np.testing.assert_array_equal(rows.crop, np.tile(rows.crop[:count], (len(split), 1)))


def test_five_crops_are_the_centre_and_the_corners_and_ten_their_mirrors(table_dataset: Path) -> None:
    ten = tiny(table_dataset, crops="ten").splits["val"].crop[:10]
    sides = np.abs(ten[:, 2:] - ten[:, :2])
    np.testing.assert_array_equal(sides, np.full((10, 2), 0.875))
    np.testing.assert_array_equal(ten[0], [0.0625, 0.0625, 0.9375, 0.9375])
    assert {tuple(box[:2]) for box in ten[1:5].tolist()} == {(0, 0), (0.125, 0), (0, 0.125), (0.125, 0.125)}
    np.testing.assert_array_equal(ten[5:], ten[:5][:, [2, 1, 0, 3]])  # x0 > x1
    np.testing.assert_array_equal(tiny(table_dataset, crops="five").splits["val"].crop[:5], ten[:5])


def test_a_mirrored_box_gives_the_mirrored_pixels(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    plain = load_crop(tmp_path / "x.png", np.float32([0, 0.1, 0.5, 1]), 16).pixels
    mirrored = load_crop(tmp_path / "x.png", np.float32([0.5, 0.1, 0, 1]), 16).pixels
    np.testing.assert_array_equal(mirrored, plain[:, ::-1])
    assert (mirrored != plain).any()


def test_a_store_holds_a_row_for_every_crop(table_dataset: Path, tmp_path: Path) -> None:
    request = {"catalog": table_dataset / "catalog.yaml", "backbone": "squeezenet1_1", "weights": "random:0",
               "device": "cpu", "splits": ("val",), "limit": 20}  # fmt: skip
    extract(ExtractOptions("tiny", out=tmp_path / "ten.zarr", crops="ten", **request))
    cache = FeatureCache.open(tmp_path / "ten.zarr")
    assert cache.origin.crops == "ten"
    assert cache.image_ids("val").tolist() == [f"{n:02d}.png" for n in (6, 7) for _ in range(10)]
    maps = cache.read("val", "p16", 0, 20).astype(np.float32)
    assert all(np.abs(maps[0] - other).max() > 0 for other in maps[1:10])
    with pytest.raises(C3Error, match="crops: store 'ten', request 'five'"):
        extract(ExtractOptions("tiny", out=tmp_path / "ten.zarr", crops="five", **request))


def test_policies_and_settings_that_a_data_set_does_not_have_are_refused(table_dataset: Path) -> None:
    with pytest.raises(C3Error, match=r"unknown crop policy 'fives'\. Did you mean 'five'"):
        tiny(table_dataset, crops="fives")
    with pytest.raises(C3Error, match="tiny has no boxes"):
        tiny(table_dataset, crops="boxes")
    with pytest.raises(C3Error, match="tiny has no machine labels"):
        tiny(table_dataset, label_source="human+machine")


def many(rows: int) -> Manifest:
    ids = Texts.of([f"{row:016x}" for row in range(rows)])
    labels = SparseLabels(np.arange(rows + 1), np.arange(rows, dtype=np.int32) % 3, np.ones(rows, np.int8))
    crops = np.tile(np.float32([0, 0, 1, 1]), (rows, 1))
    classes = Classes(("a", "b", "c"), np.array([True, True, False]), np.eye(3, dtype=np.float32))
    return Manifest("many", Path(), "complete", classes, {"train": Rows(ids, crops, labels, ids)})


def reference_digest(manifest: Manifest) -> str:
    """The digest as first published: every part with its length, one after the other, in memory as a whole."""
    parts: list[object] = [manifest.labelling, *manifest.classes.names]
    parts += [np.asarray(manifest.classes.seen, bool), np.asarray(manifest.classes.vectors, "<f4")]
    for name, split in manifest.splits.items():
        parts += [name, len(split), *split.image_id.tolist(), *split.path.tolist()]
        labels = split.labels
        parts += [np.asarray(split.crop, "<f4"), np.asarray(labels.indptr, "<i8")]
        parts += [np.asarray(labels.indices, "<i4"), labels.value]
    content = b""
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else str(part).encode()
        content += f"{len(data)}:".encode() + data
    return hashlib.sha256(content).hexdigest()


def test_the_digest_is_that_of_older_stores_and_sees_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = many(1000)
    expected = reference_digest(manifest)
    for step in (7, 1000, 1 << 16):
        monkeypatch.setattr(manifest_module, "DIGEST_STEP", step)
        assert manifest.digest() == expected
    assert crop_manifest(manifest, "whole").digest() == expected
    assert many(999).digest() != expected
    assert crop_manifest(manifest, "center").digest() != expected


@pytest.mark.parametrize(
    "names",
    [["a", "bb" * 7, "c" * 120, ""], ["cafe\u0301", "b"], ["a" * 3000, "b"], ["a b", "\t"], ["a\0", "a", "\0"]],
    ids=["lengths of 1 to 3 digits", "another form of a letter", "a long one", "blanks", "ends in NUL"],
)
def test_any_texts_give_the_digest_of_older_stores(names: list[str]) -> None:
    rows, composed = many(len(names)), [unicodedata.normalize("NFC", name) for name in names]
    found, expected = (
        replace(rows, splits={"train": replace(rows.splits["train"], image_id=Texts.of(texts))})
        for texts in (names, composed)
    )
    assert found.digest() == reference_digest(expected)


def test_coded_texts_are_hashed_as_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, order = many(40), np.arange(40)[::-1]
    ids = Texts(((np.array([b"%016x" % row for row in range(40)]), None),))
    paths = ids.affixed(["a/", "long/", ""], np.arange(40) % 3, ".jpg").take(order)
    coded = replace(rows, splits={"train": replace(rows.splits["train"], image_id=ids.take(order), path=paths)})
    plain = replace(rows, splits={"train": replace(rows.splits["train"], image_id=ids[order], path=paths[:])})
    assert paths[38] == "long/0000000000000001.jpg"
    expected = reference_digest(plain)
    for step in (7, 1 << 16):
        with monkeypatch.context() as patch:
            patch.setattr(manifest_module, "DIGEST_STEP", step)
            patch.setattr(manifest_module, "nfc", None)  # texts are not taken one by one
            assert coded.digest() == plain.digest() == expected


def test_classes_are_left_out_with_their_labels() -> None:
    kept = many(6).keep_classes(np.array([True, False, True]))
    assert kept.classes.names == ("a", "c")
    assert kept.classes.seen.tolist() == [True, False]
    expected = [[1, -1], [-1, -1], [-1, 1]] * 2
    assert kept.splits["train"].labels.dense(2, absent=-1).tolist() == expected
