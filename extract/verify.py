"""Read every byte of a store, say what is broken, and mend what can be mended.

What never changes (metadata, classes, row tables) is compared with its seal; every finished shard is decoded, checksums
included. Lost or damaged shards are computed again from their images, tables and metadata are written again from the
data set.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import C3Error, StoreDamaged
from ..common.progress import progress
from ..common.words import counted
from .store.attributes import COPY_KEY, ROOT_KEY, group_metadata, second_copy, write_attributes
from .store.cache import FeatureCache, Status
from .store.create import store_arrays, write_again
from .store.migrate import require_no_migration
from .store.storage import LOCK_FILE, OLD_LOCK_FILE, Storage, open_storage
from .store.tables import UNKNOWN_PATH

if TYPE_CHECKING:  # they need torch, which only repairs do
    from .remake import Remake
    from .worker import Report, ShardTask

LOG = logging.getLogger(__name__)
SHOWN = 20  # findings that are listed; the others are counted


def verify(path: str | Path, repair: bool = False, images: Path | None = None, catalog: Path | None = None) -> str:
    """Check a store and return a summary; with `repair` mend what is broken.

    The checks stand on each other: attributes, then sealed files, then shards. `images` is the folder of the images
    when it has moved, `catalog` the file that has the data set when it is not the one that the store names. Raises
    StoreDamaged when something is broken and `repair` was not asked for, and C3Error when it cannot be mended.
    """
    storage = open_storage(path)
    require_no_migration(storage)
    mended = _mend_attributes(storage, repair)
    cache = FeatureCache.open(path, mode="r+" if repair else "r")
    mended += _mend_sealed(cache, repair, catalog)
    cache = FeatureCache.open(path, mode="r+" if repair else "r")
    mended += _mend_wide(cache, repair)
    contradictions = list(_table_faults(cache))
    if contradictions:
        raise C3Error(f"{path}: {contradictions[0]}; its tables contradict each other, which nothing here can mend")
    mended += _mend_leftovers(cache, repair)

    broken = shard_faults(cache)
    _tell(cache, [f"{split} shard {shard}: {fault}" for (split, shard), fault in broken.items()], repair)
    if broken:
        from .remake import prepare_remake

        report = _make_again(cache, list(broken), prepare_remake(cache, images, catalog))
        rows = ", ".join(f"{count:,} {status.name.lower()}" for status, count in report.rows.items())
        findings, shards = counted(mended + len(broken), "finding"), counted(len(broken), "shard")
        return f"{path}: {findings} mended, {shards} made again ({rows} rows)"
    state = f"is mended ({counted(mended, 'finding')})" if mended else "is sound"
    shards = ", ".join(
        f"{split} {len(cache.finished(split))} of {cache.shards(split)} shards" for split in cache.splits
    )
    return f"{path} {state}: {shards}; digest {cache.digest}"


def _make_again(cache: FeatureCache, broken: Sequence[tuple[str, int]], remake: Remake) -> Report:
    """Compute shards again. An image that was read before must be read now: no shard gets worse."""
    from .worker import Report, ShardWorker

    tasks = [_task(cache, remake, split, shard) for split, shard in broken]
    report = Report()
    with progress("repair", sum(len(task.paths) for task in tasks), "images") as bar:
        for done in ShardWorker(remake.backbone, cache, remake.batch_size, remake.decoding).run(tasks, bar.advance):
            report.add(done)
    return report


def _task(cache: FeatureCache, remake: Remake, split: str, shard: int) -> ShardTask:
    from .worker import ShardTask

    rows = cache.shard_rows(split, shard)
    where = slice(rows.start, rows.stop)
    paths = remake.paths[split][where]
    if (paths == UNKNOWN_PATH).any():
        raise C3Error(
            f"{cache.location}: shard {shard} of {split} cannot be made again: nothing says where its images are"
        )
    try:
        was_ok = cache.status(split, rows) == Status.OK
    except StoreDamaged:
        was_ok = np.zeros(len(rows), bool)
    return ShardTask(split, shard, remake.root, paths, cache.crops(split)[where], was_ok)


def _tell(cache: FeatureCache, findings: Sequence[str], repair: bool) -> int:
    """Show findings and return their number; refuse to go on unless they are to be mended."""
    for line in findings[:SHOWN]:
        LOG.warning("broken: %s", line)
    if findings and not repair:
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        raise cache.storage.damaged(f"{findings[0]}{more}")
    return len(findings)


def _mend_attributes(storage: Storage, repair: bool) -> int:
    """Compare the two copies of the attributes; with `repair` write the broken one again from the other."""
    copy = second_copy(storage)
    try:
        root = json.loads(bytes(storage.read(ROOT_KEY)))
    except (OSError, ValueError):
        root = None
    if copy is not None and root != group_metadata(copy):
        fault = f"{ROOT_KEY} differs from the copy of its attributes in {COPY_KEY}"
    elif copy is None and storage.exists():
        copy = FeatureCache.open(storage.location).attributes.record()  # raises for no store, and for two broken copies
        fault = f"{COPY_KEY} is damaged: the second copy of the attributes"
    else:
        return 0
    LOG.warning("broken: %s", fault)
    if not repair:
        raise storage.damaged(fault)
    write_attributes(storage, copy)
    return 1


def _mend_sealed(cache: FeatureCache, repair: bool, catalog: Path | None) -> int:
    """Find sealed files that changed; with `repair` write them again from the data set."""
    broken = cache.attributes.broken_seals(cache.storage)
    _tell(cache, list(broken.values()), repair)
    if broken:
        from .remake import options_of
        from .request import prepare

        request = prepare(options_of(cache, catalog))
        cache.require_origin(request.origin)
        arrays = store_arrays(cache.attributes, request.manifest.classes, request.manifest.splits)
        write_again(cache.storage, cache.attributes, arrays, broken)
    return len(broken)


def _mend_wide(cache: FeatureCache, repair: bool) -> int:
    """Find splits whose `wide` flags are damaged; with `repair` write them again from the scales."""
    broken = {}
    for split in cache.splits:
        try:
            cache.shard_files.wide(split)
        except StoreDamaged as error:
            broken[split] = error.fault
    _tell(cache, list(broken.values()), repair)
    for split in broken:
        cache.shard_files.mend_wide(split)
    return len(broken)


def _mend_leftovers(cache: FeatureCache, repair: bool) -> int:
    """Find files that no store of this shape has, as a killed process leaves them; with `repair` delete them."""
    known = {ROOT_KEY, COPY_KEY, LOCK_FILE, OLD_LOCK_FILE, *cache.attributes.sealed}
    for split in cache.splits:
        known |= {f"{split}/wide/c/{number}" for number in range(len(cache.arrays))}
        for shard in range(cache.shards(split)):
            known |= {cache.shape.done_key(split, shard), *cache.shape.shard_keys(split, shard)}
    strange = sorted(set(cache.storage.sizes()) - known)
    _tell(cache, [f"{key} does not belong to a store" for key in strange], repair)
    for key in strange:
        cache.storage.delete(key)
    return len(strange)


def shard_faults(cache: FeatureCache) -> dict[tuple[str, int], str]:
    """Return (split, shard) -> what is wrong, for every finished shard that is not whole. Decodes everything."""
    tasks = [(split, shard) for split in cache.splits for shard in cache.finished(split)]
    total = sum(len(cache.shard_rows(*task)) for task in tasks)
    broken = {}
    with ThreadPoolExecutor(cache.storage.parallel_reads) as pool, progress("verify", total, "rows") as bar:
        for task, fault in zip(tasks, pool.map(lambda task: _shard_fault(cache, *task), tasks), strict=True):
            if fault:
                broken[task] = fault
            bar.advance(len(cache.shard_rows(*task)), failed=bool(fault))
    return broken


def _table_faults(cache: FeatureCache) -> Iterator[str]:
    """Check row counts and label bounds: the seals say that bytes are as written, this says that they make sense."""
    for split in cache.splits:
        rows = cache.rows(split)
        table = cache.table(split)
        labels = table.labels
        counts = {"image_id": len(table.image_id), "image_path": len(table.path), "crop": len(table.crop)}
        counts |= {"labels": len(labels)}
        for name, count in counts.items():
            if count != rows:
                yield f"{split}/{name} has {count} rows, the split has {rows}"
        if labels.indptr[0] != 0 or (np.diff(labels.indptr) < 0).any() or labels.indptr[-1] != len(labels.indices):
            yield f"{split}/labels/indptr does not lead through its {len(labels.indices)} entries"
        if len(labels.indices) and not 0 <= labels.indices.min() <= labels.indices.max() < len(cache.classes):
            yield f"{split}/labels/indices is outside 0..{len(cache.classes) - 1}"
        if not np.isin(labels.value, (-1, 1)).all():
            yield f"{split}/labels/value holds other values than -1 and +1"


def _shard_fault(cache: FeatureCache, split: str, shard: int) -> str | None:
    """Return what is wrong with a finished shard, or None."""
    rows = cache.shard_rows(split, shard)
    try:
        if cache.done_flag(split, shard) != 1:
            return "its done flag is not 1"
        status = cache.status(split, rows)
        failed = status != Status.OK
        if not np.isin(status, [status for status in Status if status != Status.PENDING]).all():
            return f"its status holds {sorted(set(status.tolist()))}"
        for array in cache.arrays:
            maps = cache.maps(split, array.name)[rows.start : rows.stop]
            if maps[failed].any():
                return f"rows that failed have values in {array.name}"
            if not np.isfinite(maps).all():
                return f"{array.name} holds NaN or infinity"
    except StoreDamaged as error:
        return error.fault
    return None
