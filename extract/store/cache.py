"""CONTRACT 1: `features.zarr`, the self-contained store of backbone features. numpy and zarr only, no torch.

The layout is described in docs/cache-format.md. A store is created whole (classes, labels, row tables, empty maps) and
then filled shard by shard: the maps and statuses of a shard first, its `done` flag last. The flag alone says that a
shard exists, because Zarr reads a chunk that has no file as zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from ...common.errors import C3Error, NotFound, StoreDamaged
from ...common.records import Json
from . import quantise
from .arrays import ArrayFiles, ChunkReader, ShardScales, StoredArray
from .create import ALWAYS_STORE, KIND, SCHEMA, arrays_of, create_store, open_store
from .layout import FeatureArray, Layout
from .origin import FeatureOrigin, Notes, Provenance, differing_settings
from .storage import Storage, open_storage, remedy
from .tables import Classes, Rows, SparseLabels, absent_label, unknown_paths


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
        self._opened: dict[str, zarr.Array] = {}
        self._maps: dict[tuple[str, str], StoredArray] = {}  # readers, which remember where the chunks of a shard are
        self._attributes: dict[str, Any] = dict(group.attrs)
        self.schema: int = self._attributes["schema"]
        self.origin = FeatureOrigin.parse(self._attributes["config"], self.location)
        self.provenance = Provenance.parse(self._attributes["provenance"], self.location)
        self.notes = Notes.parse(self._attributes["notes"], self.location)
        self.row_counts: Mapping[str, int] = self._attributes["splits"]
        self.arrays = tuple(FeatureArray(**record) for record in self._attributes["levels"])
        self.levels = tuple(array for array in self.arrays if array.pooled)
        self.extras = tuple(array for array in self.arrays if not array.pooled)
        self.layout = Layout(**self._attributes["layout"])

    # -- making and opening ------------------------------------------------------------------------------------------

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
        attrs = {
            "schema": SCHEMA,
            "kind": KIND,
            "config": origin.record(),
            "provenance": provenance.record(),
            "notes": notes.record(),
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

    def require_origin(self, origin: FeatureOrigin) -> None:
        """Refuse to go on with a store that was made by another request; the error shows both values."""
        differing = differing_settings(self.origin.record(), origin.record())
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
        return self.origin.labelling

    @property
    def absent_label(self) -> int:
        """The value of a label that is not listed."""
        return absent_label(self.labelling)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the content: the origin (weights, manifest, transform), arrays and rows."""
        return content_digest(self.origin, self.arrays, self.row_counts)

    @cached_property
    def classes(self) -> Classes:
        name, seen, vector = (self._table("classes", name) for name in ("name", "seen", "vector"))
        return Classes(tuple(name.tolist()), seen, vector)

    def table(self, split: str) -> Rows:
        """The whole row table of a split: image ids, crops and labels."""
        return Rows(self.image_ids(split), self.crops(split), self.labels(split), self.image_paths(split))

    def image_ids(self, split: str) -> np.ndarray:
        """(rows,) text; the crops of one image share its id."""
        return self._table(split, "image_id")

    def image_paths(self, split: str) -> np.ndarray:
        """Return (rows,) text: where each image is, relative to the images root; empty where that is unknown."""
        return unknown_paths(self.rows(split))

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
            raise StoreDamaged(self.location, f"{lost[0]}/status has lost the status of finished rows", self._remedy)

    # -- shards --------------------------------------------------------------------------------------------------------

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.row_counts)

    def rows(self, split: str) -> int:
        """The number of rows of a split; an unknown split is refused."""
        if split not in self.splits:
            raise NotFound(f"{self.location} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.row_counts[split]

    def shards(self, split: str) -> int:
        return -(-self.rows(split) // self.layout.shard_rows)

    def shard_rows(self, split: str, shard: int) -> range:
        start = shard * self.layout.shard_rows
        return range(start, min(start + self.layout.shard_rows, self.rows(split)))

    def finished(self, split: str) -> list[int]:
        """The shards that are written, in order."""
        flags = (int(name) for name in self.storage.names(f"{split}/done/c") if name.isdigit())
        return sorted(shard for shard in flags if shard < self.shards(split))

    def pending(self, split: str) -> list[int]:
        """The shards that are not written yet, in order."""
        return sorted(set(range(self.shards(split))).difference(self.finished(split)))

    def is_done(self, split: str, shard: int) -> bool:
        """Whether a shard is written, as of now."""
        try:
            self.storage.read(f"{split}/done/c/{shard}")
        except FileNotFoundError:
            return False
        return True

    def status(self, split: str, rows: range | None = None) -> np.ndarray:
        """(rows,) uint8, values of `Status`: of all rows of a split, or of neighbouring ones."""
        return self._read(split, "status", slice(None) if rows is None else slice(rows.start, rows.stop))

    def done_flag(self, split: str, shard: int) -> int:
        """The value of a shard's flag: 1 when it is written."""
        return int(self._read(split, "done", shard))

    def wide_arrays(self, split: str) -> np.ndarray:
        """(arrays,) bool: whether any shard of an array holds values beyond float16."""
        return self._table(split, "wide").astype(bool)

    def mend_wide(self, split: str) -> None:
        """Write `wide_arrays` again from the scales of the finished shards."""
        self._maps.clear()
        self.storage.delete_folder(f"{split}/wide/c")
        for shard in self.finished(split):
            self._note_wide(split, self._read(split, "scale", shard))

    def claim(self, split: str, shard: int) -> AbstractContextManager[bool]:
        """Hold the right to write a shard; gives False while another process of this file system holds it."""
        before = self.splits[: self.splits.index(split)]
        return self.storage.claim(sum(self.shards(other) for other in before) + shard)

    def write_shard(self, split: str, shard: int, maps: Mapping[str, np.ndarray], status: np.ndarray) -> None:
        """Write one whole shard: `maps[name]` (rows, *cell) float16 or float32 of every array, `status` (rows,) uint8.

        float32 is for values beyond float16. What the shard held before is replaced.
        """
        rows = self.shard_rows(split, shard)
        where = slice(rows.start, rows.stop)
        for array in self.arrays:
            expected = (len(rows), *array.cell)
            found = (maps[array.name].shape, str(maps[array.name].dtype))
            if found[0] != expected or found[1] not in ("float16", "float32"):
                raise ValueError(f"{split}/{array.path}: expected {expected} float16, found {found}")
        encoded = {array.path: quantise.encode(maps[array.name], self.layout.dtype) for array in self.arrays}
        self.forget_shard(split, shard)
        for path, (stored, _) in encoded.items():
            self._array(split, path)[where] = stored
        scale = np.concatenate([scale for _, scale in encoded.values()])
        self._array(split, "scale")[shard] = scale
        self._note_wide(split, scale)
        self._array(split, "status")[where] = status
        self.storage.flush(self.shard_keys(split, shard))
        self._array(split, "done")[shard] = 1
        self.storage.flush([f"{split}/done/c/{shard}"])

    def forget_shard(self, split: str, shard: int) -> None:
        """Make a shard pending again. The flag goes first, so that what is left is never taken for finished."""
        self._maps.clear()
        self.storage.delete(f"{split}/done/c/{shard}")
        self.storage.delete(f"{split}/status/c/{shard}")
        for folder in (f"{split}/scale/c", *(f"{split}/{array.path}/c" for array in self.arrays)):
            self.storage.delete_folder(f"{folder}/{shard}")

    def adopt_shard(self, split: str, shard: int, source: FeatureCache, source_shard: int) -> None:
        """Take over a finished shard of a store of the same arrays and layout, as files, its flag last."""
        for key, theirs in zip(self.shard_keys(split, shard), source.shard_keys(split, source_shard), strict=True):
            self.storage.adopt(source.storage, theirs, key)
        self._note_wide(split, self._read(split, "scale", shard))
        self.storage.adopt(source.storage, f"{split}/done/c/{source_shard}", f"{split}/done/c/{shard}")

    def shard_keys(self, split: str, shard: int) -> list[str]:
        """The files of a shard but for its flag."""
        maps = [f"{split}/{array.shard_path(shard)}" for array in self.arrays]
        return [*maps, f"{split}/scale/c/{shard}/0/0", f"{split}/status/c/{shard}"]

    def _note_wide(self, split: str, scale: np.ndarray) -> None:
        for number, place in enumerate(self._scale_places):
            if quantise.is_wide(scale[place], self.layout.dtype):
                self._array(split, "wide")[number] = 1

    @cached_property
    def _scale_places(self) -> list[slice]:
        """Where the steps and offsets of each array are among those of a shard."""
        ends = np.cumsum([array.channels if self.layout.dtype == "int8" else 1 for array in self.arrays])
        return [slice(start, end) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]

    def _table(self, split: str, name: str) -> np.ndarray:
        return self._read(split, name, slice(None))

    def _read(self, split: str, name: str, where: Any) -> np.ndarray:
        try:
            return self._array(split, name)[where]
        except (ValueError, RuntimeError) as error:  # checksum mismatch, or a codec that cannot decode
            raise StoreDamaged(self.location, f"{split}/{name} is damaged ({error})", self._remedy) from error

    @property
    def _remedy(self) -> str:
        return remedy(self.storage)

    def _array(self, split: str, name: str) -> zarr.Array:
        if split != "classes":
            self.rows(split)
        key = f"{split}/{name}"
        if key not in self._opened:
            self._opened[key] = self._group[key].with_config(ALWAYS_STORE)
        return self._opened[key]

    # -- maps --------------------------------------------------------------------------------------------------------

    def maps(self, split: str, name: str) -> StoredArray:
        """One array, read when indexed; what dask and numpy take as an array.

        (rows, channels, 7, 7) of a level, (rows, channels, 14, 14) of `regions`, (rows, width) of `global`.
        """
        if (split, name) not in self._maps:
            names = [array.name for array in self.arrays]
            if name not in names:
                raise NotFound(f"{self.location} has no array {name!r}; it has {', '.join(names)}")
            self._maps[split, name] = self._open_maps(split, names.index(name))
        return self._maps[split, name]

    def read(self, split: str, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start..stop of one array, (stop - start, *cell) float16 (float32 where values need it); see `maps`.

        Raises C3Error naming the shard when one is pending, lost or damaged: zeros are never made up.
        """
        return self.maps(split, name)[start:stop]

    def _open_maps(self, split: str, number: int) -> StoredArray:
        level = self.arrays[number]
        codec = self.layout.codec_of(level, self.arrays)
        files = ArrayFiles(self.storage, split, level, codec, self.layout, self.rows(split))
        place = self._scale_places[number]
        wide = bool(self.wide_arrays(split)[number])
        scales = ShardScales(files, lambda shard: self._read(split, "scale", shard)[place], wide)
        return StoredArray(ChunkReader(files), scales)


def content_digest(origin: FeatureOrigin, arrays: Sequence[FeatureArray], rows: Mapping[str, int]) -> str:
    """Return the digest of a store of this origin, these arrays and `rows` by split, whether it exists or not."""
    content: list[Json] = [origin.record(), [array.record() for array in arrays], rows]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
