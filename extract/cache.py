"""CONTRACT 1: `features.zarr`, the self-contained store of pooled feature maps. numpy and zarr only, no torch.

The layout is described in docs/cache-format.md. A store is created whole (classes, labels, row tables, empty maps) and
then filled shard by shard: the maps and statuses of a shard first, its `done` flag last. The flag alone says that a
shard exists, because Zarr reads a chunk that has no file as zeros.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from ..errors import C3Error
from .rows import Classes, Rows, SparseLabels

__all__ = ["GRID", "SCHEMA", "Classes", "FeatureCache", "Layout", "Level", "Rows", "SparseLabels", "Status"]

SCHEMA = 1
GRID = 7  # every level is pooled to GRID x GRID
# Every chunk of a written shard gets a file, so that "no file" can never mean "all zeros".
ALWAYS_STORE = {"write_empty_chunks": True}


class Status(IntEnum):
    """What became of a row. Anything but OK has a zero map and is masked when read."""

    PENDING = 0
    OK = 1
    MISSING = 2
    UNREADABLE = 3
    EMPTY = 4
    TOO_SMALL = 5


@dataclass(frozen=True)
class Level:
    """One pyramid level: its name says the stride of the backbone there (p8, p16, p32)."""

    name: str
    channels: int


@dataclass(frozen=True)
class Layout:
    """How rows are cut: a chunk is the unit of reading, a shard the unit of writing, resuming and retrying."""

    chunk_rows: int = 64
    shard_rows: int = 256


class FeatureCache:
    """An open `features.zarr`. Use `FeatureCache.open` or `FeatureCache.create`."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        self._arrays: dict[str, zarr.Array] = {}
        self.attrs: dict[str, Any] = dict(group.attrs)
        self.config: dict[str, Any] = self.attrs["config"]
        self.levels = tuple(Level(**level) for level in self.attrs["levels"])
        self.layout = Layout(**self.attrs["layout"])

    # -- making and opening ------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        config: Mapping[str, Any],
        provenance: Mapping[str, Any],
        levels: tuple[Level, ...],
        classes: Classes,
        splits: Mapping[str, Rows],
        layout: Layout = Layout(),
        overwrite: bool = False,
    ) -> FeatureCache:
        """Create a store with every row pending. It appears under `path` whole or not at all.

        `config` is everything that decides the values in the store; a later request that differs is refused.
        """
        path = Path(path)
        if path.exists() and not overwrite:
            raise C3Error(f"{path} exists already; give another --out, or --overwrite to start again")
        if path.exists() and not (path / "zarr.json").exists():
            raise C3Error(f"{path} is not a feature store; --overwrite will not delete it. Give another --out")
        scratch = path.with_name(f".{path.name}.{os.getpid()}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.open_group(scratch, mode="w", zarr_format=3)
            group.attrs.update(
                {
                    "schema": SCHEMA,
                    "kind": "c3-features",
                    "config": dict(config),
                    "provenance": dict(provenance),
                    "levels": [vars(level) for level in levels],
                    "layout": vars(layout),
                    "splits": {name: len(rows) for name, rows in splits.items()},
                }
            )
            _write_classes(group.create_group("classes"), classes)
            for name, rows in splits.items():
                _write_rows(group.create_group(name), rows, levels, layout)
            if path.exists():
                shutil.rmtree(path)
            scratch.rename(path)
        except OSError as error:
            raise C3Error(f"cannot create {path}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return cls.open(path, mode="r+")

    @classmethod
    def open(cls, path: str | Path, mode: str = "r") -> FeatureCache:
        """Open a store for reading (`r`) or for filling (`r+`).

        Raises C3Error when the path is missing, is something else, or has another schema version.
        """
        path = Path(path)
        make = f"make it with: c3 extract --dataset NAME --out {path}"
        if not path.exists():
            raise C3Error(f"no feature store at {path}; {make}")
        if path.is_dir() and not any(path.iterdir()):
            raise C3Error(f"{path} is an empty folder, not a feature store; {make}")
        try:
            group = zarr.open_group(path, mode=mode, zarr_format=3)
        except (OSError, ValueError, KeyError) as error:  # zarr raises one of these for files, v2 stores and non-groups
            raise C3Error(f"{path} is not a feature store (no readable Zarr v3 group); {make}") from error
        if group.attrs.get("kind") != "c3-features":
            raise C3Error(f"{path} is a Zarr group, but not a c3 feature store (attribute 'kind' is absent); {make}")
        found = group.attrs.get("schema")
        if found != SCHEMA:
            raise C3Error(
                f"{path} has store schema {found}, this c3 reads schema {SCHEMA}; "
                + ("install a newer c3" if isinstance(found, int) and found > SCHEMA else "extract it again")
            )
        return cls(path, group)

    def require_config(self, config: Mapping[str, Any]) -> None:
        """Refuse to go on with a store that was made by another request; shows both values of what differs."""
        requested = json.loads(json.dumps(dict(config)))
        differing = [key for key in requested | self.config if requested.get(key) != self.config.get(key)]
        if differing:
            shown = "; ".join(
                f"{key}: store {self.config.get(key)!r}, request {requested.get(key)!r}" for key in differing
            )
            raise C3Error(f"{self.path} was made by another request ({shown}). Give another --out, or --overwrite")

    # -- what is in it -----------------------------------------------------------------------------------------------

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.attrs["splits"])

    @property
    def labelling(self) -> str:
        """`complete`: an absent label is negative. `verified`: an absent label is unknown."""
        return self.config["labelling"]

    @property
    def absent_label(self) -> int:
        """The value of a label that is not listed: -1 where labels are complete, 0 (unknown) where verified."""
        return -1 if self.labelling == "complete" else 0

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the content: the config (weights, manifest, transform) and the levels."""
        content = json.dumps([self.config, self.attrs["levels"], self.attrs["splits"]], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    @cached_property
    def classes(self) -> Classes:
        group = self._group["classes"]
        return Classes(tuple(group["name"][:].tolist()), group["seen"][:], group["vector"][:])

    def rows(self, split: str) -> int:
        """The number of rows of a split; an unknown split is refused."""
        if split not in self.splits:
            raise C3Error(f"{self.path} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.attrs["splits"][split]

    def image_ids(self, split: str) -> np.ndarray:
        return self._array(split, "image_id")[:]

    def crops(self, split: str) -> np.ndarray:
        """(rows, 4) float32: x0, y0, x1, y1 in 0..1."""
        return self._array(split, "crop")[:]

    def labels(self, split: str) -> SparseLabels:
        return SparseLabels(*(self._array(split, f"labels/{name}")[:] for name in ("indptr", "indices", "value")))

    def status(self, split: str) -> np.ndarray:
        """(rows,) uint8, values of `Status`."""
        return self._array(split, "status")[:]

    # -- shards ------------------------------------------------------------------------------------------------------

    def shards(self, split: str) -> int:
        return -(-self.rows(split) // self.layout.shard_rows)

    def shard_rows(self, split: str, shard: int) -> range:
        start = shard * self.layout.shard_rows
        return range(start, min(start + self.layout.shard_rows, self.rows(split)))

    def pending(self, split: str) -> list[int]:
        """The shards that are not written yet, in order."""
        return np.flatnonzero(self._array(split, "done")[:] == 0).tolist()

    def require_complete(self) -> None:
        """Refuse a store whose extraction has not finished."""
        missing = {split: len(self.pending(split)) for split in self.splits}
        if any(missing.values()):
            parts = ", ".join(f"{n} of {self.shards(split)} in {split}" for split, n in missing.items() if n)
            raise C3Error(
                f"{self.path} is not complete: shards pending: {parts}. Continue with the same c3 extract command"
            )

    def write_shard(self, split: str, shard: int, maps: Mapping[str, np.ndarray], status: np.ndarray) -> None:
        """Write one whole shard: `maps[level]` is (rows, channels, 7, 7) float16, `status` (rows,) uint8."""
        rows = self.shard_rows(split, shard)
        where = slice(rows.start, rows.stop)
        for level in self.levels:
            expected = (len(rows), level.channels, GRID, GRID)
            if maps[level.name].shape != expected or maps[level.name].dtype != np.float16:
                found = (maps[level.name].shape, str(maps[level.name].dtype))
                raise ValueError(f"{split}/pyramid/{level.name}: expected {expected} float16, found {found}")
            self._array(split, f"pyramid/{level.name}")[where] = maps[level.name]
        self._array(split, "status")[where] = status
        self._array(split, "done")[shard] = 1

    def read(self, split: str, level: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of one level, (stop - start, channels, 7, 7) float16.

        Raises C3Error naming the shard when one is pending, lost or damaged: zeros are never made up.
        """
        array = self._array(split, f"pyramid/{level}")
        for shard in range(start // self.layout.shard_rows, -(-stop // self.layout.shard_rows)):
            if not (self.path / array.path / "c" / f"{shard}/0/0/0").exists():
                raise C3Error(
                    f"{self.path}: shard {shard} of {array.path} is missing; extract it again with --overwrite"
                )
        try:
            return array[start:stop]
        except (ValueError, RuntimeError) as error:  # checksum mismatch, or a codec that cannot decode
            shards = f"{start // self.layout.shard_rows}..{(stop - 1) // self.layout.shard_rows}"
            raise C3Error(f"{self.path}: shard {shards} of {array.path} is damaged ({error})") from error

    def _array(self, split: str, name: str) -> zarr.Array:
        self.rows(split)
        key = f"{split}/{name}"
        if key not in self._arrays:
            self._arrays[key] = self._group[key].with_config(ALWAYS_STORE)
        return self._arrays[key]


def _write_classes(group: zarr.Group, classes: Classes) -> None:
    group.create_array("name", data=np.array(classes.names, dtype=np.dtypes.StringDType()))
    group.create_array("seen", data=np.asarray(classes.seen, dtype=bool))
    group.create_array("vector", data=np.asarray(classes.vectors, dtype=np.float32))


def _write_rows(group: zarr.Group, rows: Rows, levels: tuple[Level, ...], layout: Layout) -> None:
    count = len(rows)
    shards = -(-count // layout.shard_rows)
    group.create_array("image_id", data=np.array(rows.image_id, dtype=np.dtypes.StringDType()))
    group.create_array("crop", data=np.asarray(rows.crop, dtype=np.float32))
    for name, values in (
        ("indptr", rows.labels.indptr),
        ("indices", rows.labels.indices),
        ("value", rows.labels.value),
    ):
        group.create_array(f"labels/{name}", data=values)
    group.create_array("status", shape=(count,), chunks=(layout.shard_rows,), dtype="uint8")
    group.create_array("done", shape=(shards,), chunks=(1,), dtype="uint8")
    for level in levels:
        cell = (level.channels, GRID, GRID)
        group.create_array(
            f"pyramid/{level.name}",
            shape=(count, *cell),
            shards=(layout.shard_rows, *cell),
            chunks=(layout.chunk_rows, *cell),
            dtype="float16",
            compressors=[ZstdCodec(level=1), Crc32cCodec()],
            config=ALWAYS_STORE,
        )
