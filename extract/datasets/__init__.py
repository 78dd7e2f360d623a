"""Readers of official files: each takes a DatasetSpec and gives a Manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ...errors import C3Error, unknown_name
from ..catalog import DatasetSpec, VectorSpec
from ..cropping import BOXES, crop_manifest
from ..leaks import near_duplicates
from ..manifest import Manifest, ReadOptions
from ..rows import Classes
from ..wordvectors import Coverage, class_vectors, join_vectors
from .boxes import BoxOptions
from .coco import SETTINGS as COCO_SETTINGS
from .coco import coco_classes, coco_counts, coco_manifest
from .demo import write_demo
from .nuswide import SETTINGS as NUSWIDE_SETTINGS
from .nuswide import nuswide_classes, nuswide_counts, nuswide_manifest
from .openimages import SETTINGS as OPENIMAGES_SETTINGS
from .openimages import openimages_classes, openimages_counts, openimages_manifest
from .table import table_classes, table_manifest


def demo_manifest(spec: DatasetSpec, options: ReadOptions) -> Manifest:
    """Draw the demo data set where it is not there yet, then read it as the table that it is."""
    write_demo(spec.root)
    return table_manifest(spec, options)


@dataclass(frozen=True)
class Kind:
    """How a kind of data set is read: its rows, its classes alone, and the official counts that can be checked.

    `settings` are the settings of a catalog entry that the kind understands, beside COMMON. `classes` gives the classes
    and the keys that their vectors may be filed under. `boxes` and `machine_labels` say what it has.
    """

    settings: tuple[str, ...]
    manifest: Callable[[DatasetSpec, ReadOptions], Manifest]
    classes: Callable[[DatasetSpec], tuple[Classes, tuple[str, ...]]]
    counts: Callable[[DatasetSpec], dict[str, int]] | None = None
    boxes: bool = False
    machine_labels: bool = False


COMMON = ("images", "image_urls", "leak_cosine")
TABLE_SETTINGS = ("table", "classes", "unseen")
BOX_SETTINGS = tuple(BoxOptions.__dataclass_fields__)
KINDS: dict[str, Kind] = {
    "table": Kind(TABLE_SETTINGS, table_manifest, table_classes),
    "demo": Kind(TABLE_SETTINGS, demo_manifest, table_classes),
    "nuswide": Kind(NUSWIDE_SETTINGS, nuswide_manifest, lambda spec: (nuswide_classes(spec), ()), nuswide_counts),
    "openimages": Kind(
        (*OPENIMAGES_SETTINGS, *BOX_SETTINGS), openimages_manifest, openimages_classes, openimages_counts,
        boxes=True, machine_labels=True,
    ),
    "coco": Kind(
        (*COCO_SETTINGS, *BOX_SETTINGS), coco_manifest, lambda spec: (coco_classes(spec), ()), coco_counts, boxes=True
    ),
}  # fmt: skip


def kind_of(spec: DatasetSpec) -> Kind:
    """The reader of a data set's kind; an unknown kind, or a setting that it does not have, is refused."""
    if spec.kind not in KINDS:
        raise C3Error(
            f"data set {spec.name}: this c3 has no reader for kind {spec.kind!r}, only for {', '.join(KINDS)}. "
            "Write its labels as a table: docs/own-data.md"
        )
    known = (*COMMON, *KINDS[spec.kind].settings)
    for setting in spec.options:
        if setting not in known:
            raise unknown_name(f"setting of data set {spec.name} ({spec.kind}) in {spec.catalog}:", setting, known)
    return KINDS[spec.kind]


def read_manifest(spec: DatasetSpec, options: ReadOptions = ReadOptions()) -> Manifest:
    """Read a data set's files into a Manifest: rows, then word vectors, then crops.

    Raises C3Error naming file and line for whatever is missing, damaged or contradicts itself.
    """
    kind = kind_of(spec)
    if options.crops == BOXES and not kind.boxes:
        raise C3Error(f"data set {spec.name} has no boxes; choose another --crops")
    if options.label_source != "human" and not kind.machine_labels:
        raise C3Error(f"data set {spec.name} has no machine labels; leave out --label-source")
    manifest = kind.manifest(spec, options)
    manifest = join_vectors(manifest, _vectors(spec), options.drop_unknown_classes)
    manifest = replace(manifest, notes=manifest.notes | class_notes(spec, manifest.classes))
    return crop_manifest(manifest, options.crops)


def class_notes(spec: DatasetSpec, classes: Classes) -> dict[str, Any]:
    """What the evaluator may want to know about classes: near duplicates, where the entry has a `leak_cosine`."""
    cosine = spec.options.get("leak_cosine")
    return {} if cosine is None else {"leaks": near_duplicates(classes, float(cosine))}


def joined_classes(spec: DatasetSpec) -> Classes:
    """The classes of a data set with their vectors; reads no labels and no image."""
    classes, keys = kind_of(spec).classes(spec)
    bare = Manifest(spec.name, spec.root, spec.labelling, classes, splits={}, class_keys=keys)
    return join_vectors(bare, _vectors(spec)).classes


def vector_coverage(spec: DatasetSpec) -> Coverage:
    """Which classes of a data set have a word vector; reads the class lists and the vectors, no labels and no image."""
    classes, keys = kind_of(spec).classes(spec)
    return class_vectors(classes.names, _vectors(spec), keys)[1]


def _vectors(spec: DatasetSpec) -> VectorSpec:
    if spec.vectors is None:
        raise C3Error(
            f"data set {spec.name} in {spec.catalog}: the setting 'vectors' is missing (a name of the section vectors)"
        )
    return spec.vectors
