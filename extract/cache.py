"""CONTRACT 1: `features.zarr`, the self-contained store of backbone features. numpy and zarr only, no torch.

The layout is described in docs/cache-format.md. A store is created whole (classes, labels, row tables, empty maps) and
then filled shard by shard: the maps and statuses of a shard first, its `done` flag last. The flag alone says that a
shard exists, because Zarr reads a chunk that has no file as zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import C3Error
from .layout import GRID, REGIONS, VECTOR, Layout, Level
from .maps import LevelMaps, ShardScales
from .reader import ChunkReader, LevelFiles
from .rows import Classes, Rows, SparseLabels, absent_label
from .shards import ShardStore, Status
from .skeleton import KIND, SCHEMA, arrays_of, create_store, open_store
from .storage import open_storage

__all__ = ["GRID", "REGIONS", "SCHEMA", "VECTOR", "Classes", "FeatureCache", "Layout", "Level", "Rows", "SparseLabels",
           "Status"]  # fmt: skip


class FeatureCache(ShardStore):
    """An open `features.zarr`. Use `FeatureCache.open` or `FeatureCache.create`; a path or any fsspec URL."""

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

        `config` is everything that decides the values in the store; a later request that differs is refused. `levels`
        are those of the pyramid and then the extras, if any. `notes` are facts about the data set that evaluation may
        use.
        """
        attrs = {
            "schema": SCHEMA,
            "kind": KIND,
            "config": dict(config),
            "provenance": dict(provenance),
            "notes": dict(notes or {}),
            "levels": [level.record() for level in levels],
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

    @staticmethod
    def exists(path: str | Path) -> bool:
        """Whether there is anything at a path or URL."""
        return open_storage(path).exists()

    def require_config(self, config: Mapping[str, Any]) -> None:
        """Refuse to go on with a store that was made by another request; shows both values of what differs."""
        differing = differing_settings(self.config, config)
        if differing:
            hint = ". New images or splits are added with --append" if list(differing) == ["manifest_sha256"] else ""
            raise C3Error(
                f"{self.location} was made by another request ({'; '.join(differing.values())}){hint}. "
                "Give another --out, or --overwrite"
            )

    # -- what is in it -----------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The folder of a store on this machine; one elsewhere has only its `location`."""
        return Path(self.location)

    @property
    def labelling(self) -> str:
        """`complete`: an absent label is negative. `verified`: an absent label is unknown."""
        return self.config["labelling"]

    @property
    def absent_label(self) -> int:
        """The value of a label that is not listed."""
        return absent_label(self.labelling)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the content: the config (weights, manifest, transform) and the levels."""
        return content_digest(self.config, self.attrs["levels"], self.attrs["splits"])

    @cached_property
    def classes(self) -> Classes:
        name, seen, vector = (self._table("classes", name) for name in ("name", "seen", "vector"))
        return Classes(tuple(name.tolist()), seen, vector)

    def table(self, split: str) -> Rows:
        """The whole row table of a split: image ids, crops and labels."""
        return Rows(self.image_ids(split), self.crops(split), self.labels(split))

    def image_ids(self, split: str) -> np.ndarray:
        """(rows,) text; the crops of one image share its id."""
        return self._table(split, "image_id")

    def crops(self, split: str) -> np.ndarray:
        """(rows, 4) float32: x0, y0, x1, y1 in 0..1."""
        return self._table(split, "crop")

    def labels(self, split: str) -> SparseLabels:
        """The labels of every row, sparse."""
        return SparseLabels(*(self._table(split, f"labels/{name}") for name in ("indptr", "indices", "value")))

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

    # -- maps --------------------------------------------------------------------------------------------------------

    def maps(self, split: str, name: str) -> LevelMaps:
        """One array, read when indexed; what dask and numpy take as an array.

        (rows, channels, 7, 7) of a level, (rows, channels, 14, 14) of `regions`, (rows, width) of `global`.
        """
        if (split, name) not in self._maps:
            names = [array.name for array in self.arrays]
            if name not in names:
                raise C3Error(f"{self.location} has no array {name!r}; it has {', '.join(names)}")
            self._maps[split, name] = self._open_maps(split, names.index(name))
        return self._maps[split, name]

    def read(self, split: str, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of one array, (stop - start, *cell) float16 (float32 where values need it); see `maps`.

        Raises C3Error naming the shard when one is pending, lost or damaged: zeros are never made up.
        """
        return self.maps(split, name)[start:stop]

    def _open_maps(self, split: str, number: int) -> LevelMaps:
        level = self.arrays[number]
        codec = self.layout.codec_of(level, self.arrays)
        files = LevelFiles(self.storage, split, level, codec, self.layout, self.rows(split))
        place = self._scale_places[number]
        wide = bool(self.wide_arrays(split)[number])
        scales = ShardScales(files, lambda shard: self._read(split, "scale", shard)[place], wide)
        return LevelMaps(ChunkReader(files), scales)


def content_digest(config: Mapping[str, Any], levels: Sequence[Mapping[str, Any]], splits: Mapping[str, int]) -> str:
    """The digest of a store with this config, these records of arrays and so many rows, whether it exists or not."""
    content = json.dumps([config, levels, splits], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def differing_settings(
    store: Mapping[str, Any], request: Mapping[str, Any], holder: str = "store"
) -> dict[str, str]:
    """Name -> both values in words, for every setting that differs between what a `holder` has and a request."""
    request = json.loads(json.dumps(dict(request)))
    return {
        key: f"{key}: {holder} {store.get(key)!r}, request {request.get(key)!r}"
        for key in request | dict(store)
        if request.get(key) != store.get(key)
    }
