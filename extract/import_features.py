"""FRONT DOOR of `c3 import-features`: arrays that other tools computed, and a table of labels -> a feature store."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ..common.errors import C3Error
from ..common.progress import progress
from ..common.unicode_forms import path_text
from .backbone.names import IMPORTED
from .catalog.catalog import Catalog, vectors_of
from .catalog.specs import TableSpec
from .datasets.manifest import Manifest
from .datasets.read import read_manifest
from .datasets.table import table_paths
from .feature_arrays import SourceArray, file_hash, open_array
from .store.cache import FeatureCache, Status
from .store.layout import GLOBAL_VECTOR, REGIONS, FeatureArray
from .store.origin import FeatureOrigin, Provenance

LEVEL_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class ImportOptions:
    """Arrays and the table of their rows.

    `table` is a csv as in docs/own-data.md, with its lists of `unseen` and of all `classes`, and `vectors` a name of
    the catalog or a file; or `dataset` names a table of the catalog, which has all that. `arrays` names those to
    read in files that hold several. `source` says in a few words what computed the features.
    """

    files: tuple[Path, ...]
    table: Path | None = None
    dataset: str | None = None
    vectors: str | None = None
    unseen: Path | None = None
    classes: Path | None = None
    labelling: str = "complete"
    arrays: Sequence[str] = ()
    source: str | None = None
    out: Path = Path("features.zarr")
    catalog: Path | None = None
    overwrite: bool = False


def import_features(options: ImportOptions) -> str:
    """Fill a store from arrays and return a summary; a stopped import continues where it was.

    Row n of every array belongs to row n of the table. Maps (rows, C, H, W) become a level named as their array, pooled
    to 7 x 7 by maximum; several are several levels, shallow to deep. Vectors (rows, D) become `global`, and a
    store may have these alone. Raises C3Error for arrays whose rows differ from the table, before anything is written.
    """
    spec = _table_spec(options)
    arrays = [open_array(path, key) for path in options.files for key in options.arrays or (None,)]
    manifest = read_manifest(spec)
    place = {path: row for row, path in enumerate(table_paths(spec))}
    for array in arrays:
        if array.shape[0] != len(place):
            raise C3Error(f"{array.title} has {array.shape[0]:,} rows, and {spec.own('table', spec.table)} has "
                          f"{len(place):,}; row n of the array must belong to row n of the table")  # fmt: skip
    named = _named(arrays)
    for array in arrays:
        array.require_order(list(place))
        array.require_numbers()
    cache = _store(options, manifest, named)
    rows = sum(len(cache.shard_rows(split, shard)) for split in cache.splits for shard in cache.pending(split))
    with progress("import", rows, "rows") as bar:
        for split in cache.splits:
            numbers = np.array([place[path] for path in manifest.splits[split].path.tolist()], np.int64)
            for shard in cache.pending(split):
                where = cache.shard_rows(split, shard)
                wanted = numbers[where.start : where.stop]
                maps = {array.name: source.read(wanted) for array, source in named.items()}
                cache.write_shard(split, shard, maps, np.full(len(where), Status.OK, np.uint8))
                bar.advance(len(where))
    shown = ", ".join(f"{split} {cache.rows(split):,}" for split in cache.splits)
    return f"{options.out} is complete: {shown} rows, {', '.join(map(str, named))}, {len(manifest.classes)} classes"


def _table_spec(options: ImportOptions) -> TableSpec:
    catalog = Catalog(options.catalog)
    if (options.table is None) == (options.dataset is None):
        raise C3Error("give the rows of the arrays with --table labels.csv, or with --dataset NAME")
    if options.dataset is not None:
        if options.vectors or options.unseen or options.classes:
            raise C3Error("--vectors, --unseen and --classes go with --table; a data set of the catalog has its own")
        spec = catalog.dataset(options.dataset)
        if not isinstance(spec, TableSpec):
            raise C3Error(f"data set {spec.name} is of kind {spec.kind}; arrays need one of kind table")
        return spec
    if options.table is None or options.vectors is None:
        raise C3Error("--table needs --vectors, the class vectors: a name of the catalog or a file")
    lists = {name: str(path.absolute()) for name in ("unseen", "classes") if (path := getattr(options, name))}
    return TableSpec.model_validate({
        "name": options.table.stem, "kind": "table", "root": options.table.absolute().parent,
        "table": options.table.name, "labels": options.labelling, "vectors": vectors_of(options.vectors, catalog),
        **lists,
    })  # fmt: skip


def _named(arrays: Sequence[SourceArray]) -> dict[FeatureArray, SourceArray]:
    """Return the arrays by what they are in the store, levels first."""
    found: dict[FeatureArray, SourceArray] = {}
    for array in sorted(arrays, key=lambda array: len(array.shape) == 2):
        vectors = len(array.shape) == 2
        name = GLOBAL_VECTOR if vectors else array.name
        if not vectors and (name in (REGIONS, GLOBAL_VECTOR) or not LEVEL_NAME.fullmatch(name)):
            raise C3Error(f"{array.title}: {name!r} cannot be the name of a level; rename the array or its file, for "
                          "example to p16")  # fmt: skip
        if name in {other.name for other in found}:
            raise C3Error(f"{array.title}: a store has one array {name!r}; give one file of vectors, and maps of "
                          "different names")  # fmt: skip
        found[FeatureArray(name, array.shape[1], 0) if vectors else FeatureArray(name, array.shape[1])] = array
    return found


def _store(options: ImportOptions, manifest: Manifest, named: Mapping[FeatureArray, SourceArray]) -> FeatureCache:
    """Create the store, or open the one that the same import began."""
    hashes = {path: file_hash(path) for path in options.files}
    taps = [{"level": array.name, "shape": list(source.shape[1:])} for array, source in named.items() if array.pooled]
    vectors = next((list(source.shape[1:]) for array, source in named.items() if not array.pooled), None)
    source = options.source or options.files[0].name
    origin = FeatureOrigin(
        dataset=manifest.dataset,
        manifest_sha256=manifest.digest(),
        labelling=manifest.labelling,
        backbone=f"{IMPORTED}{source}",
        weights_sha256=hashlib.sha256(
            "".join(f"{hashes[array.path]}{array.key}" for array in named.values()).encode()
        ).hexdigest(),
        taps=tuple(taps),
        transform="as the tool that computed the arrays",
        crops="whole",
        global_vector=vectors,
    )
    if not options.overwrite and (made := FeatureCache.begun(options.out, origin)):
        return made
    return FeatureCache.create(
        options.out,
        origin=origin,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            weights=f"those of {source}",
            image_root=path_text(manifest.root.resolve()),
            device="none",
            versions={name: version(name) for name in ("c3-mlzsl", "zarr", "numpy")},
            files={source.name: path_text(source.path.resolve()) for source in named.values()},
        ),
        levels=tuple(named),
        classes=manifest.classes,
        splits=manifest.splits,
        notes=manifest.notes,
        overwrite=options.overwrite,
    )
