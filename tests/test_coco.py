"""COCO from a tree in the official layout: image labels, zero-shot splits, boxes and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.catalog.specs import CocoSpec
from c3.extract.datasets.manifest import Manifest, ReadOptions
from c3.extract.datasets.read import read_manifest
from official_trees import Tree, write_coco

TRAIN = "coco/annotations/instances_train2017.json"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return write_coco(tmp_path)


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


@pytest.mark.parametrize(
    ("change", "crops", "said"),
    [
        (lambda c: c["images"][0].update(file_name="../x.jpg"), "whole", "image 111: expected a path below the images"),
        (lambda c: c["images"].append(c["images"][0]), "whole", "an image is listed twice"),
        (lambda c: c["categories"].append(c["categories"][0]), "whole", "a category is listed twice"),
        (lambda c: c["annotations"][2].update(image_id=7), "whole", "annotation 2 names an image or a category that"),
        (lambda c: c["annotations"][1].update(category_id=7), "whole", "annotation 1 names"),
        (lambda c: c["annotations"][3].pop("bbox"), "whole", "annotation 3 names"),
        (lambda c: c.pop("images"), "whole", "not a COCO instances file .KeyError: 'images'"),
        (lambda c: c["annotations"][0].update(bbox=[4, 5, 60, 30]), "boxes", r"48 x 40\) is outside it or has no area"),
        (lambda c: c["annotations"][0].update(bbox=[4, 5, 0, 30]), "boxes", "is outside it or has no area"),
    ],
)
def test_bad_files_are_refused(tree: Tree, change: Any, crops: str, said: str) -> None:
    edit(tree, change)
    with pytest.raises(C3Error, match=said):
        manifest(tree, crops=crops)


def test_a_truncated_file_and_an_unknown_class_are_refused(tree: Tree) -> None:
    tree.catalog.write_text(tree.catalog.read_text().replace('"seen": ["blue"', '"seen": ["zebra"'))
    with pytest.raises(C3Error, match="has no category 'zebra'"):
        manifest(tree, "coco-2-1")
    (tree.root / TRAIN).write_bytes((tree.root / TRAIN).read_bytes()[:500])
    with pytest.raises(C3Error, match=r"instances_train2017\.json is not a COCO instances file"):
        manifest(tree)
