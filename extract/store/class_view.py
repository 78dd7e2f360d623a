"""A store with some of its classes, and seen flags of its own: what a run with a class split of its own works on."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np

from .cache import FeatureCache
from .origin import Notes
from .tables import Classes, SparseLabels


class ClassView(FeatureCache):
    """An open store in which only the classes of `kept` exist, of which those of `seen` are seen.

    kept (classes of the store,) bool; seen (kept classes,) bool. Rows, feature maps and digest are those of the store;
    names, vectors and labels of other classes are never given out. Near-duplicates of seen classes are not known: the
    store lists those of its own split. Read only.
    """

    def __init__(self, store: FeatureCache, kept: np.ndarray, seen: np.ndarray) -> None:
        super().__init__(store.storage, store.group, store.attributes)
        self._store, self._kept, self._seen = store, kept, seen

    @cached_property
    def classes(self) -> Classes:
        """Names, seen or unseen, and word vectors as read, of the kept classes."""
        every, kept = self._store.classes, np.flatnonzero(self._kept)
        return Classes(tuple(every.names[index] for index in kept), self._seen, every.vectors[kept])

    @property
    def notes(self) -> Notes:
        """Facts about the data set, without the near-duplicates of another split."""
        return replace(self._store.notes, leaks=None)

    def labels(self, split: str) -> SparseLabels:
        """Return the labels of every row, sparse, of the kept classes."""
        return self._store.labels(split).keep_classes(self._kept)
