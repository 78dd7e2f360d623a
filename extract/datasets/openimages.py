"""Read Open Images V4 from its official csv files: image-level labels, each verified as present or absent."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...common.errors import C3Error
from ..catalog.specs import OpenImagesSpec
from ..store.origin import Notes
from ..store.tables import Classes, Rows, SparseLabels
from ..store.texts import Texts
from .boxes import ImageBoxes, box_split
from .label_sources import HUMAN_AND_MACHINE, LABEL_SOURCES
from .manifest import Manifest, ReadOptions, unvectored, whole_images
from .openimages_classes import OpenImagesClasses, read_classes
from .openimages_csv import Labels, id_texts, read_boxes, read_images, read_labels

LOG = logging.getLogger(__name__)
OFFICIAL = {"train": "train", "val": "validation", "test": "test"}  # split -> the word in official file names


@dataclass(frozen=True)
class _Images:
    """The images of a split: sorted ids (rows,) uint64, and their merged labels."""

    id: np.ndarray
    labels: SparseLabels


def openimages_classes(spec: OpenImagesSpec) -> tuple[Classes, tuple[str, ...]]:
    """Return the 7,186 seen classes in the order of classes-trainable.txt, then the 400 unseen ones; and their MIDs."""
    classes = read_classes(spec)
    return _unvectored(classes), classes.mids


def openimages_manifest(spec: OpenImagesSpec, options: ReadOptions) -> Manifest:
    """Read the annotation files into rows sorted by image id, for whole images or for `boxes`.

    Rows of train are the images with a label of a seen class; rows of val and test are all images of the label file
    and of the image list, if it exists. Labels are verified: what is not listed is unknown. An image and class that are
    listed more than once count once, as +1 where any line says so. With `label_source` human+machine, machine labels
    add +1 in train where there is no human label.
    """
    for split in options.splits:
        if split not in OFFICIAL:
            raise C3Error(f"data set {spec.name} has no split {split!r}; it has {', '.join(OFFICIAL)}")
    if options.label_source not in LABEL_SOURCES:
        raise C3Error(f"label source must be one of {', '.join(LABEL_SOURCES)}, found {options.label_source!r}")
    classes = read_classes(spec)
    splits = {}
    for split in OFFICIAL:
        if options.wants(split):
            images = _read_split(
                spec, split, classes, machine=split == "train" and options.label_source == HUMAN_AND_MACHINE
            )
            whole = _rows(images, _pattern(spec.images_root, OFFICIAL[split]))
            splits[split] = _boxes(spec, split, classes, whole, images) if options.crops == "boxes" else whole
    return Manifest(
        spec.name, spec.images_root, spec.labelling, _unvectored(classes), splits, class_keys=classes.mids,
        notes=Notes(label_source=options.label_source),
    )  # fmt: skip


def openimages_counts(spec: OpenImagesSpec) -> dict[str, int]:
    """Count what the official files hold, under the names of the catalog's `counts`; reads the label files whole."""
    classes = read_classes(spec)
    counts = {"class_descriptions": classes.described, "test_only": classes.test_only}
    counts |= {"seen": len(classes.seen), "unseen": len(classes.unseen)}
    for split in OFFICIAL:
        counts |= _counts(split, read_labels(_label_file(spec, split), classes.mids))
        if split != "train" and _list_path(spec, split).is_file():
            counts[f"{split}_images"] = len(_image_list(spec, split))
    return counts


def _read_split(spec: OpenImagesSpec, split: str, classes: OpenImagesClasses, machine: bool) -> _Images:
    path = _label_file(spec, split)
    human = read_labels(path, classes.mids)
    for name, found in _counts(split, human).items():
        spec.expect(name, found, path)
    listed = _image_list(spec, split)
    sources = [human]
    if machine:
        sources.append(read_labels(spec.official(spec.train_machine), classes.mids, human=False))
    images = np.unique(np.concatenate([listed, *(source.images for source in sources)]))
    if len(listed):
        spec.expect(f"{split}_images", len(images), _list_path(spec, split))
    labels = merge(images, sources, len(classes.mids), path)
    if split != "train":
        return _Images(images, labels)
    row = labels.row
    seen = np.bincount(row[labels.indices < len(classes.seen)], minlength=len(images)) > 0
    LOG.info("%s: %s of %s images have a label of a seen class", path.name, f"{seen.sum():,}", f"{len(images):,}")
    kept = np.flatnonzero(seen)
    return _Images(images[kept], labels.take(kept))


