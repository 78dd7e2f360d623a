"""FRONT DOOR of `c3 revector`: a store with other class vectors, of the same maps. No image is needed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..common.errors import C3Error
from ..common.progress import progress
from .catalog.catalog import Catalog, vectors_of
from .store.cache import FeatureCache
from .store.tables import Classes
from .words.class_vectors import class_vectors
from .words.tower_files import origin_of


def revector(path: str | Path, vectors: str, out: str | Path, catalog: Path | None = None) -> str:
    """Make a store at `out` with the rows and maps of the one at `path` and other class vectors; return a summary.

    `vectors` is a name of the catalog or a file. Shards are taken over as files, by links where the disk has them. The
    leaks that the store notes stay: they are facts about names. The same call continues one that was stopped. Raises
    C3Error for a store that is not complete, and for classes without a vector.
    """
    store = FeatureCache.open(path)
    store.require_complete()
    spec = vectors_of(vectors, Catalog(catalog))
    own = store.classes
    found, coverage = class_vectors(own.names, spec)
    if coverage.missing:
        raise C3Error(
            f"{len(coverage.missing)} of {len(own)} classes have no vector in {spec.path}: "
            f"{', '.join(coverage.missing)}{coverage.zeros_note}; add them, for a store keeps all its classes"
        )
    origin = replace(store.origin, manifest_sha256=_digest(store.origin.manifest_sha256, found))
    made = FeatureCache.begun(out, origin) or FeatureCache.create(
        out,
        origin=origin,
        provenance=store.provenance,
        notes=replace(store.notes, vectors=origin_of(spec.path)),
        levels=store.arrays,
        classes=Classes(own.names, own.seen, found),
        splits={split: store.table(split) for split in store.splits},
        layout=store.layout,
    )
    shards = [(split, shard) for split in store.splits for shard in made.pending(split)]
    with progress("revector", len(shards), "shards") as bar:
        for split, shard in shards:
            made.adopt_shard(split, shard, store, shard)
            bar.advance(1)
    return f"{out} has the maps of {path} and vectors of {found.shape[1]} numbers; {coverage.lines()[0]}"


def _digest(rows: str, vectors: np.ndarray) -> str:
    """Return the digest that stands for known rows and labels with other vectors (classes, d_w)."""
    return hashlib.sha256(rows.encode() + np.ascontiguousarray(vectors, "<f4").tobytes()).hexdigest()
