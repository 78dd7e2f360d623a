"""COCO from a tree in the official layout: image labels, zero-shot splits, boxes and refusals."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any
from unicodedata import normalize

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.catalog.specs import CocoSpec
from c3.extract.catalog_check import check
from c3.extract.datasets.manifest import Manifest, ReadOptions
from c3.extract.datasets.read import read_manifest
from official_trees import Tree, write_coco

gzipped = partial(gzip.compress, mtime=0)  # the same bytes in every process: xdist compares the names of tests

TRAIN = "coco/annotations/instances_train2017.json"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture
def tree(written: Tree) -> Iterator[Tree]:
    """A tree whose text files are put back after the test."""
    kept = {path: path.read_bytes() for path in written.root.rglob("*") if path.suffix in (".json", ".yaml", ".txt")}
    yield written
    for path, content in kept.items():
        path.write_bytes(content)


def manifest(tree: Tree, name: str = "coco", crops: str = "whole") -> Manifest:
    return read_manifest(Catalog(tree.catalog).dataset(name), ReadOptions(crops=crops))


def positives(found: Manifest, split: str) -> set[tuple[str, str]]:
    rows = found.splits[split]
    dense = rows.labels.dense(len(found.classes), absent=-1)
    return {(rows.image_id[row], found.classes.names[c]) for row, c in zip(*np.nonzero(dense == 1), strict=True)}


def edit(tree: Tree, change: Any) -> None:
    content = json.loads((tree.root / TRAIN).read_text())
    change(content)
    (tree.root / TRAIN).write_text(json.dumps(content))


def test_an_image_has_the_classes_of_its_objects(tree: Tree) -> None:
    found = manifest(tree)
    assert found.classes.names == ("red", "blue", "dog", "tree")
    assert found.classes.seen.all()
    assert {name: len(split) for name, split in found.splits.items()} == {"train": 12, "test": 8}
    for split in ("train", "test"):
        assert positives(found, split) == set(tree.truth[split])
        ids = found.splits[split].image_id.tolist()
        assert ids == sorted(ids)
        assert (found.root / ids[0]).is_file()


def test_a_zero_shot_split_has_its_classes_and_hides_unseen_objects_from_training(tree: Tree) -> None:
    found = manifest(tree, "coco-2-1")
    assert found.classes.names == ("blue", "red", "dog")
    assert found.classes.seen.tolist() == [True, True, False]
    with_dog = {image for image, name in tree.truth["train"] if name == "dog"}
    assert set(found.splits["train"].image_id.tolist()).isdisjoint(with_dog)
    assert len(found.splits["train"]) == 12 - len(with_dog)
    assert positives(found, "test") == {pair for pair in tree.truth["test"] if pair[1] != "tree"}


def test_the_built_in_splits_have_their_sizes() -> None:
    for name, seen, unseen in (("coco-48-17", 48, 17), ("coco-65-15", 65, 15)):
        spec = Catalog().dataset(name)
        assert isinstance(spec, CocoSpec)
        assert (len(set(spec.seen)), len(set(spec.unseen))) == (seen, unseen)
        assert set(spec.seen).isdisjoint(spec.unseen)


def test_a_box_is_a_row(tree: Tree) -> None:
    found = manifest(tree, crops="boxes")
    rows = found.splits["test"]
    assert len(rows) == len(tree.truth["test"])
    # 4, 5, 20 x 30 pixels of 48 x 40, a tenth of the box more on every side
    expected = [(4 - 2) / 48, (5 - 3) / 40, (24 + 2) / 48, (35 + 3) / 40]
    np.testing.assert_allclose(rows.crop, np.tile(expected, (len(rows), 1)), atol=1e-6)
    assert (np.diff(rows.labels.indptr) == 1).all()
    assert {(rows.image_id[r], found.classes.names[c]) for r, c in enumerate(rows.labels.indices)} == set(
        tree.truth["test"]
    )


def test_the_order_in_the_file_does_not_matter(tree: Tree) -> None:
    before = {crops: manifest(tree, crops=crops).digest() for crops in ("whole", "boxes")}
    edit(tree, lambda content: [content[key].reverse() for key in ("images", "annotations", "categories")])
    assert {crops: manifest(tree, crops=crops).digest() for crops in ("whole", "boxes")} == before


def images(content: Any) -> Any:
    return content["images"]


def objects(content: Any) -> Any:
    return content["annotations"]


@pytest.mark.parametrize(
    "change",
    [
        lambda c: [found.update(bbox=None) for found in objects(c)],
        lambda c: [found.pop("bbox") for found in objects(c)],
        lambda c: [found.update(bbox=[1, 2, float("nan"), float("inf")], area=float("-inf")) for found in objects(c)],
        lambda c: [found.update(bbox={"x": 1}) for found in objects(c)],
        lambda c: [found.update(iscrowd=None, area=None, segmentation=None) for found in objects(c)],
        lambda c: [found.pop(name) for name in ("iscrowd", "area", "segmentation", "id") for found in objects(c)],
        lambda c: [image.update(width=None, height="40") for image in images(c)],
        lambda c: [image.pop(name) for name in ("width", "height") for image in images(c)],
        lambda c: [found.update(image_id=str(found["image_id"])) for found in objects(c)],
        lambda c: [found.update(image_id=float(found["image_id"])) for found in objects(c)],
        lambda c: [image.update(id=f"{image['id']:012d}") for image in images(c)],
        lambda c: [entry.update(id=str(entry["id"])) for key in ("images", "categories") for entry in c[key]],
        lambda c: [category.update(name=f" {category['name']} ") for category in c["categories"]],
        lambda c: [image.update(file_name=f"./{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"train2017/{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"train2017\\{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"coco/train2017/{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"coco/{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"/home/me/coco/train2017/{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"/srv/pictures/{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"C:\\me\\train2017\\{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"http://a.org/x%20y/train2017/{image['file_name']}") for image in images(c)],
        lambda c: [image.update(file_name=f"file:///C:/me/train2017/{image['file_name']}") for image in images(c)],
        lambda c: [image.update(coco_url=f"http://a.org/train2017/{image.pop('file_name')}") for image in images(c)],
    ],
)
def test_what_other_tools_write_is_read_as_the_official_file(tree: Tree, change: Any) -> None:
    before = manifest(tree).digest()
    edit(tree, change)
    assert manifest(tree).digest() == before


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_every_encoding_of_json_is_read(tree: Tree, encoding: str) -> None:
    before = manifest(tree).digest()
    (tree.root / TRAIN).write_bytes((tree.root / TRAIN).read_text().encode(encoding))
    assert manifest(tree).digest() == before


def test_a_compressed_file_is_read(tree: Tree) -> None:
    before = manifest(tree).digest()
    (tree.root / TRAIN).write_bytes(gzipped((tree.root / TRAIN).read_bytes()))
    assert manifest(tree).digest() == before


def test_pictures_are_found_in_either_form_of_unicode(tree: Tree) -> None:
    """File names keep their form, ids are in NFC, and one name in two forms is one image."""
    composed, apart = normalize("NFC", "é.jpg"), normalize("NFD", "é.jpg")
    edit(tree, lambda c: images(c)[-1].update(file_name=apart))
    rows = manifest(tree).splits["train"]
    assert rows.path.tolist()[-1] == f"train2017/{apart}"
    assert rows.image_id.tolist()[-1] == f"train2017/{composed}"
    edit(tree, lambda c: images(c)[-2].update(file_name=composed))
    with pytest.raises(C3Error, match=r"an image is listed twice: .*, also as "):
        manifest(tree)


def test_ids_may_be_texts(tree: Tree) -> None:
    def change(content: Any) -> None:
        for entry in (*images(content), *content["categories"]):
            entry["id"] = f"n{entry['id']}"
        for found in objects(content):
            found.update(image_id=f"n{found['image_id']}", category_id=f"n{found['category_id']}")

    edit(tree, change)
    found = manifest(tree)
    assert positives(found, "train") == set(tree.truth["train"])
    assert found.classes.names == ("red", "dog", "blue", "tree")  # in the order of the texts n1, n18, n3, n90


def test_the_names_of_categories_are_compared_in_one_form_of_unicode(tree: Tree) -> None:
    names = [normalize("NFD", "café"), normalize("NFC", "café")]
    for path, name in zip((TRAIN, TRAIN.replace("train", "val")), names, strict=True):
        text = (tree.root / path).read_text().replace('"dog"', json.dumps(name))
        (tree.root / path).write_text(text)
    with (tree.root / "vectors.txt").open("a", encoding="utf-8") as vectors:
        vectors.write(f"{names[1]} 1 2 3 4 5 6 7 8\n")
    assert manifest(tree).classes.names == ("red", "blue", names[1], "tree")
    tree.catalog.write_text(tree.catalog.read_text().replace('"dog"', json.dumps(names[0])))
    assert manifest(tree, "coco-2-1").classes.names[2] == names[1]


def change_entry(tree: Tree, **settings: Any) -> None:
    catalog = json.loads(tree.catalog.read_text())
    catalog["datasets"]["coco"] |= settings
    tree.catalog.write_text(json.dumps(catalog))


@pytest.mark.parametrize(("images_in", "folder"), [("train2017", ""), ("train2017", "."), (".", "train2017")])
def test_one_annotation_file_is_a_data_set(tree: Tree, images_in: str, folder: str) -> None:
    """As Label Studio and CVAT export it: no test split, and pictures in the images folder or in one below it."""
    change_entry(tree, train_annotations=TRAIN.removeprefix("coco/"), images=images_in,
                 years={"train": folder, "test": ""})  # fmt: skip
    found = manifest(tree)
    assert list(found.splits) == ["train"] and len(found.splits["train"]) == 12
    assert (found.root / found.splits["train"].path[0]).is_file()
    said = str(check(tree.catalog, "coco"))
    assert "train images: 12" in said and "test" not in said


def test_an_image_belongs_to_one_split_and_train_names_the_classes(tree: Tree) -> None:
    change_entry(tree, years={"train": "train2017", "test": "train2017"})
    with pytest.raises(
        C3Error, match=r"coco in .*: the image train2017/\d+\.jpg is in train and in test; an image bel"
    ):
        manifest(tree)
    change_entry(tree, years={"train": "", "test": "val2017"})
    with pytest.raises(C3Error, match=r"expected annotations of train, which name the classes, in train_annotations"):
        manifest(tree)


def test_a_picture_that_lies_elsewhere_is_not_guessed(tree: Tree) -> None:
    """A folder as written stays as it is while no picture of it is found: another of the same name is not taken."""
    edit(tree, lambda c: [image.update(file_name=f"more/{image['file_name']}") for image in images(c)])
    path = manifest(tree).splits["train"].path
    assert path[0] == "train2017/more/000000000100.jpg"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([-0.4, -0.3, 20.4, 30.3], [0, 0, 20 / 48, 30 / 40]),
        ([30, 20, 60, 30], [30 / 48, 20 / 40, 1, 1]),
        ([-5, -5, 100, 100], [0, 0, 1, 1]),
        ([10, 10, 38.0000001, 30], [10 / 48, 10 / 40, 1, 1]),
    ],
)
def test_a_box_is_clipped_to_its_picture(
    tree: Tree, caplog: pytest.LogCaptureFixture, box: list[float], expected: list[float]
) -> None:
    caplog.set_level(logging.INFO)
    tree.catalog.write_text(tree.catalog.read_text().replace('"kind": "coco"', '"kind": "coco", "box_margin": 0'))
    count = len(manifest(tree, crops="boxes").splits["train"])
    caplog.clear()
    edit(tree, lambda c: objects(c)[0].update(bbox=box))
    rows = manifest(tree, crops="boxes").splits["train"]
    assert len(rows) == count
    first = rows.labels.indices[:2].tolist().index(0)  # the red one of the first image
    np.testing.assert_allclose(rows.crop[first], expected, atol=1e-6)
    clipped = next(line for line in caplog.messages if line.startswith("boxes:")).rpartition(": ")[2]
    assert clipped == ("0" if box[0] == 10 else "1")


@pytest.mark.parametrize(
    "box",
    [[9.98, 18.56, 5.54, 0.0], [9, 9, 0, 5], [9, 9, -3, 5], [48, 10, 5, 5], [-9, 10, 8, 8], [10, 40, 9, 9],
     [10, -20, 5, 15]],
)  # fmt: skip
def test_a_box_without_an_area_in_its_picture_is_left_out_and_counted(
    tree: Tree, caplog: pytest.LogCaptureFixture, box: list[float]
) -> None:
    count = len(manifest(tree, crops="boxes").splits["train"])
    caplog.clear()  # of what other tests made the root logger say
    caplog.set_level(logging.INFO)
    edit(tree, lambda c: objects(c)[0].update(bbox=box))
    assert len(manifest(tree, crops="boxes").splits["train"]) == count - 1
    assert next(line for line in caplog.messages if line.startswith("boxes:")).startswith(
        f"boxes: {count - 1} rows; left out: 1 without an area, 0 smaller"
    )


@pytest.mark.parametrize("box", [None, []])
def test_an_object_without_a_box_makes_no_row_and_is_counted(
    tree: Tree, caplog: pytest.LogCaptureFixture, box: Any
) -> None:
    count = len(manifest(tree, crops="boxes").splits["train"])

    def change(content: Any) -> None:
        images(content)[-1].update(width=None)  # an image without a box needs no size
        for found in objects(content):
            if found["image_id"] == images(content)[-1]["id"]:
                found.update(bbox=box)

    edit(tree, change)
    assert len(manifest(tree, crops="boxes").splits["train"]) == count - 2
    assert "objects without a bbox, which make no row: 2" in caplog.text


def test_corners_in_place_of_sizes_are_warned_of(tree: Tree, caplog: pytest.LogCaptureFixture) -> None:
    edit(tree, lambda c: [found.update(bbox=[30, 20, 45, 38]) for found in objects(c)])
    manifest(tree, crops="boxes")
    assert "are these x0, y0, x1, y1?" in caplog.text


@pytest.mark.parametrize(
    ("change", "crops", "said"),
    [
        (lambda c: images(c)[0].update(file_name="../x.jpg"), "whole", r"image '../x.jpg': expected a path below the"),
        (lambda c: images(c)[0].update(file_name="a/../../x.jpg"), "whole", "expected a path below the images"),
        (lambda c: images(c)[0].update(file_name="/a/../x.jpg"), "whole", "expected a path below the images"),
        (lambda c: images(c)[0].update(file_name=None), "whole", r"image 0 \(id 111\): file_name: .* found nothing"),
        (lambda c: images(c)[0].update(file_name=7), "whole", "file_name: expected a text, found 7"),
        (lambda c: images(c)[0].update(file_name="a\0.jpg"), "whole", "file_name: expected a text, found"),
        (lambda c: images(c)[0].update(file_name="\ud800.jpg"), "whole", "file_name: expected a text, found"),
        (lambda c: images(c)[0].pop("id"), "whole", "image 0: id: expected a whole number or a text, found nothing"),
        (lambda c: images(c)[0].update(id=1.5), "whole", "image 0: id: expected a whole number or a text, found 1.5"),
        (lambda c: images(c)[0].update(id=float("nan")), "whole", "image 0: id: .* found NaN"),
        (lambda c: images(c)[0].update(id=True), "whole", "image 0: id: .* found true"),
        (lambda c: images(c).insert(0, "a.jpg"), "whole", "image 0: expected an object with id and file_name, found"),
        (lambda c: images(c).append(images(c)[0]), "whole", "an image is listed twice: id '111'"),
        (lambda c: images(c)[0].update(id=str(images(c)[1]["id"])), "whole", "an image is listed twice: id '110'"),
        (lambda c: images(c)[0].update(file_name=images(c)[1]["file_name"]), "whole", "twice: '000000000110.jpg'"),
        (lambda c: images(c)[0].update(file_name="train2017/000000000110.jpg"), "whole",
         "twice: '000000000110.jpg', also as 'train2017/000000000110.jpg'"),
        (lambda c: c["categories"].append(c["categories"][0]), "whole", "a category is listed twice: id '1'"),
        (lambda c: c["categories"][0].update(name="dog"), "whole", "a category is listed twice: 'dog'"),
        (lambda c: c["categories"][0].pop("name"), "whole", r"category 0 \(id 1\): name: expected a text, found"),
        (lambda c: c["categories"][0].update(name=" "), "whole", "name: expected a text"),
        (lambda c: c.update(categories=["red"]), "whole", "category 0: expected an object with id and name, found"),
        (lambda c: objects(c)[2].update(image_id=7), "whole",
         r"annotation 2: image_id 7 is not the id of an image of this file \(1 such annotations\); its ids are 111"),
        (lambda c: objects(c)[1].update(category_id=7), "whole", "annotation 1: category_id 7 is not the id of a cat"),
        (lambda c: objects(c)[1].update(category_id=None), "whole", "annotation 1: category_id nothing is not the id"),
        (lambda c: objects(c)[1].update(category_id=[1]), "whole", r"annotation 1: category_id \[1\] is not the id"),
        (lambda c: objects(c)[1].pop("category_id"), "whole", r"annotation 1 \(id 1\) has no category_id"),
        (lambda c: objects(c)[1].pop("image_id"), "whole", r"annotation 1 \(id 1\) has no image_id"),
        (lambda c: objects(c).insert(1, None), "whole", "annotation 1: expected an object with image_id and"),
        (lambda c: objects(c).clear(), "whole", "lists 12 images and no annotation"),
        (lambda c: c.pop("images"), "whole",
         "not a COCO instances file: expected the lists images, annotations, categories, found only info, annotations"),
        (lambda c: c.update(annotations=None), "whole", "found annotations: nothing"),
        (lambda c: c.update(categories={"1": "red"}), "whole", "found categories: {"),
        (lambda c: objects(c)[0].update(bbox=[1, 2, 3]), "boxes",
         r"annotation 0 \(of '000000000100.jpg'\): expected a bbox of 4 numbers .* found \[1, 2, 3\]"),
        (lambda c: objects(c)[0].update(bbox=[1, 2, float("nan"), 4]), "boxes", r"found \[1, 2, NaN, 4\]"),
        (lambda c: objects(c)[0].update(bbox=[1, 2, 10**400, 4]), "boxes", "annotation 0 .* expected a bbox"),
        (lambda c: objects(c)[0].update(bbox=["1", 2, 3, 4]), "boxes", "annotation 0 .* expected a bbox"),
        (lambda c: objects(c)[0].update(bbox={"x": 1}), "boxes", "annotation 0 .* expected a bbox"),
        (lambda c: [found.update(bbox=[0.1, 0.1, 0.5, 0.6]) for found in objects(c)], "boxes", "found shares of the"),
        (lambda c: images(c)[-1].update(width=None), "boxes",
         "image '000000000100.jpg': --crops boxes needs its width and height in pixels, found width nothing"),
        (lambda c: images(c)[-1].update(height=0), "boxes", "width 48 and height 0"),
        (lambda c: images(c)[-1].update(height="40"), "boxes", 'height "40"'),
    ],
)  # fmt: skip
def test_bad_files_are_refused(tree: Tree, change: Any, crops: str, said: str) -> None:
    edit(tree, change)
    with pytest.raises(C3Error, match=said):
        manifest(tree, crops=crops)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is an empty file"),
        (b"<!DOCTYPE html>", "it is an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (gzipped(b"<html>"), "it is an HTML page"),
        (b'[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]', "a list, as of detection results"),
        (b'{"images": []}{}', "Extra data"),
        (b"{'images': []}", "Expecting property name"),
        (b'{"images": [], "images": []}', "the key 'images' stands twice"),
        ('{"images": "caf\xe9"}'.encode("latin-1"), "byte 15 is not in UTF-8"),
        (b"[" * 200_000, "recursion"),
        (b"null", "found nothing"),
        (b'{"images": [], "annotations": [], "info": {}}', "found only images, annotations, info"),
    ],
)
def test_what_is_no_annotation_file_is_named(tree: Tree, content: bytes, said: str) -> None:
    (tree.root / TRAIN).write_bytes(content)
    with pytest.raises(C3Error, match=rf"instances_train2017\.json is not a COCO instances file.*{said}"):
        manifest(tree)


def test_a_category_that_train_does_not_have_is_refused(tree: Tree) -> None:
    path = tree.root / TRAIN.replace("train", "val")
    path.write_text(path.read_text().replace('"dog"', '"Dog"'))
    with pytest.raises(C3Error, match="objects of the category 'Dog', which the annotations of train do not list"):
        manifest(tree)


def test_a_truncated_file_and_an_unknown_class_are_refused(tree: Tree) -> None:
    tree.catalog.write_text(tree.catalog.read_text().replace('"seen": ["blue"', '"seen": ["zebra"'))
    with pytest.raises(C3Error, match="has no category 'zebra'"):
        manifest(tree, "coco-2-1")
    (tree.root / TRAIN).write_bytes((tree.root / TRAIN).read_bytes()[:500])
    with pytest.raises(C3Error, match=r"instances_train2017\.json is not a COCO instances file"):
        manifest(tree)
