"""Read the data set of a catalog entry into a Manifest: rows, word vectors, crops."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from ...common.errors import C3Error
from ..backbone.pictures.crop_policies import BOXES
from ..catalog.specs import DatasetSpec, VectorSpec
from ..store.tables import Classes
from ..words.class_vectors import Coverage, class_vectors
from ..words.near_duplicates import near_duplicates
from ..words.tower_files import origin_of
from .kinds import reader_of
from .label_sources import HUMAN
from .manifest import Manifest, ReadOptions, crop_manifest

LOG = logging.getLogger(__name__)


def read_manifest(spec: DatasetSpec, options: ReadOptions = ReadOptions(), report: bool = True) -> Manifest:
    """Read the files of a data set into a Manifest: rows, then word vectors, then crops.

    With `report` the log says which vectors were found. Raises C3Error naming file and line for what is missing,
    damaged or contradictory.
    """
    reader = reader_of(spec)
    if options.crops == BOXES and not reader.boxes:
        raise C3Error(f"data set {spec.name} has no boxes; choose another --crops")
    if options.label_source != HUMAN and not reader.machine_labels:
        raise C3Error(f"data set {spec.name} has no machine labels; leave out --label-source")
    manifest = reader.manifest(options)
    manifest = join_vectors(manifest, _vectors(spec), options.drop_unknown_classes, report)
    notes = replace(manifest.notes, leaks=leaks(spec, manifest.classes), vectors=origin_of(_vectors(spec).path))
    manifest = replace(manifest, notes=notes)
    return crop_manifest(manifest, options.crops)


def leaks(spec: DatasetSpec, classes: Classes) -> dict[str, list[str]] | None:
    """Return unseen class -> nearly equal seen classes; None where the catalog's entry has no `leak_cosine`."""
    return None if spec.leak_cosine is None else near_duplicates(classes, spec.leak_cosine)


def joined_classes(spec: DatasetSpec) -> Classes:
    """Return the classes of a data set with their vectors; reads no labels and no image."""
    classes, keys = reader_of(spec).classes()
    bare = Manifest(spec.name, spec.root, spec.labelling, classes, splits={}, class_keys=keys)
    return join_vectors(bare, _vectors(spec)).classes


def vector_coverage(spec: DatasetSpec) -> Coverage:
    """Look up the word vectors of the classes of a data set; reads no image, and no labels but those of a table."""
    classes, keys = reader_of(spec).classes()
    return class_vectors(classes.names, _vectors(spec), keys)[1]


def _vectors(spec: DatasetSpec) -> VectorSpec:
    if spec.vectors is None:
        raise C3Error(
            f"catalog {spec.catalog}: datasets.{spec.name}: the setting 'vectors' is missing (a name of the section "
            "`vectors`)"
        )
    return spec.vectors


def join_vectors(manifest: Manifest, spec: VectorSpec, drop_unknown: bool = False, report: bool = True) -> Manifest:
    """Give the classes of a manifest their vectors; with `drop_unknown`, drop classes without one, and their labels.

    Raises C3Error listing the classes without a vector otherwise.
    """
    names = manifest.classes.names
    vectors, coverage = class_vectors(names, spec, manifest.class_keys)
    if coverage.missing and (not drop_unknown or len(coverage.missing) == len(names)):
        raise C3Error(
            f"{len(coverage.missing)} of {len(names)} classes have no vector in {spec.path}: "
            f"{', '.join(coverage.missing)}{coverage.zeros_note}. Add their words to the vectors file, or leave these "
            "classes out with --drop-unknown-classes of c3 extract"
        )
    if report:
        summary, *findings = coverage.lines()
        LOG.info("%s: %s", spec.name, summary)
        for finding in findings:
            LOG.warning("%s: %s", spec.name, finding)
    joined = replace(manifest, classes=Classes(names, manifest.classes.seen, vectors))
    if not coverage.missing:
        return joined
    return joined.keep_classes(~np.isnan(vectors[:, 0]))
