"""Read COCO from its `instances_*.json`. The labels of an image are the classes of its objects."""

from __future__ import annotations

import logging

import numpy as np

from ...common.errors import C3Error
from ...common.unicode_forms import nfc
from ..catalog.specs import CocoSpec
from ..store.tables import Classes, Rows, SparseLabels
from .boxes import ImageBoxes, box_split
from .coco_file import Instances, read_instances
from .coco_paths import picture_paths
from .manifest import Manifest, ReadOptions, unvectored, whole_images

LOG = logging.getLogger(__name__)
HALF = 0.5


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
        spec.expect(f"{split}_images", len(instances.files), instances.path)
        drop = split == "train" and spec.drop_unseen_images
        splits[split] = _split(spec, instances, classes, year, drop, options)
    _require_own_images(spec, splits)
    return Manifest(spec.name, spec.images_folder(), spec.labelling, classes, splits)


def coco_counts(spec: CocoSpec) -> dict[str, int]:
    """Count what the official files hold, under the names of the catalog's `counts`."""
    counts: dict[str, int] = {}
    for split in _years(spec):
        instances = _read(spec, split)
        counts |= {f"{split}_images": len(instances.files), f"{split}_objects": len(instances.image)}
        counts["categories"] = len(instances.categories)
    return counts


def _years(spec: CocoSpec) -> dict[str, str]:
    """Return the folder of every split that exists: those with a folder or an annotation file."""
    years = {"train": spec.years.train, "val": spec.years.val, "test": spec.years.test}
    own = _annotations(spec)
    if not (years["train"] or own["train"]):
        raise C3Error(
            f"data set {spec.name} in {spec.catalog}: expected annotations of train, which name the classes, in "
            "train_annotations or years.train"
        )
    return {split: year for split, year in years.items() if year or own[split]}


def _annotations(spec: CocoSpec) -> dict[str, str | None]:
    return {"train": spec.train_annotations, "val": spec.val_annotations, "test": spec.test_annotations}


def _require_own_images(spec: CocoSpec, splits: dict[str, Rows]) -> None:
    """Refuse an image of two splits: one file may have been named twice."""
    home: dict[str, str] = {}
    for split, rows in splits.items():
        for image in dict.fromkeys(rows.image_id.tolist()):
            if (other := home.setdefault(image, split)) != split:
                raise C3Error(
                    f"data set {spec.name} in {spec.catalog}: the image {image} is in {other} and in {split}; an image "
                    "belongs to one split"
                )


def _classes(spec: CocoSpec, instances: Instances) -> Classes:
    if not spec.seen:
        return unvectored(instances.categories)
    chosen = (*spec.seen, *spec.unseen)
    for name in chosen:
        if name not in instances.categories:
            raise C3Error(f"data set {spec.name} in {spec.catalog}: {instances.path} has no category {name!r}")
        if chosen.count(name) > 1:
            raise C3Error(f"data set {spec.name} in {spec.catalog}: class {name!r} is listed twice")
    return unvectored(spec.seen, spec.unseen)


def _split(spec: CocoSpec, instances: Instances, classes: Classes, year: str, drop: bool, options: ReadOptions) -> Rows:
    column = _columns(spec, instances, classes)[instances.category]
    shows_unseen = np.zeros(len(instances.files), bool)
    if drop:
        shows_unseen[instances.image[(column >= 0) & ~classes.seen[column]]] = True
    paths = picture_paths(spec.root / spec.images, year, instances.files, instances.path)
    ids = [nfc(path) for path in paths]
    order = np.array(sorted(np.flatnonzero(~shows_unseen).tolist(), key=ids.__getitem__), np.int64)
    row_of = np.full(len(paths), -1)
    row_of[order] = np.arange(len(order))
    kept = np.flatnonzero((row_of[instances.image] >= 0) & (column >= 0))
    row, column = row_of[instances.image[kept]], column[kept]
    pairs = np.unique(row * len(classes) + column)
    labels = SparseLabels.from_pairs(
        len(order), pairs // len(classes), pairs % len(classes), np.ones(len(pairs), np.int8)
    )
    path, image_id = ([names[image] for image in order.tolist()] for names in (paths, ids))
    whole = whole_images(path, image_id, labels)
    if options.crops != "boxes":
        return whole
    boxed = instances.has_box(kept)
    if not boxed.all():
        LOG.warning("%s: objects without a bbox, which make no row: %s", instances.path, f"{int((~boxed).sum()):,}")
    row, column, kept = row[boxed], column[boxed], kept[boxed]
    corners, size = instances.corners(kept), np.zeros((len(order), 2))
    size[row] = instances.size(instances.image[kept])
    if ((corners[:, 2:] - 1) * size[row] > 1).any(axis=1).sum() > len(row) * HALF:
        LOG.warning("%s: more than half of the boxes reach beyond their images: a bbox is x, y, width, height; are "
                    "these x0, y0, x1, y1?", instances.path)  # fmt: skip
    return box_split(whole, ImageBoxes(row, column, corners, instances.path, size), spec)


def _columns(spec: CocoSpec, instances: Instances, classes: Classes) -> np.ndarray:
    """Return (categories,) the class of every category, -1 for those that the catalog entry leaves out."""
    index = {name: c for c, name in enumerate(classes.names)}
    column = np.array([index.get(name, -1) for name in instances.categories], np.int64)
    unknown = np.flatnonzero(np.isin(np.arange(len(column)), instances.category) & (column < 0))
    if len(unknown) and not spec.seen:
        raise C3Error(
            f"{instances.path}: objects of the category {instances.categories[unknown[0]]!r}, which the annotations of "
            "train do not list; list the classes of both under `seen` and `unseen` in the catalog"
        )
    return column


def _read(spec: CocoSpec, split: str) -> Instances:
    place = _annotations(spec)[split] or f"annotations/instances_{_years(spec)[split]}.json"
    return read_instances(spec.official(place))
