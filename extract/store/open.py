"""Opening a store: every check that needs no map."""

from __future__ import annotations

import json
from pathlib import Path
from shlex import quote
from typing import Any, Literal

import zarr

from ...common.errors import C3Error, NotFound, StoreDamaged
from .attributes import KIND, READABLE, ROOT_KEY, SCHEMA, Attributes, is_whole, second_copy
from .storage import LocalStorage, Storage, open_storage

OpenMode = Literal["r", "r+"]


def require_store(path: str | Path) -> Storage:
    """Return the storage at a path or URL where there is something. Raises NotFound where there is nothing."""
    storage = open_storage(path)
    if not storage.exists():
        raise NotFound(f"no feature store at {path}; {_make(path)}")
    return storage


def open_store(path: str | Path, mode: OpenMode) -> tuple[Storage, zarr.Group, Attributes]:
    """Return the storage, the Zarr group and the attributes of the store at a path or URL.

    Raises NotFound when there is nothing, StoreDamaged when the attributes are, and C3Error for anything else that is
    no store of a readable version.
    """
    storage = require_store(path)
    make = _make(path)
    if isinstance(storage, LocalStorage) and storage.path.is_dir() and not storage.names(""):
        raise NotFound(f"{path} is an empty folder, not a feature store; {make}")
    try:
        content: Any = json.loads(bytes(storage.read(ROOT_KEY)))["attributes"]
        kind, found = content.get("kind"), content.get("schema")
        group = zarr.open_group(storage.zarr_store(read_only=mode == "r"), mode=mode, zarr_format=3)
    except PermissionError as error:
        raise C3Error(f"{path} cannot be opened: {error.strerror or error}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # plain files, Zarr v2, non-groups
        if second_copy(storage) is not None:
            raise _damaged(storage) from error
        raise C3Error(f"{path} is not a feature store (no readable Zarr v3 group); {make}") from error
    if not is_whole(content) and (second_copy(storage) is not None or (kind == KIND and found in READABLE)):
        raise _damaged(storage)
    if kind != KIND:
        raise C3Error(f"{path} is a Zarr group, but not a c3 feature store (attribute 'kind' is absent); {make}")
    if found not in READABLE:
        newer = isinstance(found, int) and found > SCHEMA
        raise C3Error(
            f"{path} has store schema {found}, this c3 reads schemas {READABLE[0]} to {SCHEMA}; "
            + ("install a newer c3" if newer else "extract it again")
        )
    return storage, group, Attributes.parse(content, storage.location)


def _make(path: str | Path) -> str:
    return f"make it with: c3 extract --dataset NAME --out {quote(str(path))}"


def _damaged(storage: Storage) -> StoreDamaged:
    return storage.damaged("the attributes in zarr.json are damaged (their checksum does not match)")
