"""What a manifest and a feature store share: row tables, sparse labels and classes. numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .texts import TEXT, Texts

UNKNOWN_PATH = ""


def absent_label(labelling: str) -> int:
    """Return the value of a label that is not listed: -1 where labels are `complete`, 0 (unknown) where `verified`."""
    return -1 if labelling == "complete" else 0


@dataclass(frozen=True)
class SparseLabels:
    """Labels of many rows in compressed sparse row form; an entry is +1 (present) or -1 (verified absent).

    indptr (rows + 1,) int64, indices (entries,) int32, value (entries,) int8. What is not listed is unknown, or
    negative where the data set is labelled completely.
    """

    indptr: np.ndarray
    indices: np.ndarray
    value: np.ndarray

    @classmethod
    def from_lists(cls, rows: Iterable[tuple[Sequence[int], Sequence[int]]]) -> SparseLabels:
        """Build from (positive class indices, negative class indices) of each row; entries are sorted by class."""
        lengths, indices, value = [0], list[int](), list[int]()
        for positive, negative in rows:
            entries = sorted([(c, 1) for c in set(positive)] + [(c, -1) for c in set(negative)])
            lengths.append(len(entries))
            indices.extend(c for c, _ in entries)
            value.extend(v for _, v in entries)
        return cls(np.cumsum(lengths, dtype=np.int64), np.array(indices, np.int32), np.array(value, np.int8))

    @classmethod
    def from_pairs(cls, rows: int, row: np.ndarray, indices: np.ndarray, value: np.ndarray) -> SparseLabels:
        """Build from columns: entry i says that `row[i]` has class `indices[i]` with `value[i]`. Pairs are unique."""
        order = np.lexsort((indices, row))
        indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))]).astype(np.int64)
        return cls(indptr, indices[order].astype(np.int32), value[order].astype(np.int8))

    @classmethod
    def join(cls, parts: Sequence[SparseLabels]) -> SparseLabels:
        """Return the rows of several tables, one after the other."""
        lengths = [np.zeros(1, np.int64), *(np.diff(part.indptr) for part in parts)]
        indices = [np.zeros(0, np.int32), *(part.indices for part in parts)]
        value = [np.zeros(0, np.int8), *(part.value for part in parts)]
        return cls(np.cumsum(np.concatenate(lengths)), np.concatenate(indices), np.concatenate(value))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def row(self) -> np.ndarray:
        """(entries,) the row of every listed label."""
        return np.repeat(np.arange(len(self)), np.diff(self.indptr))

    def keep_classes(self, keep: np.ndarray) -> SparseLabels:
        """Return the labels of the classes of a mask (classes,) bool, numbered without gaps."""
        entry = keep[self.indices]
        kept = np.concatenate([[0], np.cumsum(entry)])
        number = np.cumsum(keep) - 1
        return SparseLabels(
            kept[self.indptr].astype(np.int64), number[self.indices[entry]].astype(np.int32), self.value[entry]
        )

    def without(self, rows: np.ndarray) -> SparseLabels:
        """Return the labels with as many rows, of which the given ones list nothing."""
        lengths = np.diff(self.indptr)
        kept = np.ones(len(self), bool)
        kept[rows] = False
        entry = np.repeat(kept, lengths)
        indptr = np.concatenate([[0], np.cumsum(lengths * kept)]).astype(np.int64)
        return SparseLabels(indptr, self.indices[entry], self.value[entry])

    def take(self, rows: np.ndarray) -> SparseLabels:
        """Return the labels of the given rows (any order, repeats allowed)."""
        lengths = (self.indptr[1:] - self.indptr[:-1])[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # position inside the result -> position inside self: start of its row plus offset within the row
        source = np.arange(indptr[-1]) + np.repeat(self.indptr[:-1][rows] - indptr[:-1], lengths)
        return SparseLabels(indptr, self.indices[source], self.value[source])

    def dense(self, classes: int, absent: int) -> np.ndarray:
        """Return (rows, classes) int8 with `absent` (-1 complete, 0 unknown) where nothing is listed."""
        labels = np.full((len(self), classes), absent, dtype=np.int8)
        labels[self.row, self.indices] = self.value
        return labels


@dataclass(frozen=True)
class Rows:
    """The row table of one split: a row is one crop of an image.

    image_id and path (rows,) text (arrays of text become `Texts`), the path relative to the images root and empty where
    it is unknown; crop (rows, 4) float32 as x0, y0, x1, y1 in 0..1; labels of every row. The crops of one image are
    neighbours and share id and path.
    """

    image_id: Texts
    crop: np.ndarray
    labels: SparseLabels
    path: Texts

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Texts.of(self.path))
        object.__setattr__(self, "image_id", Texts.of(self.image_id))

    def __len__(self) -> int:
        return len(self.image_id)

    def head(self, count: int) -> Rows:
        """Return the first `count` rows."""
        return self.take(np.arange(min(count, len(self))))

    def take(self, rows: np.ndarray) -> Rows:
        """Return the given rows (any order, repeats allowed)."""
        return Rows(self.image_id.take(rows), self.crop[rows], self.labels.take(rows), self.path.take(rows))

    @classmethod
    def join(cls, tables: Sequence[Rows]) -> Rows:
        """Return the rows of several tables, one after the other."""
        return cls(
            Texts.join([table.image_id for table in tables]),
            np.concatenate([table.crop for table in tables]),
            SparseLabels.join([table.labels for table in tables]),
            Texts.join([table.path for table in tables]),
        )


def image_files(root: str | Path, path: str, image_id: str) -> tuple[Path, ...]:
    """Return where the image of a row may be below the images root: its path, or where this is unknown its id."""
    return tuple(Path(root) / name for name in ([path] if path != UNKNOWN_PATH else [image_id, f"{image_id}.jpg"]))


def unknown_paths(count: int) -> np.ndarray:
    """Return (count,) empty texts, the paths of rows whose images cannot be found."""
    return np.full(count, UNKNOWN_PATH, TEXT)


@dataclass(frozen=True)
class Classes:
    """Classes: names (classes,), seen (classes,) bool, vectors (classes, d_w) float32 as read, not normalised."""

    names: tuple[str, ...]
    seen: np.ndarray
    vectors: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    @property
    def d_w(self) -> int:
        """The width of a word vector."""
        return int(self.vectors.shape[1])
