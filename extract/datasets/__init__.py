"""Readers of official files: each takes a DatasetSpec and gives a Manifest."""

from __future__ import annotations

from collections.abc import Callable

from ...errors import C3Error
from ..catalog import DatasetSpec
from ..manifest import Manifest
from .demo import write_demo
from .table import table_manifest


def demo_manifest(spec: DatasetSpec) -> Manifest:
    """Draw the demo data set where it is not there yet, then read it as the table that it is."""
    write_demo(spec.root)
    return table_manifest(spec)


READERS: dict[str, Callable[[DatasetSpec], Manifest]] = {
    "table": table_manifest,
    "demo": demo_manifest,
}


def read_manifest(spec: DatasetSpec) -> Manifest:
    """Read the data set's files into a Manifest."""
    if spec.kind not in READERS:
        raise C3Error(
            f"data set {spec.name}: this c3 has no reader for kind {spec.kind!r}, only for {', '.join(READERS)}. "
            "Write its labels as a table: docs/own-data.md"
        )
    return READERS[spec.kind](spec)
