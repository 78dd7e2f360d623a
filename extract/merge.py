"""Join stores into one (`c3 merge`). Shards that fit are taken over as files, never computed again."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ..common.errors import C3Error
from ..common.parsing import to_json
from ..common.progress import progress
from .store.cache import FeatureCache
from .store.origin import FeatureOrigin, differing_settings
from .store.tables import UNKNOWN_PATH, Classes, Rows
from .store.texts import Texts

LOG = logging.getLogger(__name__)


def merge(paths: Sequence[str | Path], out: str | Path) -> str:
    """Join stores into a new one and return a summary.

    Stores of the same rows (the parts of one extraction) give their finished shards; stores of different rows follow
    each other split by split. They must agree in everything else that decides values.
    """
    stores = [FeatureCache.open(path) for path in paths]
    first = stores[0]
    for other in stores[1:]:
        require_kin(first, other.origin, other.classes, other.location)
        if first.layout != other.layout:
            differing = "; ".join(
                f"{field.name.replace('_', ' ')} {getattr(first.layout, field.name)} and "
                f"{getattr(other.layout, field.name)}"
                for field in fields(first.layout)
                if getattr(first.layout, field.name) != getattr(other.layout, field.name)
            )
            raise C3Error(
                f"{first.location} and {other.location} are laid out differently: {differing}; extract one of them "
                "again with the options of the other"
            )
    parts = all(store.digest == first.digest for store in stores)
    giving = stores[:1] if parts else stores
    sources = {name: [store for store in giving if name in store.splits] for one in stores for name in one.splits}
    if not parts:
        _require_disjoint(sources)
        _require_aligned(sources)
    origins, root = [store.origin for store in stores], common_root(store.provenance.image_root for store in stores)
    merged = FeatureCache.create(
        out,
        origin=first.origin if parts else replace(first.origin, manifest_sha256=joined_digest(origins)),
        provenance=replace(first.provenance, image_root=root, merged=tuple(store.provenance for store in stores)),
        notes=first.notes,
        levels=first.arrays,
        classes=first.classes,
        splits={
            name: Rows.join([rebased(store.table(name), store.provenance.image_root, root) for store in members])
            for name, members in sources.items()
        },
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


def common_root(roots: Iterable[str | None]) -> str | None:
    """Return the deepest folder that holds the images below all roots; None when no root is known."""
    known = {root for root in roots if root}
    return os.path.commonpath(known) if known else None


def rebased(rows: Rows, own: str | None, root: str | None) -> Rows:
    """Return rows whose paths are relative to `own` with paths relative to `root`, a folder above it."""
    if root is None or own is None or own == root:
        return rows
    inside = Path(own).relative_to(root).as_posix()
    paths = np.asarray(rows.path)
    return replace(rows, path=Texts.of(np.where(paths == UNKNOWN_PATH, paths, np.strings.add(f"{inside}/", paths))))


def _done(store: FeatureCache, name: str, rows: range) -> bool:
    size = store.layout.shard_rows
    return all(store.is_done(name, shard) for shard in range(rows.start // size, (rows.stop - 1) // size + 1))


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
    """Refuse int8 rows that would fall into other shards, whose steps would round them a second time."""
    for name, members in sources.items():
        for before, after in pairwise(members):
            if before.layout.dtype == "int8" and before.rows(name) % before.layout.shard_rows:
                raise C3Error(
                    f"{before.location} ends inside a shard of {name} ({before.rows(name)} rows, shards of "
                    f"{before.layout.shard_rows}), so that int8 rows of {after.location} cannot follow unchanged; "
                    "extract with --append instead, or merge float16 stores"
                )


def require_kin(store: FeatureCache, origin: FeatureOrigin, classes: Classes, other: str) -> None:
    """Refuse rows that were made in another way, or that mean other classes."""
    same_rows = replace(origin, manifest_sha256=store.origin.manifest_sha256)
    differing = differing_settings(to_json(store.origin), to_json(same_rows))
    if differing:
        raise C3Error(f"{store.location} and {other} do not fit: {'; '.join(differing.values())}")
    own = store.classes
    if own.names != classes.names or not (
        np.array_equal(own.seen, classes.seen) and np.array_equal(own.vectors, classes.vectors)
    ):
        raise C3Error(f"{store.location} and {other} do not fit: their classes or word vectors differ")


def joined_digest(origins: Sequence[FeatureOrigin]) -> str:
    """Return the digest that stands for the manifest of rows from several origins."""
    return hashlib.sha256("+".join(origin.manifest_sha256 for origin in origins).encode()).hexdigest()
