"""COCO from its `instances_*.json`: an image has the classes of its objects, 80 or a zero-shot split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import C3Error
from ...common.text_files import relative_path
from ..backbone.crop_policies import WHOLE_IMAGE
from ..catalog.specs import DatasetSpec
from ..store.tables import Classes, Rows, SparseLabels
from .boxes import BoxOptions, ImageBoxes, box_split
from .manifest import Manifest, ReadOptions, texts, unvectored

YEARS = {"train": "train2017", "val": "", "test": "val2017"}  # split -> official file; `val` only where an entry says
SETTINGS = ("years", "seen", "unseen", "drop_unseen_images", *(f"{split}_annotations" for split in YEARS))
NEEDED = ("image_id", "category_id", "bbox")


@dataclass(frozen=True)
class _Instances:
    """One annotation file: category names in the order of their ids, images, and an object a row."""

    path: Path
    categories: dict[int, str]
    images: dict[int, tuple[str, int, int]]
    objects: list[tuple[int, int, list[float]]]


def coco_classes(spec: DatasetSpec) -> Classes:
    """The `seen` and then the `unseen` names of the catalog entry; without these all categories of the train file."""
    return _classes(spec, _read(spec, "train"))


def coco_manifest(spec: DatasetSpec, options: ReadOptions) -> Manifest:
    """Read the annotation files into rows sorted by file name, for whole images or for `boxes`.

    Labels are complete: COCO lists every object of its 80 categories. val2017 is the split `test`. With
    `drop_unseen_images`, train images that show an unseen class are left out, as the zero-shot splits ask.
    """
    years = YEARS | spec.options.get("years", {})
    splits = {}
    first = _read(spec, "train")
    classes = _classes(spec, first)
    for split, year in years.items():
        if not year:
            continue
        instances = first if split == "train" else _read(spec, split)
        spec.expect(f"{split}_images", len(instances.images), instances.path)
        drop = split == "train" and bool(spec.options.get("drop_unseen_images"))
        splits[split] = _split(spec, instances, classes, year, drop, options)
    return Manifest(spec.name, spec.folder("images"), spec.labelling, classes, splits)


def coco_counts(spec: DatasetSpec) -> dict[str, int]:
    """What the official files hold, by the names of the catalog's `counts`."""
    counts = {}
    for split in ("train", "test"):
        instances = _read(spec, split)
        counts |= {f"{split}_images": len(instances.images), f"{split}_objects": len(instances.objects)}
        counts["categories"] = len(instances.categories)
    return counts


def _classes(spec: DatasetSpec, instances: _Instances) -> Classes:
    names = list(instances.categories.values())
    if "seen" not in spec.options:
        return unvectored(names)
    seen, unseen = list(spec.options["seen"]), list(spec.options.get("unseen", []))
    for name in (*seen, *unseen):
        if name not in names:
            raise C3Error(f"data set {spec.name} in {spec.catalog}: {instances.path} has no category {name!r}")
        if (seen + unseen).count(name) > 1:
            raise C3Error(f"data set {spec.name} in {spec.catalog}: class {name!r} is listed twice")
    return unvectored(seen, unseen)


def _split(
    spec: DatasetSpec, instances: _Instances, classes: Classes, year: str, drop: bool, options: ReadOptions
) -> Rows:
    index = {name: c for c, name in enumerate(classes.names)}
    unseen = {name for name, seen in zip(classes.names, classes.seen, strict=True) if not seen}
    of_category = {number: index.get(name, -1) for number, name in instances.categories.items()}
    dropped = {i for i, c, _ in instances.objects if instances.categories[c] in unseen} if drop else set()
    order = sorted((file, i) for i, (file, _, _) in instances.images.items() if i not in dropped)
    row_of = {i: row for row, (_, i) in enumerate(order)}
    kept = [(i, c, box) for i, c, box in instances.objects if i in row_of and of_category[c] >= 0]
    row = np.array([row_of[i] for i, _, _ in kept], np.int64)
    column = np.array([of_category[c] for _, c, _ in kept], np.int64)
    pairs = np.unique(row * len(classes) + column)
    labels = SparseLabels.from_pairs(
        len(order), pairs // len(classes), pairs % len(classes), np.ones(len(pairs), np.int8)
    )
    names = texts([f"{year}/{file}" for file, _ in order])
    whole = Rows(names, np.tile(np.float32(WHOLE_IMAGE), (len(order), 1)), labels, path=names)
    if options.crops != "boxes":
        return whole
    corners = np.array([_shares(instances, i, box) for i, _, box in kept], np.float32).reshape(-1, 4)
    return box_split(whole, ImageBoxes(row, column, corners), BoxOptions.of(spec))


def _shares(instances: _Instances, image: int, box: list[float]) -> tuple[float, float, float, float]:
    """x, y, width and height in pixels -> corners as shares of the image; refused outside it or without an area."""
    file, width, height = instances.images[image]
    x, y, w, h = box
    slack = 1  # pixel: COCO's own boxes touch the edge with rounding
    if w <= 0 or h <= 0 or x < 0 or y < 0 or x + w > width + slack or y + h > height + slack:
        raise C3Error(f"{instances.path}: a box of {file} ({width} x {height}) is outside it or has no area: {box}")
    return x / width, y / height, min((x + w) / width, 1.0), min((y + h) / height, 1.0)


def _read(spec: DatasetSpec, split: str) -> _Instances:
    year = (YEARS | spec.options.get("years", {}))[split]
    path = spec.official(f"{split}_annotations", f"annotations/instances_{year}.json")
    try:
        content = json.loads(path.read_bytes(), object_hook=_lean)
        categories = {category["id"]: str(category["name"]) for category in content["categories"]}
        images = {image["id"]: _image(image, path) for image in content["images"]}
        objects = content["annotations"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise C3Error(f"{path} is not a COCO instances file ({type(error).__name__}: {error})") from error
    if len(categories) != len(content["categories"]) or len(set(categories.values())) != len(categories):
        raise C3Error(f"{path}: a category is listed twice")
    if len({file for file, _, _ in images.values()}) != len(content["images"]):
        raise C3Error(f"{path}: an image is listed twice")
    for number, found in enumerate(objects):
        if not isinstance(found, tuple) or found[0] not in images or found[1] not in categories or len(found[2]) != 4:
            raise C3Error(f"{path}: annotation {number} names an image or a category that the file does not list")
    return _Instances(path, dict(sorted(categories.items())), images, objects)


def _image(image: dict[str, Any], path: Path) -> tuple[str, int, int]:
    return relative_path(image["file_name"], f"{path} image {image['id']}"), image["width"], image["height"]


def _lean(item: dict[str, Any]) -> Any:
    """Keep three fields of an annotation while the file is parsed: its outlines are most of the memory."""
    return tuple(item[name] for name in NEEDED) if all(name in item for name in NEEDED) else item
