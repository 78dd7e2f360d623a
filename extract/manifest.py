"""Manifest: one row per crop, sparse labels, classes. It fixes the row order of a store for ever."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import C3Error
from .rows import Classes, Rows

WHOLE_IMAGE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class Split:
    """Rows of a split and where their pictures are: path (rows,) text, relative to the manifest's root."""

    rows: Rows
    path: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def head(self, count: int) -> Split:
        """The first `count` rows."""
        first = np.arange(min(count, len(self)))
        rows = Rows(self.rows.image_id[first], self.rows.crop[first], self.rows.labels.take(first))
        return Split(rows, self.path[first])


@dataclass(frozen=True)
class Manifest:
    """Everything about a data set that extraction needs, read from its official files.

    `labelling` is `complete` (an absent label is negative) or `verified` (an absent label is unknown).
    """

    dataset: str
    root: Path
    labelling: str
    classes: Classes
    splits: dict[str, Split]

    def select(self, splits: Sequence[str] = (), limit: int | None = None) -> Manifest:
        """Keep the named splits (all when empty) and at most `limit` rows of each."""
        unknown = [name for name in splits if name not in self.splits]
        if unknown:
            raise C3Error(f"data set {self.dataset} has no split {unknown[0]!r}; it has {', '.join(self.splits)}")
        kept = {name: split for name, split in self.splits.items() if not splits or name in splits}
        if limit is not None:
            kept = {name: split.head(limit) for name, split in kept.items()}
        empty = [name for name, split in kept.items() if not len(split)]
        if empty:
            raise C3Error(f"data set {self.dataset}: split {empty[0]!r} has no rows")
        return replace(self, splits=kept)

    def digest(self) -> str:
        """sha256 over classes, vectors, row order, crops and labels: two manifests that agree give equal stores."""
        state = hashlib.sha256()

        def add(*parts: object) -> None:
            for part in parts:
                data = part.tobytes() if isinstance(part, np.ndarray) else str(part).encode()
                state.update(f"{len(data)}:".encode() + data)

        add(self.labelling, *self.classes.names)
        add(np.asarray(self.classes.seen, bool), np.asarray(self.classes.vectors, "<f4"))
        for name, split in self.splits.items():
            add(name, len(split), *split.rows.image_id.tolist(), *split.path.tolist())
            labels = split.rows.labels
            add(np.asarray(split.rows.crop, "<f4"), np.asarray(labels.indptr, "<i8"))
            add(np.asarray(labels.indices, "<i4"), labels.value)
        return state.hexdigest()
