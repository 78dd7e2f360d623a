"""Columns of texts for millions of rows: parts that repeat are held once and coded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, overload

import numpy as np

TEXT = np.dtypes.StringDType()
BLOCK = 1 << 16  # texts held as Python objects at a time: millions of them would fill the memory

Source: TypeAlias = "Sequence[str] | np.ndarray | Texts"


@dataclass(frozen=True, eq=False)
class Texts:
    """(rows,) text, each put together from coded parts when it is read.

    Text i is the sum over the parts (values, code) of `values[code[i]]`, or of `values[i]` where `code` is None. values
    (v,) text or ASCII bytes, code (rows,) integers. So a folder, an ending, and the id that an image path repeats take
    a byte or none per row instead of the whole text; a text of its own takes 16 bytes and its length.

    >>> ids = np.array(["0a", "1b", "1c"])
    >>> folders = np.array(["train_0/", "train_1/"])
    >>> paths = Texts(((folders, np.array([0, 1, 1])), (ids, None), (np.array([".jpg"]), np.zeros(3, np.uint8))))
    >>> paths[1]
    'train_1/1b.jpg'
    >>> paths.take(np.array([2, 0])).tolist()
    ['train_1/1c.jpg', 'train_0/0a.jpg']
    """

    parts: tuple[tuple[np.ndarray, np.ndarray | None], ...]

    @classmethod
    def of(cls, values: Source) -> Texts:
        """Return the column of given texts; one that is a column already is returned as it is."""
        return values if isinstance(values, Texts) else cls(((np.asarray(values, TEXT), None),))

    @classmethod
    def join(cls, columns: Sequence[Texts]) -> Texts:
        """Return the texts of several columns, one after the other."""
        return cls.of(np.concatenate([np.asarray(column) for column in columns]))

    def affixed(self, before: Sequence[str], code: np.ndarray, after: str) -> Texts:
        """Return every text i between `before[code[i]]` and `after`; code (rows,) integers."""
        last = np.broadcast_to(np.uint8(0), len(self))
        return Texts(((np.asarray(before, TEXT), code), *self.parts, (np.array([after], TEXT), last)))

    def __len__(self) -> int:
        values, code = self.parts[0]
        return len(values if code is None else code)

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> str: ...
    @overload
    def __getitem__(self, rows: slice | np.ndarray | list[int]) -> np.ndarray: ...
    def __getitem__(self, rows: int | np.integer[Any] | slice | np.ndarray | list[int]) -> str | np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return str(self[[int(rows)]][0])
        first, *others = (values[rows if code is None else code[rows]].astype(TEXT) for values, code in self.parts)
        for part in others:
            first = np.strings.add(first, part)
        return first

    def __eq__(self, other: object) -> np.ndarray:  # type: ignore[override]  # text by text, as an array
        return np.asarray(self[:] == other)

    def __ne__(self, other: object) -> np.ndarray:  # type: ignore[override]
        return np.asarray(self[:] != other)

    def __array__(self, dtype: np.dtype[Any] | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from block.tolist()

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """Yield the texts in order, `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def tolist(self) -> list[str]:
        """Return all texts as Python's."""
        return list(self)

    def take(self, rows: np.ndarray) -> Texts:
        """Return the texts of the given rows (any order, repeats allowed, or a mask); those of many rows are coded."""
        if len(rows) < len(self) // 8:  # do not keep all texts for the sake of a few
            return Texts.of(self[rows])
        own = (np.flatnonzero(rows) if rows.dtype == bool else rows).astype(np.min_scalar_type(len(self)))
        return Texts(tuple((values, own if code is None else code[rows]) for values, code in self.parts))
