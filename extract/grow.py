"""Stores out of stores: rows added to one (`--append`), several joined into one (`c3 merge`).

Finished shards are taken over as files, never computed or packed again where they fit.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..errors import C3Error
from ..progress import progress
from .cache import Classes, FeatureCache, Rows, SparseLabels, differing_settings
from .manifest import Manifest, Split
from .request import Request
from .skeleton import replace_store, scratch_of
from .storage import LocalStorage

LOG = logging.getLogger("c3")
UNKNOWN = ""  # the path of a row that the data set at hand does not have


# -- append ------------------------------------------------------------------------------------------------------------


def append(request: Request) -> tuple[Request, FeatureCache]:
    """Add the rows and splits of a request that a store does not have yet, behind those that it has.

    Returns the request with its rows in the order of the grown store, and that store. Finished shards stay; the last
    shard of a split that grows is pending when it was not full. Nothing changes when there is nothing to add.
    """
    cache = FeatureCache.open(request.options.out, mode="r+")
    manifest = request.manifest
    _require_kin(cache, request.config(), manifest.classes, "this request")
    splits = {name: _aligned(cache, name, manifest) for name in cache.splits}
    splits |= {name: split for name, split in manifest.splits.items() if name not in splits}
    request = replace(request, manifest=replace(manifest, splits=splits))
    if all(name in cache.splits and len(split) == cache.rows(name) for name, split in splits.items()):
        return request, cache
    if not isinstance(cache.storage, LocalStorage):
        raise C3Error(f"{cache.location}: --append works on stores of this file system; elsewhere use c3 merge")
    cache.require_complete()

    scratch = scratch_of(cache.storage)
    config = cache.config | {"manifest_sha256": _joined_digest([cache.config, request.config()])}
    provenance = cache.attrs["provenance"] | {"request": request.options.record() | {"append": True}}
    try:
        grown = FeatureCache.create(
            scratch.path,
            config=config,
            provenance=provenance,
            notes=cache.attrs["notes"],
            levels=cache.arrays,
            classes=cache.classes,
            splits={name: split.rows for name, split in splits.items()},
            layout=cache.layout,
        )
        for name in cache.splits:
            for shard in range(cache.shards(name)):
                if cache.shard_rows(name, shard) == grown.shard_rows(name, shard):
                    grown.adopt_shard(name, shard, cache, shard)
        replace_store(cache.storage, LocalStorage(scratch.path))
    finally:
        scratch.delete_folder("")
    added = {name: len(split) - (cache.rows(name) if name in cache.splits else 0) for name, split in splits.items()}
    LOG.info("%s grows by %s", cache.location, ", ".join(f"{n} rows of {name}" for name, n in added.items() if n))
    return request, FeatureCache.open(request.options.out, mode="r+")


def _aligned(cache: FeatureCache, name: str, manifest: Manifest) -> Split:
    """The rows of a split of a store, then those of the data set that it lacks. Old rows must be as they were."""
    old = cache.table(name)
    if name not in manifest.splits:
        return Split(old, np.full(len(old), UNKNOWN))
    new = manifest.splits[name]
    place = {key: row for row, key in enumerate(_keys(new.rows))}
    found = np.array([place.get(key, -1) for key in _keys(old)], dtype=np.int64)
    missing = np.flatnonzero(found < 0)
    if len(missing):
        raise C3Error(
            f"{cache.location}: {len(missing)} rows of {name} are not in the data set any more, first image "
            f"{old.image_id[missing[0]]}; --append only adds"
        )
    kept = new.rows.labels.take(found)
    if not all(
        np.array_equal(getattr(kept, part), getattr(old.labels, part)) for part in ("indptr", "indices", "value")
    ):
        raise C3Error(f"{cache.location}: labels of {name} have changed since it was made; --append only adds")
    added = np.setdiff1d(np.arange(len(new)), found)
    order = np.concatenate([found, added])
    rows = Rows(new.rows.image_id[order], new.rows.crop[order], new.rows.labels.take(order))
    return Split(rows, new.path[order])


def _keys(rows: Rows) -> Iterator[tuple[str, bytes]]:
    crops = np.ascontiguousarray(rows.crop, np.float32)
    return ((image, crop.tobytes()) for image, crop in zip(rows.image_id.tolist(), crops, strict=True))


# -- merge -------------------------------------------------------------------------------------------------------------


def merge(paths: Sequence[str | Path], out: str | Path) -> str:
    """Join stores into a new one and return a summary.

    Stores of the same rows (the parts of one extraction) give their finished shards; stores of different rows follow
    each other split by split. They must agree in everything else that decides values.
    """
    stores = [FeatureCache.open(path) for path in paths]
    first = stores[0]
    for other in stores[1:]:
        _require_kin(first, other.config, other.classes, other.location)
        if first.layout != other.layout:
            raise C3Error(f"{first.location} has {first.layout}, {other.location} has {other.layout}; they must agree")
    parts = all(store.digest == first.digest for store in stores)
    sources = {name: _sources(stores[:1] if parts else stores, name) for store in stores for name in store.splits}
    if not parts:
        _require_disjoint(sources)
        _require_aligned(sources)
    merged = FeatureCache.create(
        out,
        config=first.config
        | ({} if parts else {"manifest_sha256": _joined_digest([store.config for store in stores])}),
        provenance=first.attrs["provenance"] | {"merged": [store.attrs["provenance"] for store in stores]},
        notes=first.attrs["notes"],
        levels=first.arrays,
        classes=first.classes,
        splits={name: _concatenated([store.table(name) for store in members]) for name, members in sources.items()},
        layout=first.layout,
    )
    total = sum(merged.shards(name) for name in merged.splits)
    with progress("merge", total, "shards") as bar:
        for name, members in sources.items():
            for shard in range(merged.shards(name)):
                _take_shard(merged, name, shard, stores if parts else members, parts)
                bar.advance(1)
    pending = sum(len(merged.pending(name)) for name in merged.splits)
    rows = ", ".join(f"{name} {merged.rows(name):,}" for name in merged.splits)
    return f"{out} holds {rows} rows of {len(stores)} stores; {pending} of {total} shards pending"


def _take_shard(merged: FeatureCache, name: str, shard: int, stores: Sequence[FeatureCache], parts: bool) -> None:
    if parts:
        for store in stores:
            if store.is_done(name, shard):
                merged.adopt_shard(name, shard, store, shard)
                return
        return
    rows = merged.shard_rows(name, shard)
    pieces, start = [], 0
    for store in stores:
        stop = start + store.rows(name)
        inside = range(max(rows.start, start) - start, min(rows.stop, stop) - start)
        if len(inside):
            pieces.append((store, inside))
        start = stop
    size = merged.layout.shard_rows
    store, inside = pieces[0]
    if any(not _done(store, name, inside) for store, inside in pieces):
        return  # a row of it is not extracted yet: the shard stays pending
    if len(pieces) == 1 and inside.start % size == 0 and inside == store.shard_rows(name, inside.start // size):
        merged.adopt_shard(name, shard, store, inside.start // size)
        return
    maps = {
        array.name: np.concatenate([store.read(name, array.name, part.start, part.stop) for store, part in pieces])
        for array in merged.arrays
    }
    status = np.concatenate([store.status(name, part) for store, part in pieces])
    merged.write_shard(name, shard, maps, status)


def _done(store: FeatureCache, name: str, rows: range) -> bool:
    size = store.layout.shard_rows
    return all(store.is_done(name, shard) for shard in range(rows.start // size, (rows.stop - 1) // size + 1))


def _sources(stores: Sequence[FeatureCache], name: str) -> list[FeatureCache]:
    return [store for store in stores if name in store.splits]


def _require_disjoint(sources: Mapping[str, list[FeatureCache]]) -> None:
    for name, members in sources.items():
        seen: dict[str, str] = {}
        for store in members:
            for image in np.unique(store.image_ids(name)).tolist():
                if seen.setdefault(image, store.location) != store.location:
                    raise C3Error(
                        f"image {image} of {name} is in {seen[image]} and in {store.location}; merge adds rows"
                    )


def _require_aligned(sources: Mapping[str, list[FeatureCache]]) -> None:
    """int8 shards have steps of their own: their rows cannot be dealt into other shards without a second rounding."""
    for name, members in sources.items():
        for before, after in pairwise(members):
            if before.layout.dtype == "int8" and before.rows(name) % before.layout.shard_rows:
                raise C3Error(
                    f"{before.location} ends inside a shard of {name} ({before.rows(name)} rows, shards of "
                    f"{before.layout.shard_rows}), so that int8 rows of {after.location} cannot follow unchanged; "
                    "extract with --append instead, or merge float16 stores"
                )


def _concatenated(tables: Sequence[Rows]) -> Rows:
    return Rows(
        np.concatenate([table.image_id for table in tables]),
        np.concatenate([table.crop for table in tables]),
        SparseLabels.join([table.labels for table in tables]),
    )


def _require_kin(store: FeatureCache, config: Mapping[str, object], classes: Classes, other: str) -> None:
    """Refuse rows that were made in another way, or that mean other classes."""
    differing = {
        key: said for key, said in differing_settings(store.config, config).items() if key != "manifest_sha256"
    }
    if differing:
        raise C3Error(f"{store.location} and {other} do not fit: {'; '.join(differing.values())}")
    own = store.classes
    if own.names != classes.names or not (
        np.array_equal(own.seen, classes.seen) and np.array_equal(own.vectors, classes.vectors)
    ):
        raise C3Error(f"{store.location} and {other} do not fit: their classes or word vectors differ")


def _joined_digest(configs: Sequence[Mapping[str, object]]) -> str:
    """What stands for the manifest of rows that came from several."""
    return hashlib.sha256("+".join(str(config["manifest_sha256"]) for config in configs).encode()).hexdigest()
