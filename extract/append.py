"""Add rows to an existing store (`--append`): finished shards are taken over as files."""

from __future__ import annotations

import logging
from dataclasses import replace

from ..common.errors import C3Error
from ..common.unicode_forms import path_text
from .align import aligned
from .merge import common_root, joined_digest, rebased, require_kin
from .request import Request
from .store.cache import FeatureCache
from .store.create import replace_store, scratch_of
from .store.storage import LocalStorage

LOG = logging.getLogger(__name__)


def append(request: Request) -> tuple[Request, FeatureCache]:
    """Add the rows and splits of a request that a store lacks, behind those that it has.

    Returns the request with its rows in the order of the grown store, and that store. Finished shards stay; the last
    shard of a split that grows is pending when it was not full. Nothing changes when there is nothing to add.
    """
    cache = FeatureCache.open(request.options.out, mode="r+")
    manifest = request.manifest
    require_kin(cache, request.origin, manifest.classes, "this request")
    splits = {name: aligned(cache, name, manifest) for name in cache.splits}
    splits |= {name: split for name, split in manifest.splits.items() if name not in splits}
    request = replace(request, manifest=replace(manifest, splits=splits))
    if all(name in cache.splits and len(split) == cache.rows(name) for name, split in splits.items()):
        return request, cache
    if not isinstance(cache.storage, LocalStorage):
        raise C3Error(f"{cache.location}: --append works on stores of this file system; elsewhere use c3 merge")
    cache.require_complete()

    scratch = scratch_of(cache.storage)
    origin = replace(cache.origin, manifest_sha256=joined_digest([cache.origin, request.origin]))
    # the data set gives the paths of its own splits; those of the others stay below the root that the store names
    roots = {
        name: path_text(manifest.root.resolve()) if name in manifest.splits else cache.provenance.image_root
        for name in splits
    }
    root = common_root(roots.values())
    provenance = replace(cache.provenance, image_root=root, request=request.options.record() | {"append": True})
    try:
        grown = FeatureCache.create(
            scratch.path,
            origin=origin,
            provenance=provenance,
            notes=cache.notes,
            levels=cache.arrays,
            classes=cache.classes,
            splits={name: rebased(rows, roots[name], root) for name, rows in splits.items()},
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
