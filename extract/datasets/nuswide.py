"""Read NUS-WIDE from its official text files: Flickr tags for 925 seen classes, human labels for the 81 concepts."""

from __future__ import annotations

import hashlib

import numpy as np

from ...common.errors import C3Error
from ...common.text_files import class_list
from ..catalog.specs import NusWideSpec
from ..store.tables import Classes, Rows, SparseLabels
from .manifest import Manifest, ReadOptions, unvectored, whole_images
from .nuswide_labels import NusWideLabels, Positives


def nuswide_classes(spec: NusWideSpec) -> Classes:
    """Return 925 seen tags in the order of TagList1k, then the 81 unseen concepts.

    The seen tags are TagList1k without the 75 words that are also concepts. With `classes: concepts` the classes are
    the 81 concepts, all seen.
    """
    concepts = _concepts(spec)
    if _concepts_only(spec):
        return unvectored(concepts)
    seen = [tag for tag in _tags(spec) if tag not in set(concepts)]
    return unvectored(seen, concepts)


def nuswide_manifest(spec: NusWideSpec, _: ReadOptions) -> Manifest:
    """Read the image lists, the tags and the human labels of the official folders into rows sorted by image path.

    Labels are complete: a label that is not given is negative. `validation: N` in the catalog entry moves the N images
    of train whose paths have the smallest sha256 into a split `val`. Raises C3Error naming file and line.
    """
    classes = nuswide_classes(spec)
    labels = NusWideLabels(spec)
    concepts = _concepts(spec)
    index = {name: c for c, name in enumerate(classes.names)}
    tables = [labels.concepts(concepts, np.array([index[name] for name in concepts]))]
    if not _concepts_only(spec):
        # the labels of a tag that is also a concept come from the human annotation
        column = [-1 if tag in set(concepts) else index[tag] for tag in _tags(spec)]
        tables.append(labels.tags(np.array(column)))
    held_out = _validation(labels.images["train"], spec)
    splits = {}
    for split, official in (("train", "train"), ("val", "train"), ("test", "test")):
        images = labels.images[official]
        chosen = np.array([(image in held_out) == (split == "val") for image in images], bool)
        if chosen.any():
            splits[split] = _split(images, chosen, Positives.join(table[official] for table in tables))
    return Manifest(spec.name, spec.images_root, spec.labelling, classes, splits)


def nuswide_counts(spec: NusWideSpec) -> dict[str, int]:
    """Count what the official lists hold, under the names of the catalog's `counts`."""
    classes, labels = nuswide_classes(spec), NusWideLabels(spec)
    counts = {f"{split}_images": len(images) for split, images in labels.images.items()}
    counts |= {"concepts": len(_concepts(spec)), "label_files": sum(1 for _ in labels.folder.glob("Labels_*.txt"))}
    if not _concepts_only(spec):
        counts |= {"tags": len(_tags(spec)), "overlap": len(_tags(spec)) - int(classes.seen.sum())}
    return counts | {"seen": int(classes.seen.sum()), "unseen": int((~classes.seen).sum())}


def _split(images: list[str], chosen: np.ndarray, positives: Positives) -> Rows:
    kept = np.flatnonzero(chosen)
    paths = np.array([images[row] for row in kept], dtype=object)
    order = np.argsort(paths, kind="stable")
    rank = np.full(len(images), -1)
    rank[kept[order]] = np.arange(len(kept))
    row = rank[positives.row]
    inside = row >= 0
    value = np.ones(int(inside.sum()), np.int8)
    labels = SparseLabels.from_pairs(len(kept), row[inside], positives.column[inside], value)
    return whole_images(paths[order].tolist(), paths[order].tolist(), labels)


def _validation(images: list[str], spec: NusWideSpec) -> set[str]:
    if spec.validation >= len(images):
        raise C3Error(
            f"data set {spec.name} in {spec.catalog}: validation must be less than the {len(images):,} images of "
            f"train, found {spec.validation:,}"
        )
    return set(sorted(images, key=lambda image: hashlib.sha256(image.encode()).digest())[: spec.validation])


def _concepts_only(spec: NusWideSpec) -> bool:
    return spec.classes == "concepts"


def _concepts(spec: NusWideSpec) -> list[str]:
    return class_list(spec.official(spec.concepts))


def _tags(spec: NusWideSpec) -> list[str]:
    return class_list(spec.official(spec.tags))
