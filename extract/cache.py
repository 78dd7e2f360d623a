"""CONTRACT 1: `features.zarr`, the self-contained store of pooled feature maps. numpy and zarr only, no torch.

The layout is described in docs/cache-format.md. A store is created whole (classes, labels, row tables, empty maps) and
then filled shard by shard: the maps and statuses of a shard first, its `done` flag last. The flag alone says that a
shard exists, because Zarr reads a chunk that has no file as zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ..errors import C3Error
from . import quantise
from .layout import GRID, Layout, Level
from .maps import LevelMaps, ShardScales
from .reader import ChunkReader, LevelFiles
from .rows import Classes, Rows, SparseLabels
from .skeleton import ALWAYS_STORE, KIND, SCHEMA, arrays_of, create_store, open_store
from .storage import Storage, remedy

__all__ = ["GRID", "SCHEMA", "Classes", "FeatureCache", "Layout", "Level", "Rows", "SparseLabels", "Status"]


class Status(IntEnum):
    """What became of a row. Anything but OK has a zero map and is masked when read."""

    PENDING = 0
    OK = 1
    MISSING = 2
    UNREADABLE = 3
    EMPTY = 4
    TOO_SMALL = 5


class FeatureCache:
    """An open `features.zarr`. Use `FeatureCache.open` or `FeatureCache.create`; a path or any fsspec URL."""

    def __init__(self, storage: Storage, group: zarr.Group) -> None:
        self.storage = storage
        self.location = storage.location
        self._group = group
        self._arrays: dict[str, zarr.Array] = {}
        self._maps: dict[tuple[str, str], LevelMaps] = {}
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
        notes: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> FeatureCache:
        """Create a store with every row pending. A local one appears under `path` whole or not at all.

        `config` is everything that decides the values in the store; a later request that differs is refused. `notes`
        are facts about the data set that evaluation may use.
        """
        attrs = {
            "schema": SCHEMA,
            "kind": KIND,
            "config": dict(config),
            "provenance": dict(provenance),
            "notes": dict(notes or {}),
            "levels": [vars(level) for level in levels],
            "layout": vars(layout),
            "splits": {name: len(rows) for name, rows in splits.items()},
        }
        create_store(path, attrs, arrays_of(levels, layout, classes, splits), overwrite)
        return cls.open(path, mode="r+")

    @classmethod
    def open(cls, path: str | Path, mode: str = "r") -> FeatureCache:
        """Open a store for reading (`r`) or for filling (`r+`).

        Raises C3Error when the path is missing, is something else, is damaged, or has another schema version.
        """
        return cls(*open_store(path, mode))

    def require_config(self, config: Mapping[str, Any]) -> None:
        """Refuse to go on with a store that was made by another request; shows both values of what differs."""
        requested = json.loads(json.dumps(dict(config)))
        differing = [key for key in requested | self.config if requested.get(key) != self.config.get(key)]
        if differing:
            shown = "; ".join(
                f"{key}: store {self.config.get(key)!r}, request {requested.get(key)!r}" for key in differing
            )
            hint = ". New images or splits are added with --append" if differing == ["manifest_sha256"] else ""
            raise C3Error(
                f"{self.location} was made by another request ({shown}){hint}. Give another --out, or --overwrite"
            )

    # -- what is in it -----------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The folder of a store on this machine; one elsewhere has only its `location`."""
        return Path(self.location)

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
        name, seen, vector = (self._table("classes", name) for name in ("name", "seen", "vector"))
        return Classes(tuple(name.tolist()), seen, vector)

    def rows(self, split: str) -> int:
        """The number of rows of a split; an unknown split is refused."""
        if split not in self.splits:
            raise C3Error(f"{self.location} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.attrs["splits"][split]

    def table(self, split: str) -> Rows:
        """The whole row table of a split: image ids, crops and labels."""
        return Rows(self.image_ids(split), self._table(split, "crop"), self.labels(split))

    def image_ids(self, split: str) -> np.ndarray:
        """(rows,) text; the crops of one image share its id."""
        return self._table(split, "image_id")

    def labels(self, split: str) -> SparseLabels:
        """The labels of every row, sparse."""
        return SparseLabels(*(self._table(split, f"labels/{name}") for name in ("indptr", "indices", "value")))

    def status(self, split: str) -> np.ndarray:
        """(rows,) uint8, values of `Status`."""
        return self._table(split, "status")

    # -- shards ------------------------------------------------------------------------------------------------------

    def shards(self, split: str) -> int:
        return -(-self.rows(split) // self.layout.shard_rows)

    def shard_rows(self, split: str, shard: int) -> range:
        start = shard * self.layout.shard_rows
        return range(start, min(start + self.layout.shard_rows, self.rows(split)))

    def pending(self, split: str) -> list[int]:
        """The shards that are not written yet, in order."""
        done = {int(name) for name in self.storage.names(f"{split}/done/c") if name.isdigit()}
        return [shard for shard in range(self.shards(split)) if shard not in done]

    def is_done(self, split: str, shard: int) -> bool:
        """Whether a shard is written, as of now."""
        try:
            self.storage.read(f"{split}/done/c/{shard}")
        except FileNotFoundError:
            return False
        return True

    def require_complete(self) -> None:
        """Refuse a store whose extraction has not finished, or that has lost what became of its rows."""
        missing = {split: len(self.pending(split)) for split in self.splits}
        if any(missing.values()):
            parts = ", ".join(f"{n} of {self.shards(split)} in {split}" for split, n in missing.items() if n)
            raise C3Error(
                f"{self.location} is not complete: shards pending: {parts}. Continue with the same c3 extract command"
            )
        lost = [split for split in self.splits if not self.status(split).all()]
        if lost:
            raise C3Error(f"{self.location}: {lost[0]}/status has lost the status of finished rows; {self._remedy}")

    def claim(self, split: str, shard: int) -> AbstractContextManager[bool]:
        """Hold the right to write a shard; gives False while another process of this file system holds it."""
        before = self.splits[: self.splits.index(split)]
        return self.storage.claim(sum(self.shards(other) for other in before) + shard)

    def write_shard(self, split: str, shard: int, maps: Mapping[str, np.ndarray], status: np.ndarray) -> None:
        """Write one whole shard: `maps[level]` (rows, channels, 7, 7) float16 or float32, `status` (rows,) uint8.

        float32 is for values beyond float16. What the shard held before is replaced.
        """
        rows = self.shard_rows(split, shard)
        where = slice(rows.start, rows.stop)
        for level in self.levels:
            expected = (len(rows), level.channels, GRID, GRID)
            found = (maps[level.name].shape, str(maps[level.name].dtype))
            if found[0] != expected or found[1] not in ("float16", "float32"):
                raise ValueError(f"{split}/pyramid/{level.name}: expected {expected} float16, found {found}")
        encoded = {level.name: quantise.encode(maps[level.name], self.layout.dtype) for level in self.levels}
        self.forget_shard(split, shard)
        for number, (name, (stored, scale)) in enumerate(encoded.items()):
            self._array(split, f"pyramid/{name}")[where] = stored
            if quantise.is_wide(scale, self.layout.dtype):
                self._array(split, "wide")[number] = 1
        self._array(split, "scale")[shard] = np.concatenate([scale for _, scale in encoded.values()])
        self._array(split, "status")[where] = status
        self.storage.flush(self.shard_keys(split, shard))
        self._array(split, "done")[shard] = 1
        self.storage.flush([f"{split}/done/c/{shard}"])

    def forget_shard(self, split: str, shard: int) -> None:
        """Make a shard pending again. The flag goes first, so that what is left is never taken for finished."""
        self._maps.clear()  # readers remember where the chunks of a shard were
        self.storage.delete(f"{split}/done/c/{shard}")
        self.storage.delete(f"{split}/status/c/{shard}")
        for folder in (f"{split}/scale/c", *(f"{split}/pyramid/{level.name}/c" for level in self.levels)):
            self.storage.delete_folder(f"{folder}/{shard}")

    def shard_keys(self, split: str, shard: int) -> list[str]:
        """The files of a shard but for its flag."""
        maps = [f"{split}/pyramid/{level.name}/c/{shard}/0/0/0" for level in self.levels]
        return [*maps, f"{split}/scale/c/{shard}/0/0", f"{split}/status/c/{shard}"]

    # -- maps --------------------------------------------------------------------------------------------------------

    def maps(self, split: str, level: str) -> LevelMaps:
        """The maps of one level, (rows, channels, 7, 7), read when indexed; what dask and numpy take as an array."""
        if (split, level) not in self._maps:
            names = [known.name for known in self.levels]
            if level not in names:
                raise C3Error(f"{self.location} has no level {level!r}; it has {', '.join(names)}")
            self._maps[split, level] = self._open_maps(split, names.index(level))
        return self._maps[split, level]

    def read(self, split: str, level: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of one level, (stop - start, channels, 7, 7) float16 (float32 where values need it).

        Raises C3Error naming the shard when one is pending, lost or damaged: zeros are never made up.
        """
        return self.maps(split, level)[start:stop]

    def _open_maps(self, split: str, number: int) -> LevelMaps:
        level = self.levels[number]
        codec = self.layout.codec_of(level, self.levels)
        files = LevelFiles(self.storage, f"{split}/pyramid/{level.name}", level, codec, self.layout, self.rows(split))
        width = [other.channels if self.layout.dtype == "int8" else 1 for other in self.levels]
        place = slice(sum(width[:number]), sum(width[: number + 1]))
        wide = bool(self._table(split, "wide")[number])
        scales = ShardScales(files, lambda shard: self._read(split, "scale", shard)[place], wide)
        return LevelMaps(ChunkReader(files), scales)

    def _table(self, split: str, name: str) -> np.ndarray:
        return self._read(split, name, slice(None))

    def _read(self, split: str, name: str, where: Any) -> np.ndarray:
        try:
            return self._array(split, name)[where]
        except (ValueError, RuntimeError) as error:  # checksum mismatch, or a codec that cannot decode
            raise C3Error(f"{self.location}: {split}/{name} is damaged ({error}); {self._remedy}") from error

    @property
    def _remedy(self) -> str:
        return remedy(self.storage)

    def _array(self, split: str, name: str) -> zarr.Array:
        if split != "classes":
            self.rows(split)
        key = f"{split}/{name}"
        if key not in self._arrays:
            self._arrays[key] = self._group[key].with_config(ALWAYS_STORE)
        return self._arrays[key]
