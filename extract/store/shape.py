"""Which rows a shard holds, and which files: the shape of a store as numbers and keys. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...common.errors import NotFound
from .layout import ROW, FeatureArray, Layout


@dataclass(frozen=True)
class StoreShape:
    """Splits, arrays and shards of the store at `location`; `rows` by split, in order."""

    location: str
    arrays: tuple[FeatureArray, ...]
    layout: Layout
    row_counts: Mapping[str, int]

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits, in order."""
        return tuple(self.row_counts)

    def rows(self, split: str) -> int:
        """Return the number of rows of a split. Raises NotFound for an unknown split."""
        if split not in self.row_counts:
            raise NotFound(f"{self.location} has no split {split!r}; it has {', '.join(self.splits)}")
        return self.row_counts[split]

    def shards(self, split: str) -> int:
        """Return the number of shards of a split."""
        return -(-self.rows(split) // self.layout.shard_rows)

    def shard_rows(self, split: str, shard: int) -> range:
        """Return the row numbers of a shard; the last shard of a split may be short."""
        start = shard * self.layout.shard_rows
        return range(start, min(start + self.layout.shard_rows, self.rows(split)))

    def number(self, split: str, shard: int) -> int:
        """Return the number of a shard, counted over all splits."""
        before = self.splits[: self.splits.index(split)]
        return sum(self.shards(other) for other in before) + shard

    def shard_keys(self, split: str, shard: int) -> list[str]:
        """Return the files of a shard, except its flag."""
        maps = [f"{split}/{array.shard_path(shard)}" for array in self.arrays]
        return [*maps, f"{split}/scale/c/{shard}/0/0", f"{split}/status/c/{shard}"]

    def done_key(self, split: str, shard: int) -> str:
        """Return the file that says that a shard is written."""
        return f"{split}/done/c/{shard}"

    def dimension_names(self) -> dict[str, tuple[str, ...]]:
        """Return path -> names of its dimensions, for every array of a store.

        Within a group a name has one size, so that xarray can open the group: labels/indptr has rows + 1 entries, and
        every array of features its own number of channels.
        """
        tables = {
            "image_id": (ROW,),
            "image_path": (ROW,),
            "crop": (ROW, "corner"),
            "labels/indptr": ("row_bound",),
            "labels/indices": ("entry",),
            "labels/value": ("entry",),
            "status": (ROW,),
            "done": ("shard",),
            "wide": ("array",),
            "scale": ("shard", "scale_entry", "step_offset"),
        } | {array.path: array.dimensions for array in self.arrays}
        return {
            "classes/name": ("class",),
            "classes/seen": ("class",),
            "classes/vector": ("class", "word_dimension"),
        } | {f"{split}/{path}": names for split in self.splits for path, names in tables.items()}

    def place(self, name: str) -> int:
        """Return the place of an array among all. Raises NotFound for an unknown one."""
        names = [array.name for array in self.arrays]
        if name not in names:
            raise NotFound(f"{self.location} has no array {name!r}; it has {', '.join(names)}")
        return names.index(name)

    @cached_property
    def scale_places(self) -> tuple[slice, ...]:
        """Where the steps and offsets of each array stand among those of a shard."""
        ends = np.cumsum([array.channels if self.layout.dtype == "int8" else 1 for array in self.arrays]).tolist()
        return tuple(slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True))
