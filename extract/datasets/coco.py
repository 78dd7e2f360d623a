"""Read COCO from its `instances_*.json`. The labels of an image are the classes of its objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import C3Error
from ...common.text_files import relative_path
from ..catalog.specs import CocoSpec
from ..store.tables import Classes, Rows, SparseLabels
from .boxes import ImageBoxes, box_split
from .manifest import Manifest, ReadOptions, texts, unvectored, whole_images

NEEDED = ("image_id", "category_id", "bbox")


@dataclass(frozen=True)
class _Instances:
    """One annotation file.

    `categories` maps ids to names in the order of ids, `images` maps ids to (file name, width, height), `objects` are
    (image id, category id, box).
    """

    path: Path
    categories: dict[int, str]
    images: dict[int, tuple[str, int, int]]
    objects: list[tuple[int, int, list[float]]]


def coco_classes(spec: CocoSpec) -> Classes:
    """Return the `seen`, then the `unseen` names of the catalog entry; without them all categories of train."""
    return _classes(spec, _read(spec, "train"))


def coco_manifest(spec: CocoSpec, options: ReadOptions) -> Manifest:
    """Read the annotation files into rows sorted by file name, for whole images or for `boxes`.

    Labels are complete: COCO lists every object of its 80 categories. val2017 is the split `test`. With
    `drop_unseen_images`, train images that show an unseen class are left out, as the zero-shot splits demand.
    """
    splits = {}
    first = _read(spec, "train")
    classes = _classes(spec, first)
    for split, year in _years(spec).items():
        instances = first if split == "train" else _read(spec, split)
        spec.expect(f"{split}_images", len(instances.images), instances.path)
        drop = split == "train" and spec.drop_unseen_images
        splits[split] = _split(spec, instances, classes, year, drop, options)
    return Manifest(spec.name, spec.images_folder(), spec.labelling, classes, splits)


def coco_counts(spec: CocoSpec) -> dict[str, int]:
    """Count what the official files hold, under the names of the catalog's `counts`."""
    counts: dict[str, int] = {}
    for split in ("train", "test"):
        instances = _read(spec, split)
        counts |= {f"{split}_images": len(instances.images), f"{split}_objects": len(instances.objects)}
        counts["categories"] = len(instances.categories)
    return counts


def _years(spec: CocoSpec) -> dict[str, str]:
    """Return the official set of every split that exists."""
    years = {"train": spec.years.train, "val": spec.years.val, "test": spec.years.test}
    return {split: year for split, year in years.items() if year}


def _classes(spec: CocoSpec, instances: _Instances) -> Classes:
    names = list(instances.categories.values())
    if not spec.seen:
        return unvectored(names)
    chosen = (*spec.seen, *spec.unseen)
    for name in chosen:
        if name not in names:
            raise C3Error(f"data set {spec.name} in {spec.catalog}: {instances.path} has no category {name!r}")
        if chosen.count(name) > 1:
            raise C3Error(f"data set {spec.name} in {spec.catalog}: class {name!r} is listed twice")
    return unvectored(spec.seen, spec.unseen)


def _split(
    spec: CocoSpec, instances: _Instances, classes: Classes, year: str, drop: bool, options: ReadOptions
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
    whole = whole_images(texts([f"{year}/{file}" for file, _ in order]), labels)
    if options.crops != "boxes":
        return whole
    corners = np.array([_shares(instances, i, box) for i, _, box in kept], np.float32).reshape(-1, 4)
    return box_split(whole, ImageBoxes(row, column, corners), spec)


def _shares(instances: _Instances, image: int, box: list[float]) -> tuple[float, float, float, float]:
    """Turn x, y, width and height in pixels into corners as shares of the image; refuse a box outside it or empty."""
    file, width, height = instances.images[image]
    x, y, w, h = box
    slack = 1  # pixel: COCO's own boxes reach the edge with a rounding error
    if w <= 0 or h <= 0 or x < 0 or y < 0 or x + w > width + slack or y + h > height + slack:
        raise C3Error(f"{instances.path}: a box of {file} ({width} x {height}) is outside it or has no area: {box}")
    return x / width, y / height, min((x + w) / width, 1.0), min((y + h) / height, 1.0)


def _read(spec: CocoSpec, split: str) -> _Instances:
    own = {"train": spec.train_annotations, "val": spec.val_annotations, "test": spec.test_annotations}[split]
    path = spec.official(own or f"annotations/instances_{_years(spec)[split]}.json")
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
    """Keep only three fields of an annotation while the file is parsed: outlines take most of the memory."""
    return tuple(item[name] for name in NEEDED) if all(name in item for name in NEEDED) else item
