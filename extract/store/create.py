"""Making and opening a store: everything of it but its maps, and the seal over that.

Classes, row tables and the metadata of every array are written once. Their sha256 stand in the root's attributes
(`sealed`); the attributes carry their own (`checksum`) and are kept twice, again in the `classes` group. So any flipped
bit is found and named.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ...common.errors import C3Error, NotFound, StoreDamaged
from .layout import FeatureArray, Layout
from .storage import LocalStorage, Storage, open_storage, remedy
from .tables import Classes, Rows

SCHEMA = 2
KIND = "c3-features"
TABLE_CHUNK = 2**20  # entries of a row table in one file
# Every chunk of a written shard gets a file, so that "no file" can never mean "all zeros".
ALWAYS_STORE = {"write_empty_chunks": True}
CHECKED = [Crc32cCodec()]
ROOT_KEY, COPY_KEY = "zarr.json", "classes/zarr.json"  # where the attributes are, and where they are again


def arrays_of(
    levels: Sequence[FeatureArray], layout: Layout, classes: Classes, splits: Mapping[str, Rows]
) -> dict[str, dict[str, Any]]:
    """Path -> arguments of zarr.create_array, for every array of a store; `levels` are its levels and extras."""
    tables = {
        "classes/name": np.array(classes.names, dtype=np.dtypes.StringDType()),
        "classes/seen": np.asarray(classes.seen, dtype=bool),
        "classes/vector": np.asarray(classes.vectors, dtype=np.float32),
    }
    arrays: dict[str, dict[str, Any]] = {}
    for name, rows in splits.items():
        tables |= {
            f"{name}/image_id": np.array(rows.image_id, dtype=np.dtypes.StringDType()),
            f"{name}/crop": np.asarray(rows.crop, dtype=np.float32),
            f"{name}/labels/indptr": rows.labels.indptr,
            f"{name}/labels/indices": rows.labels.indices,
            f"{name}/labels/value": rows.labels.value,
        }
        count = len(rows)
        shards = -(-count // layout.shard_rows)
        scales = sum(level.channels for level in levels) if layout.dtype == "int8" else len(levels)
        small = {"compressors": CHECKED, "dtype": "uint8"}
        arrays |= {
            f"{name}/status": {"shape": (count,), "chunks": (layout.shard_rows,), **small},
            f"{name}/done": {"shape": (shards,), "chunks": (1,), **small},
            f"{name}/wide": {"shape": (len(levels),), "chunks": (1,), **small},
            f"{name}/scale": {"shape": (shards, scales, 2), "chunks": (1, scales, 2), **small, "dtype": "float32"},
        } | {f"{name}/{level.path}": layout.array(level, levels, count) for level in levels}
    return {path: _table(values) for path, values in tables.items()} | arrays


def _table(values: np.ndarray) -> dict[str, Any]:
    chunk = (min(max(len(values), 1), TABLE_CHUNK), *values.shape[1:])
    return {"data": values, "chunks": chunk, "compressors": [ZstdCodec(level=1), *CHECKED]}


def write_arrays(group: zarr.Group, arrays: Mapping[str, Mapping[str, Any]]) -> None:
    """Create arrays; those with data are written, the others wait for their shards."""
    for path, arguments in arrays.items():
        group.create_array(path, config=ALWAYS_STORE, **arguments)


def write_skeleton(storage: Storage, attrs: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]]) -> None:
    """Write all arrays and, last of all, the attributes that make the folder a store."""
    group = zarr.open_group(storage.zarr_store(), mode="w", zarr_format=3)
    write_arrays(group, arrays)
    write_attributes(storage, seal(storage, attrs, sorted(storage.sizes().keys() - {ROOT_KEY, COPY_KEY})))


def write_attributes(storage: Storage, attrs: Mapping[str, Any]) -> None:
    """Write the root's attributes, and before them their second copy."""
    for key, attributes in ((COPY_KEY, {"root": attrs}), (ROOT_KEY, attrs)):
        storage.write(key, _group_file(attributes))


