"""Making a store: everything of it but its maps, and the seals over that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ...common.errors import C3Error
from .attributes import COPY_KEY, ROOT_KEY, Attributes, group_file, write_attributes
from .layout import ROW, FeatureArray, Layout
from .storage import LocalStorage, Storage, open_storage
from .tables import Classes, Rows
from .texts import TEXT, Texts
from .zarr_arrays import ALWAYS_STORE

TABLE_CHUNK = 2**20  # entries of a row table in one file


NewArray = dict[str, Any]  # arguments of zarr.create_array


def store_arrays(attributes: Attributes, classes: Classes, splits: Mapping[str, Rows]) -> dict[str, NewArray]:
    """Return path -> array, for every array of a store of the schema that the attributes state."""
    arrays = {
        "classes/name": _table(np.array(classes.names, TEXT)),
        "classes/seen": _table(np.asarray(classes.seen, dtype=bool)),
        "classes/vector": _table(np.asarray(classes.vectors, dtype=np.float32)),
    }
    for split, rows in splits.items():
        found = _row_tables(rows) | _shard_arrays(attributes.arrays, attributes.layout, len(rows))
        arrays |= {f"{split}/{path}": array for path, array in found.items()}
    if attributes.schema == 2:
        return {path: array for path, array in arrays.items() if not path.endswith("/image_path")}
    names = attributes.shape("").dimension_names()
    return {path: array | {"dimension_names": names[path]} for path, array in arrays.items()}


def _row_tables(rows: Rows) -> dict[str, NewArray]:
    return {
        "image_id": _table(rows.image_id),
        "image_path": _table(rows.path),
        "crop": _table(np.asarray(rows.crop, dtype=np.float32)),
        "labels/indptr": _table(rows.labels.indptr),
        "labels/indices": _table(rows.labels.indices),
        "labels/value": _table(rows.labels.value),
    }


def _table(values: np.ndarray | Texts) -> NewArray:
    shape, dtype = ((len(values),), TEXT) if isinstance(values, Texts) else (values.shape, values.dtype)
    chunk = (min(max(len(values), 1), TABLE_CHUNK), *shape[1:])
    codecs = [ZstdCodec(level=1), Crc32cCodec()]
    return {"data": values, "shape": shape, "dtype": dtype, "chunks": chunk, "compressors": codecs}


def path_table(paths: np.ndarray) -> NewArray:
    """Return the array `image_path` of a split, of (rows,) text."""
    return _table(np.asarray(paths, TEXT)) | {"dimension_names": (ROW,)}


def _shard_arrays(arrays: tuple[FeatureArray, ...], layout: Layout, rows: int) -> dict[str, NewArray]:
    """Return the arrays that wait for their shards: features, and what every shard says of itself."""
    shards = -(-rows // layout.shard_rows)
    scales = sum(array.channels for array in arrays) if layout.dtype == "int8" else len(arrays)
    small = {"compressors": [Crc32cCodec()], "dtype": "uint8"}
    return {
        "status": {"shape": (rows,), "chunks": (layout.shard_rows,), **small},
        "done": {"shape": (shards,), "chunks": (1,), **small},
        "wide": {"shape": (len(arrays),), "chunks": (1,), **small},
        "scale": {"shape": (shards, scales, 2), "chunks": (1, scales, 2), **small, "dtype": "float32"},
    } | {array.path: layout.array(array, arrays, rows) for array in arrays}


def write_arrays(group: zarr.Group, arrays: Mapping[str, NewArray]) -> None:
    """Create arrays; those with data are written, the others wait for their shards.

    A chunk is written after the other: zarr-python would encode ten at a time, each of 2^20 texts as Python objects.
    """
    for path, arguments in arrays.items():
        settings = dict(arguments)
        values = settings.pop("data", ())
        array = group.create_array(path, config=ALWAYS_STORE, **settings)
        for start in range(0, len(values), array.chunks[0]):
            where = slice(start, start + array.chunks[0])
            array[where] = values[where]


def write_skeleton(storage: Storage, attributes: Attributes, arrays: Mapping[str, NewArray]) -> None:
    """Write all arrays and, last of all, the attributes that make the folder a store."""
    group = zarr.open_group(storage.zarr_store(), mode="w", zarr_format=3)
    write_arrays(group, arrays)
    keys = sorted(storage.sizes().keys() - {ROOT_KEY, COPY_KEY})
    write_attributes(storage, attributes.sealing(storage, keys).record())


def write_again(storage: Storage, attributes: Attributes, arrays: Mapping[str, NewArray], keys: Iterable[str]) -> None:
    """Write sealed files again, whole arrays and group metadata; the maps of an array stay."""
    group = zarr.open_group(storage.zarr_store(), mode="r+", zarr_format=3)
    for key in keys:
        path = next((path for path in arrays if key.startswith(f"{path}/")), None)
        if path is None:  # a group's metadata says only that it is one
            storage.write(key, group_file({}))
            continue
        storage.delete(f"{path}/zarr.json")
        write_arrays(group, {path: arrays[path]})
    write_attributes(storage, attributes.sealing(storage, attributes.sealed).record())


def create_store(path: str | Path, attributes: Attributes, arrays: Mapping[str, NewArray], overwrite: bool) -> None:
    """Write a store without maps. A local one appears whole or not at all, and an old one stays until then."""
    storage = open_storage(path)
    if storage.exists():
        if not overwrite:
            raise C3Error(f"{path} exists already; give another --out, or --overwrite to start again")
        if ROOT_KEY not in storage.names(""):
            raise C3Error(f"{path} is not a feature store; --overwrite will not delete it. Give another --out")
    try:
        if isinstance(storage, LocalStorage):
            scratch = scratch_of(storage)
            try:
                write_skeleton(scratch, attributes, arrays)
                replace_store(storage, scratch)
            finally:
                scratch.delete_folder("")
        else:
            storage.delete_folder("")
            write_skeleton(storage, attributes, arrays)
    except OSError as error:
        raise C3Error(f"cannot create {path}: {error.strerror or error}") from error


def scratch_of(storage: LocalStorage) -> LocalStorage:
    """Return a folder beside a store, in which its successor is made."""
    return LocalStorage(storage.path.with_name(f".{storage.path.name}.{os.getpid()}.new"))


def replace_store(storage: LocalStorage, scratch: LocalStorage) -> None:
    """Put a finished folder in the place of a store; when that fails, the old one is back where it was."""
    old = LocalStorage(scratch.path.with_suffix(".old"))
    if storage.exists():
        storage.path.rename(old.path)
    try:
        scratch.path.rename(storage.path)
    except OSError:
        with suppress(OSError):
            old.path.rename(storage.path)
        raise
    old.delete_folder("")
