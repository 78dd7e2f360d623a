"""The rows of a store and those of a data set: the same rows, perhaps with more behind them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..common.errors import C3Error
from ..common.unicode_forms import nfc
from .datasets.manifest import Manifest
from .store.cache import FeatureCache
from .store.tables import Rows


def aligned(cache: FeatureCache, name: str, manifest: Manifest) -> Rows:
    """Return the rows of a split of a store, then those that only the data set has; paths are those of the data set.

    A row is known by its image and crop. Raises C3Error when an old row is not in the data set, or has other labels.
    """
    old = cache.table(name)
    if name not in manifest.splits:
        return old
    new = manifest.splits[name]
    place = {key: row for row, key in enumerate(_keys(new))}
    found = np.array([place.get(key, -1) for key in _keys(old)], dtype=np.int64)
    missing = np.flatnonzero(found < 0)
    if len(missing):
        raise C3Error(
            f"{cache.location}: {len(missing)} rows of {name} are not in the data set any more, first image "
            f"{old.image_id[missing[0]]}; --append only adds"
        )
    kept = new.labels.take(found)
    if not all(
        np.array_equal(getattr(kept, part), getattr(old.labels, part)) for part in ("indptr", "indices", "value")
    ):
        raise C3Error(f"{cache.location}: labels of {name} have changed since it was made; --append only adds")
    added = np.setdiff1d(np.arange(len(new)), found)
    return new.take(np.concatenate([found, added]))


def _keys(rows: Rows) -> Iterator[tuple[str, bytes]]:
    crops = np.ascontiguousarray(rows.crop, np.float32)
    return ((nfc(image), crop.tobytes()) for image, crop in zip(rows.image_id.tolist(), crops, strict=True))
