"""A store of version 2 becomes one of version 3 in place: names of dimensions, image paths, new attributes.

No map is touched. Every file is replaced whole, and the attributes come last, so that a killed migration leaves a store
that opens as version 2 or 3. A marker says that it must be finished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from shlex import quote
from typing import Any

import numpy as np
import zarr

from ...common.errors import C3Error
from .attributes import COPY_KEY, ROOT_KEY, SCHEMA, Attributes, write_attributes
from .create import path_table, write_arrays
from .storage import OLD_LOCK_FILE, Storage

MARKER = ".c3-migrating"  # an empty file, there while a migration is unfinished
ROOM = 2**18  # bytes for metadata and attributes, whose files are replaced one by one


def migrate_store(storage: Storage, attributes: Attributes, paths: Mapping[str, np.ndarray]) -> None:
    """Bring an open store of version 2 to version 3; `paths[split]` is (rows,) text, empty where it is unknown.

    The digest of the content stays. Raises StoreDamaged when a sealed file is broken, and C3Error when there is no
    space or no permission; a store that could not be finished opens as it did, and may be migrated again.
    """
    metadata = _with_dimensions(storage, attributes)
    _require_room(storage, paths)
    try:
        storage.write(MARKER, b"")
        group = zarr.open_group(storage.zarr_store(), mode="r+", zarr_format=3)
        for split, table in paths.items():
            storage.delete_folder(f"{split}/image_path")
            write_arrays(group, {f"{split}/image_path": path_table(table)})
        for key, data in metadata.items():
            storage.write(key, data)
        added = {key for key in storage.sizes() if key.split("/")[1:2] == ["image_path"]}
        storage.flush(sorted({*metadata, *added}))
        grown = replace(attributes, schema=SCHEMA).sealing(storage, sorted({*attributes.sealed, *added}))
        write_attributes(storage, grown.record())
        finish_migration(storage, attributes)
    except OSError as error:
        raise C3Error(
            f"{storage.location} cannot be migrated ({error.strerror or error}); it opens as before, and the same "
            "command goes on when that is mended"
        ) from error


def finish_migration(storage: Storage, attributes: Attributes) -> None:
    """Remove the marker, the scratch files that killed migrations left, and the lock file where version 2 had it."""
    metadata = {ROOT_KEY, COPY_KEY, *(key for key in attributes.sealed if key.endswith("zarr.json"))}
    for folder in sorted({key.rpartition("/")[0] for key in metadata}):
        for name in storage.names(folder):
            ours = name.startswith((".zarr.json.", f".{MARKER}.")) and name.endswith(".new")
            if ours or (name.startswith("zarr.") and name.endswith(".partial")):  # the latter are zarr-python's
                storage.delete(f"{folder}/{name}".lstrip("/"))
    storage.delete(OLD_LOCK_FILE)
    storage.delete(MARKER)


def require_no_migration(storage: Storage) -> None:
    """Refuse a store whose migration was interrupted."""
    if MARKER in storage.names(""):
        raise C3Error(
            f"{storage.location}: its migration was interrupted; finish it with: c3 migrate {quote(storage.location)}"
        )


def _with_dimensions(storage: Storage, attributes: Attributes) -> dict[str, bytes]:
    """Return key -> the metadata of every array with the names of its dimensions, once every seal has been checked.

    A killed migration may have replaced some of the files: a seal then fits the file without the names.
    """
    names = attributes.shape(storage.location).dimension_names()
    found = {}
    for key, expected in attributes.sealed.items():
        try:
            data = bytes(storage.read(key))
        except FileNotFoundError as error:
            raise storage.damaged(f"{key} is missing") from error
        path = key.removesuffix("/zarr.json")
        if path in names and path != key:
            try:
                content: dict[str, Any] = json.loads(data)
            except ValueError:
                content = {}
            if "dimension_names" in content:
                del content["dimension_names"]
                data = _file(content)
            found[key] = _file(content | {"dimension_names": names[path]})
        if hashlib.sha256(data).hexdigest() != expected:
            raise storage.damaged(f"{key} is damaged")
    return found


def _file(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()  # as zarr-python writes it


def _require_room(storage: Storage, paths: Mapping[str, np.ndarray]) -> None:
    free = storage.free_bytes()
    needed = ROOM + sum(len(path.encode()) + 4 for table in paths.values() for path in table.tolist())
    if free is not None and free < needed:
        raise C3Error(
            f"{storage.location} cannot be migrated: {needed / 1e6:,.1f} MB are needed for a moment, "
            f"{free / 1e6:,.1f} MB are free; make room and give the same command"
        )
