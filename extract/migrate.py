"""FRONT DOOR of `c3 migrate`: a store of an older version is brought to the present one, in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..common.errors import C3Error
from .remake import manifest_of, paths_in
from .store.attributes import SCHEMA
from .store.cache import FeatureCache
from .store.migrate import MARKER, finish_migration, migrate_store
from .store.tables import UNKNOWN_PATH, unknown_paths

NEEDED = "c3 verify --repair, c3 inspect --check-images and pictures in reports need the data set as before"


def migrate(path: str | Path, catalog: Path | None = None) -> str:
    """Bring a store to the present version and return a summary; the maps and the digest of the content stay.

    The paths of the images come from the data set that the store names, read again from its own catalog or from
    `catalog`. A killed migration is finished by the next. Raises C3Error when the store cannot be written.
    """
    cache = FeatureCache.open(path, mode="r+")
    if cache.schema == SCHEMA:
        if MARKER in cache.storage.names(""):
            finish_migration(cache.storage, cache.attributes)
        unknown = sum(int((cache.image_paths(split) == UNKNOWN_PATH).sum()) for split in cache.splits)
        left = f". The paths of {unknown:,} rows stay unknown: {NEEDED}" if unknown and cache.provenance.request else ""
        return f"{path} has schema {SCHEMA} already; there is nothing to do{left}"
    paths, said = _paths(cache, catalog)
    migrate_store(cache.storage, cache.attributes, paths)
    return f"{path} has schema {SCHEMA} now: {said}. No map was touched; digest {cache.digest} as before"


def _paths(cache: FeatureCache, catalog: Path | None) -> tuple[dict[str, np.ndarray], str]:
    """Return the paths of all rows and what to say of them."""
    rows = sum(cache.rows(split) for split in cache.splits)
    try:
        paths = paths_in(cache, manifest_of(cache, catalog))
    except C3Error as error:
        unknown = {split: unknown_paths(cache.rows(split)) for split in cache.splits}
        return unknown, (
            f"its arrays name their dimensions. The paths of its {rows:,} rows stay unknown ({error}): {NEEDED}"
        )
    known = sum(int((table != "").sum()) for table in paths.values())
    return paths, f"its arrays name their dimensions, and {known:,} of {rows:,} rows the path of their image"
