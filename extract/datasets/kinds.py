"""The reader of every kind of data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..catalog.specs import CocoSpec, DatasetSpec, NusWideSpec, OpenImagesSpec, TableSpec
from ..store.tables import Classes
from .coco import coco_classes, coco_counts, coco_manifest
from .demo.data_set import write_demo
from .manifest import Manifest, ReadOptions
from .nuswide import nuswide_classes, nuswide_counts, nuswide_manifest
from .openimages import openimages_classes, openimages_counts, openimages_manifest
from .table import table_classes, table_counts, table_manifest


@dataclass(frozen=True)
class Reader:
    """How a data set is read: its rows, its classes alone, and the official counts that can be checked.

    `classes` returns the classes without vectors, and other names under which their vectors may be filed: one a class,
    or none at all. `boxes` and `machine_labels` say what the data set has.
    """

    manifest: Callable[[ReadOptions], Manifest]
    classes: Callable[[], tuple[Classes, tuple[str, ...]]]
    counts: Callable[[], dict[str, int]] = dict
    boxes: bool = False
    machine_labels: bool = False


def reader_of(spec: DatasetSpec) -> Reader:
    """Return the reader of a data set; its kind is known, for the catalog refuses others."""
    match spec:
        case TableSpec(kind="demo"):
            return Reader(partial(_demo_manifest, spec), partial(table_classes, spec))
        case TableSpec():
            return Reader(partial(table_manifest, spec), partial(table_classes, spec), partial(table_counts, spec))
        case NusWideSpec():
            return Reader(
                partial(nuswide_manifest, spec), lambda: (nuswide_classes(spec), ()), partial(nuswide_counts, spec)
            )
        case OpenImagesSpec():
            return Reader(
                partial(openimages_manifest, spec), partial(openimages_classes, spec), partial(openimages_counts, spec),
                boxes=True, machine_labels=True,
            )  # fmt: skip
        case CocoSpec():
            return Reader(
                partial(coco_manifest, spec), lambda: (coco_classes(spec), ()), partial(coco_counts, spec), boxes=True
            )
    raise TypeError(f"no reader for {type(spec).__name__}")


def _demo_manifest(spec: TableSpec, options: ReadOptions) -> Manifest:
    """Draw the demo data set where it does not exist yet, then read it as the table that it is."""
    write_demo(spec.root)
    return table_manifest(spec, options)
