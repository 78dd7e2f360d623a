"""A store in which some rows of `train` are validated on: what a fold that holds back images works on."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np

from .arrays import StoredArray
from .cache import FeatureCache
from .origin import Notes
from .tables import Classes, SparseLabels

TRAIN, VAL = "train", "val"


class HeldView(FeatureCache):
    """An open store whose split `val` is its own, if it has one, followed by the `held` rows of `train`.

    held (n,) int64 row numbers, ascending. In `train` these rows keep their places and have no label, so that nothing
    is learnt from them and other folds share the arrays in memory. Classes and digest are those of the store. Read
    only.
    """

    def __init__(self, store: FeatureCache, held: np.ndarray) -> None:
        super().__init__(store.storage, store.group, store.attributes)
        self._store, self._held = store, held
        self._own = store.rows(VAL) if VAL in store.splits else 0

    @cached_property
    def classes(self) -> Classes:
        """Names, seen or unseen, and word vectors as read."""
        return self._store.classes

    @property
    def notes(self) -> Notes:
        """Facts about the data set that evaluation may use."""
        return self._store.notes

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits of the store, and `val`."""
        return tuple(dict.fromkeys((*self._store.splits, VAL)))

    def rows(self, split: str) -> int:
        """Return the number of rows of a split. Raises NotFound for an unknown split."""
        return self._own + len(self._held) if split == VAL else self._store.rows(split)

    def image_ids(self, split: str) -> np.ndarray:
        """Return (rows,) text; held images have `train/` before their ids, which `val` may have too."""
        return self._joined(
            split, self._store.image_ids, lambda ids: np.strings.add(np.asarray(f"{TRAIN}/", ids.dtype), ids)
        )

    def image_paths(self, split: str) -> np.ndarray:
        """Return (rows,) text: where each image is, relative to the images root."""
        return self._joined(split, self._store.image_paths)

    def crops(self, split: str) -> np.ndarray:
        """Return (rows, 4) float32: x0, y0, x1, y1 in 0..1."""
        return self._joined(split, self._store.crops)

    def status(self, split: str, rows: range | None = None) -> np.ndarray:
        """Return (rows,) uint8, values of `Status`: of all rows of a split, or of neighbouring ones."""
        if split != VAL:
            return self._store.status(split, rows)
        whole = self._joined(split, self._store.status)
        return whole if rows is None else whole[rows.start : rows.stop]

    def labels(self, split: str) -> SparseLabels:
        """Return the labels of every row, sparse; held rows have theirs in `val` and none in `train`."""
        if split not in (TRAIN, VAL):
            return self._store.labels(split)
        trained = self._store.labels(TRAIN)
        if split == TRAIN:
            return trained.without(self._held)
        own = [self._store.labels(VAL)] if self._own else []
        return SparseLabels.join([*own, trained.take(self._held)])

    def label_values(self, split: str) -> np.ndarray:
        """Return (entries,) int8: +1 or -1 for every listed label of a split."""
        return self.labels(split).value

    def maps(self, split: str, name: str) -> StoredArray:
        """Return one array of any split but `val`, whose rows are in two arrays: see `take`."""
        if split == VAL:
            raise TypeError("rows of val are in two arrays; use take or read")
        return self._store.maps(split, name)

    def take(self, split: str, name: str, rows: np.ndarray) -> np.ndarray:
        """Return rows (n,) of one array by number, in any order, (n, *cell)."""
        if split != VAL:
            return self._store.take(split, name, rows)
        own = rows < self._own
        parts = [self._store.take(VAL, name, rows[own])] if self._own else []
        parts.append(self._store.take(TRAIN, name, self._held[rows[~own] - self._own]))
        places = np.concatenate([np.flatnonzero(own), np.flatnonzero(~own)])
        joined: np.ndarray = np.concatenate(parts)[np.argsort(places)]
        return joined

    def read(self, split: str, name: str, start: int, stop: int) -> np.ndarray:
        """Return rows start..stop of one array, (stop - start, *cell)."""
        return self.take(split, name, np.arange(start, min(stop, self.rows(split))))

    def _joined(
        self,
        split: str,
        read: Callable[[str], np.ndarray],
        renamed: Callable[[np.ndarray], np.ndarray] = lambda values: values,
    ) -> np.ndarray:
        """Return what `read` returns for a split; for `val` also that of the held rows, `renamed`."""
        if split != VAL:
            return read(split)
        own = [read(VAL)] if self._own else []
        return np.concatenate([*own, renamed(read(TRAIN)[self._held])])