def group_metadata(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """All that the metadata of a Zarr v3 group says."""
    return {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}


def _group_file(attributes: Mapping[str, Any]) -> bytes:
    return json.dumps(group_metadata(attributes), indent=2).encode()


def seal(storage: Storage, attrs: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """The attributes with the sha256 of the files `keys`, and their own checksum."""
    sealed = dict(attrs) | {"sealed": {key: hashlib.sha256(storage.read(key)).hexdigest() for key in keys}}
    return sealed | {"checksum": attributes_checksum(sealed)}


def write_again(
    storage: Storage, attrs: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]], keys: Iterable[str]
) -> None:
    """Write sealed files again, whole arrays and group metadata; the maps of an array stay."""
    group = zarr.open_group(storage.zarr_store(), mode="r+", zarr_format=3)
    for key in keys:
        path = next((path for path in arrays if key.startswith(f"{path}/")), None)
        if path is None:  # a group's metadata says only that it is one
            storage.write(key, _group_file({}))
            continue
        storage.delete(f"{path}/zarr.json")
        write_arrays(group, {path: arrays[path]})
    write_attributes(storage, seal(storage, attrs, attrs["sealed"]))


def attributes_checksum(attrs: Mapping[str, Any]) -> str:
    """sha256 over attributes but for the checksum itself."""
    content = json.dumps({key: value for key, value in attrs.items() if key != "checksum"}, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def broken_seals(storage: Storage, sealed: Mapping[str, str]) -> dict[str, str]:
    """Key -> what is wrong, for every sealed file that is lost or changed."""
    broken = {}
    for key, expected in sealed.items():
        try:
            found = hashlib.sha256(storage.read(key)).hexdigest()
        except FileNotFoundError:
            broken[key] = f"{key} is missing"
            continue
        if found != expected:
            broken[key] = f"{key} is damaged (sha256 {found[:12]}, sealed {expected[:12]})"
    return broken


def create_store(
    path: str | Path, attrs: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]], overwrite: bool
) -> None:
    """Write a store without maps. A local one appears whole or not at all, and an old one stays until then."""
    storage = open_storage(path)
    if storage.exists():
        if not overwrite:
            raise C3Error(f"{path} exists already; give another --out, or --overwrite to start again")
        if "zarr.json" not in storage.names(""):
            raise C3Error(f"{path} is not a feature store; --overwrite will not delete it. Give another --out")
    try:
        if isinstance(storage, LocalStorage):
            scratch = scratch_of(storage)
            try:
                write_skeleton(scratch, attrs, arrays)
                replace_store(storage, scratch)
            finally:
                scratch.delete_folder("")
        else:
            storage.delete_folder("")
            write_skeleton(storage, attrs, arrays)
    except OSError as error:
        raise C3Error(f"cannot create {path}: {error.strerror or error}") from error


def scratch_of(storage: LocalStorage) -> LocalStorage:
    """A folder beside a store, in which its successor is made."""
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


def open_store(path: str | Path, mode: str) -> tuple[Storage, zarr.Group]:
    """The storage and Zarr group at a path or URL, after every check that needs no map."""
    storage = open_storage(path)
    make = f"make it with: c3 extract --dataset NAME --out {path}"
    if not storage.exists():
        raise NotFound(f"no feature store at {path}; {make}")
    if isinstance(storage, LocalStorage) and storage.path.is_dir() and not storage.names(""):
        raise C3Error(f"{path} is an empty folder, not a feature store; {make}")
    try:
        group = zarr.open_group(storage.zarr_store(read_only=mode == "r"), mode=mode, zarr_format=3)
        attrs = dict(group.attrs)
    except PermissionError as error:
        raise C3Error(f"{path} cannot be opened: {error.strerror or error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:  # what zarr raises for files, v2 stores and non-groups
        _require_undamaged(storage, {})
        raise C3Error(f"{path} is not a feature store (no readable Zarr v3 group); {make}") from error
    _require_undamaged(storage, attrs)
    if attrs.get("kind") != KIND:
        raise C3Error(f"{path} is a Zarr group, but not a c3 feature store (attribute 'kind' is absent); {make}")
    found = attrs.get("schema")
    if found != SCHEMA:
        raise C3Error(
            f"{path} has store schema {found}, this c3 reads schema {SCHEMA}; "
            + ("install a newer c3" if isinstance(found, int) and found > SCHEMA else "extract it again")
        )
    return storage, group


def second_copy(storage: Storage) -> dict[str, Any] | None:
    """The root's attributes as the `classes` group keeps them; None when that copy is not whole either."""
    try:
        attrs = json.loads(bytes(storage.read(COPY_KEY)))["attributes"]["root"]
        return attrs if attrs["checksum"] == attributes_checksum(attrs) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _require_undamaged(storage: Storage, attrs: Mapping[str, Any]) -> None:
    copy = second_copy(storage)
    if (copy is not None and copy != attrs) or (
        attrs.get("schema") == SCHEMA and attrs.get("checksum") != attributes_checksum(attrs)
    ):
        fault = "the attributes in zarr.json are damaged (their checksum does not match)"
        raise StoreDamaged(storage.location, fault, remedy(storage))
