"""CONTRACT 1: `features.zarr`, the self-contained store of backbone features. numpy and zarr only, no torch.

docs/cache-format.md describes the layout. A store is created whole (classes, labels, row tables, empty maps) and then
filled shard by shard (shards.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import IntEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import zarr

from ...common.errors import C3Error, SettingError
from ...common.parsing import to_json
from .arrays import StoredArray, open_array
from .attributes import Attributes
from .create import create_store, store_arrays
from .layout import FeatureArray, Layout
from .open import OpenMode, open_store
from .origin import FeatureOrigin, Notes, Provenance, differing_settings
from .shards import Shards
from .storage import Storage, open_storage
from .tables import Classes, Rows, SparseLabels, absent_label, unknown_paths
from .texts import Texts
from .zarr_arrays import ZarrArrays


class Status(IntEnum):
    """What became of a row. Anything but OK has a zero map and is masked when read."""

    PENDING = 0
    OK = 1
    MISSING = 2
    UNREADABLE = 3
    EMPTY = 4
    TOO_SMALL = 5


class FeatureCache:
    """An open `features.zarr`. Use `FeatureCache.open` or `FeatureCache.create`, with a path or any fsspec URL.

    `attributes` hold all that it says of itself, `shape` its splits and shards in numbers; `shard_files` write them.
    """

    def __init__(self, storage: Storage, group: zarr.Group, attributes: Attributes) -> None:
        self.storage, self.group = storage, group
        self.attributes = attributes
        self.shape = attributes.shape(storage.location)
        self._arrays = ZarrArrays(storage, group)
        self.shard_files = Shards(storage, self._arrays, self.shape)
        self._maps: dict[tuple[str, str], StoredArray] = {}  # readers, which remember where the chunks of a shard are

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        origin: FeatureOrigin,
        provenance: Provenance,
        levels: tuple[FeatureArray, ...],
        classes: Classes,
        splits: Mapping[str, Rows],
        layout: Layout = Layout(),
        notes: Notes = Notes(),
        overwrite: bool = False,
    ) -> FeatureCache:
        """Create a store with every row pending. A local one appears under `path` whole or not at all.

        `levels` are those of the pyramid and then the extras, if any.
        """
        rows = {name: len(table) for name, table in splits.items()}
        attributes = Attributes(origin, provenance, notes, levels, layout, rows)
        create_store(path, attributes, store_arrays(attributes, classes, splits), overwrite)
        return cls.open(path, mode="r+")

    @classmethod
    def open(cls, path: str | Path, mode: OpenMode = "r") -> FeatureCache:
        """Open a store for reading (`r`) or for filling (`r+`).

        Raises NotFound when there is nothing at the path, and C3Error when it is something else, is damaged, or has a
        schema version that this c3 does not read.
        """
        return cls(*open_store(path, mode))

    @classmethod
    def begun(cls, path: str | Path, origin: FeatureOrigin) -> FeatureCache | None:
        """Open the store that an earlier, stopped command with the same request made, for filling; None without one.

        Raises SettingError when the store at the path was made by another request.
        """
        if not open_storage(path).exists():
            return None
        made = cls.open(path, mode="r+")
        made.require_origin(origin, "Give another --out, or remove the store")
        return made

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """The path or URL as it was given; it stands in messages."""
        return self.storage.location

    @property
    def path(self) -> Path:
        """The folder of a store on this machine; a remote one has only its `location`."""
        return Path(self.location)

    @property
    def schema(self) -> int:
        """The version of the format: 2 or 3."""
        return self.attributes.schema

    @property
    def origin(self) -> FeatureOrigin:
        """What decides the values."""
        return self.attributes.origin

    @property
    def provenance(self) -> Provenance:
        """Who made it, when and from what."""
        return self.attributes.provenance

    @property
    def notes(self) -> Notes:
        """Facts about the data set that evaluation may use."""
        return self.attributes.notes

    @property
    def layout(self) -> Layout:
        """How rows are cut into chunks and shards, and packed."""
        return self.attributes.layout

    @property
    def arrays(self) -> tuple[FeatureArray, ...]:
        """All arrays of features: levels, then extras."""
        return self.attributes.arrays

    @property
    def levels(self) -> tuple[FeatureArray, ...]:
        """The levels of the pyramid, finest first."""
        return tuple(array for array in self.arrays if array.pooled)

    @property
    def extras(self) -> tuple[FeatureArray, ...]:
        """The optional arrays, `regions` and `global`."""
        return tuple(array for array in self.arrays if not array.pooled)

    @property
    def absent_label(self) -> int:
        """The value of a label that is not listed: -1 or 0."""
        return absent_label(self.origin.labelling)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the content; see `Attributes.digest`."""
        return self.attributes.digest

    def require_origin(self, origin: FeatureOrigin, remedy: str = "", grown: str = "") -> None:
        """Refuse to go on with a store that was made by another request; the error shows both values.

        `remedy` says what to do, and `grown` what to do where only the rows or classes are others.
        """
        differing = differing_settings(to_json(self.origin), to_json(origin))
        if differing:
            hints = [grown if list(differing) == ["manifest_sha256"] else "", remedy]
            raise SettingError(
                f"{self.location} was made by another request ({'; '.join(differing.values())})"
                + "".join(f". {hint}" for hint in hints if hint)
            )

    # -- classes and rows ----------------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> Classes:
        """Names, seen or unseen, and word vectors as read."""
        name, seen, vector = (self._arrays.table(f"classes/{part}") for part in ("name", "seen", "vector"))
        return Classes(tuple(name.tolist()), seen, vector)

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in order."""
        return self.shape.splits

    def rows(self, split: str) -> int:
        """Return the number of rows of a split. Raises NotFound for an unknown split."""
        return self.shape.rows(split)

    def table(self, split: str) -> Rows:
        """Return the whole row table of a split: image ids, crops, labels and paths."""
        return Rows(
            Texts.of(self.image_ids(split)), self.crops(split), self.labels(split), Texts.of(self.image_paths(split))
        )

    def image_ids(self, split: str) -> np.ndarray:
        """Return (rows,) text; the crops of one image share its id."""
        return self._table(split, "image_id")

    def image_paths(self, split: str) -> np.ndarray:
        """Return (rows,) text: where each image is, relative to the images root.

        Empty where that is unknown, and everywhere in a store of version 2 (`c3 migrate` finds the paths).
        """
        return self._table(split, "image_path") if self.schema > 2 else unknown_paths(self.rows(split))

    def crops(self, split: str) -> np.ndarray:
        """Return (rows, 4) float32: x0, y0, x1, y1 in 0..1."""
        return self._table(split, "crop")

    def labels(self, split: str) -> SparseLabels:
        """Return the labels of every row, sparse."""
        return SparseLabels(*(self._table(split, f"labels/{name}") for name in ("indptr", "indices", "value")))

    def label_values(self, split: str) -> np.ndarray:
        """Return (entries,) int8: +1 or -1 for every listed label of a split."""
        return self._table(split, "labels/value")

    def status(self, split: str, rows: range | None = None) -> np.ndarray:
        """Return (rows,) uint8, values of `Status`: of all rows of a split, or of neighbouring ones."""
        rows = range(self.rows(split)) if rows is None else rows
        return self._arrays.read(f"{split}/status", slice(rows.start, rows.stop))

    def status_digest(self, split: str) -> str:
        """Return sixteen hex digits that name what became of the rows of a split; other ones after a retry.

        They are made of the files as they are: a tenth of the time of `status`, where there are thousands of shards.
        """
        found = hashlib.sha256()
        for shard in range(self.shards(split)):
            try:
                found.update(self.storage.read(f"{split}/status/c/{shard}"))
            except FileNotFoundError:  # pending
                found.update(b"pending")
        return found.hexdigest()[:16]

    def require_complete(self) -> None:
        """Refuse a store whose extraction has not finished, or that has lost what became of its rows."""
        missing = {split: len(self.pending(split)) for split in self.splits}
        if any(missing.values()):
            parts = ", ".join(f"{n} of {self.shards(split)} in {split}" for split, n in missing.items() if n)
            raise C3Error(
                f"{self.location} is not complete: shards pending: {parts}. Continue with the command that made it"
            )
        lost = [split for split in self.splits if not self.status(split).all()]
        if lost:
            raise self.storage.damaged(f"{lost[0]}/status has lost the status of finished rows")

    def _table(self, split: str, name: str) -> np.ndarray:
        self.rows(split)  # refuses an unknown split
        return self._arrays.table(f"{split}/{name}")

    # -- maps ----------------------------------------------------------------------------------------------------------

    def maps(self, split: str, name: str) -> StoredArray:
        """Return one array, which is read when it is indexed; dask and numpy take it as an array.

        (rows, channels, 7, 7) of a level, (rows, channels, 14, 14) of `regions`, (rows, width) of `global`.
        """
        if (split, name) not in self._maps:
            self._maps[split, name] = open_array(self.storage, self._arrays, self.shape, split, name)
        return self._maps[split, name]

    def take(self, split: str, name: str, rows: np.ndarray) -> np.ndarray:
        """Return rows (n,) of one array by number, in any order, (n, *cell) float16 (float32 where values need it)."""
        return self.maps(split, name)[rows]

    def read(self, split: str, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows start..stop of one array, (stop - start, *cell) float16 (float32 where values need it).

        Raises StoreDamaged naming the shard when one is pending, lost or damaged: zeros are never made up.
        """
        return self.maps(split, name)[start:stop]

    # -- shards --------------------------------------------------------------------------------------------------------

    def shards(self, split: str) -> int:
        """Return the number of shards of a split."""
        return self.shape.shards(split)

    def shard_rows(self, split: str, shard: int) -> range:
        """Return the row numbers of a shard."""
        return self.shape.shard_rows(split, shard)

    def finished(self, split: str) -> list[int]:
        """Return the shards that are written, in order."""
        return self.shard_files.finished(split)

    def pending(self, split: str) -> list[int]:
        """Return the shards that are not written yet, in order."""
        return self.shard_files.pending(split)

    def is_done(self, split: str, shard: int) -> bool:
        """Return whether a shard is written, as of now."""
        return self.shard_files.is_done(split, shard)

    def done_flag(self, split: str, shard: int) -> int:
        """Return the value of a shard's flag: 1 when it is written."""
        return int(self._arrays.read(f"{split}/done", shard))

    def claim(self, split: str, shard: int) -> AbstractContextManager[bool]:
        """Hold the right to write a shard; see `Shards.claim`."""
        return self.shard_files.claim(split, shard)

    def write_shard(self, split: str, shard: int, maps: Mapping[str, np.ndarray], status: np.ndarray) -> None:
        """Write one whole shard; see `Shards.write`."""
        self._maps.clear()
        self.shard_files.write(split, shard, maps, status)

    def adopt_shard(self, split: str, shard: int, source: FeatureCache, source_shard: int) -> None:
        """Take over a finished shard of another store; see `Shards.adopt`."""
        self.shard_files.adopt(split, shard, source.storage, source.shape, source_shard)