def merge(images: np.ndarray, sources: list[Labels], classes: int, path: Path) -> SparseLabels:
    """Merge labels to one per image and class: human +1 wins over human -1, which wins over machine +1.

    `images` (rows,) are the sorted ids, `sources` the human labels and, where wanted, the machine labels.
    """
    rank = {0: (2, 3), 1: (1, 1)}  # source -> rank of its -1 and of its +1; the highest of a pair counts
    # pair and rank share one integer, so that one sort in place puts the winner of each pair last
    parts = []
    for number, source in enumerate(sources):
        pair = np.searchsorted(images, source.image) * np.int64(classes) + source.column
        parts.append(pair * 4 + np.where(source.value > 0, rank[number][1], rank[number][0]))
    code = np.concatenate(parts) if len(parts) > 1 else parts[0]
    del parts, pair
    code.sort()
    last = np.ones(len(code), bool)
    last[:-1] = (code[1:] >> 2) != (code[:-1] >> 2)
    repeated = len(code) - int(last.sum())
    code = code[last]
    if repeated:
        LOG.info("%s: %s labels of the same image and class were merged, +1 before -1", path.name, f"{repeated:,}")
    pair = code >> 2
    counts = np.bincount(pair // classes, minlength=len(images))
    value = np.where(code & 3 == 2, -1, 1).astype(np.int8)
    return SparseLabels(np.concatenate([[0], np.cumsum(counts)]), (pair % classes).astype(np.int32), value)


def _boxes(spec: OpenImagesSpec, split: str, classes: OpenImagesClasses, whole: Rows, images: _Images) -> Rows:
    path = spec.official({"train": spec.train_boxes, "val": spec.val_boxes, "test": spec.test_boxes}[split])
    boxes = read_boxes(path, classes.mids)
    spec.expect(f"{split}_boxes", boxes.rows, path)
    row = np.minimum(np.searchsorted(images.id, boxes.image), len(images.id) - 1)
    known = images.id[row] == boxes.image
    # Rotation of the image lists is said to turn "the image and boxes": these are shares of the stored pixels
    return box_split(whole, ImageBoxes(row[known], boxes.column[known], boxes.corners[known], path), spec)


def _rows(images: _Images, pattern: str) -> Rows:
    ids = Texts(((id_texts(images.id), None),))
    folder, ending = pattern.split("{id}")
    folders = [folder.format(shard=digit) for digit in "0123456789abcdef"]
    first = (images.id >> np.uint64(60)).astype(np.uint8)  # the digit that names the folder, where there are several
    return whole_images(ids.affixed(folders, first, ending), ids, images.labels)


def _pattern(root: Path, split: str) -> str:
    """Return the pattern of image paths of a split below the images folder, by the folders that exist.

    The archives of CVDF unpack to train_0 ... train_f, by the first digit of the id; other layouts have one folder per
    split, or one folder for all images.
    """
    for folder in (root, root / split):
        if folder.is_dir() and any(re.fullmatch(rf"{split}_[0-9a-f]", path.name) for path in folder.iterdir()):
            return f"{split}/{split}_{{shard}}/{{id}}.jpg" if folder != root else f"{split}_{{shard}}/{{id}}.jpg"
    return f"{split}/{{id}}.jpg" if (root / split).is_dir() else "{id}.jpg"


def _unvectored(classes: OpenImagesClasses) -> Classes:
    seen = len(classes.seen)
    return unvectored(classes.names[:seen], classes.names[seen:])


def _counts(split: str, labels: Labels) -> dict[str, int]:
    return {
        f"{split}_labels": labels.rows,
        f"{split}_positives": labels.positives,
        f"{split}_negatives": labels.negatives,
    }


def _list_path(spec: OpenImagesSpec, split: str) -> Path:
    return spec.root / {"val": spec.val_list, "test": spec.test_list}[split]


def _image_list(spec: OpenImagesSpec, split: str) -> np.ndarray:
    """Return the listed images of val and test; some have no label, but count in F1. Without the list, return none."""
    if split == "train":
        return np.empty(0, np.uint64)
    path = _list_path(spec, split)
    if not path.is_file():
        LOG.warning("%s does not exist: the rows of %s are the images of its label file", path, split)
        return np.empty(0, np.uint64)
    return read_images(path)


def _label_file(spec: OpenImagesSpec, split: str) -> Path:
    return spec.official({"train": spec.train_human, "val": spec.val_human, "test": spec.test_human}[split])
