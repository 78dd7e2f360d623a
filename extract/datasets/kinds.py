"""The kinds of data sets, and how each is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...common.errors import C3Error, unknown_name
from ..catalog.specs import DatasetSpec
from ..store.tables import Classes
from .boxes import BoxOptions
from .coco import SETTINGS as COCO_SETTINGS
from .coco import coco_classes, coco_counts, coco_manifest
from .demo.data_set import write_demo
from .manifest import Manifest, ReadOptions
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
