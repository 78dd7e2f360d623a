"""What training and validation need of the place where rows come from: a feature store, or the images of a data set."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ...extract.store.layout import Layout
from ...extract.store.tables import Classes, SparseLabels


class RowSource(Protocol):
    """Rows, labels and classes of the splits of a data set."""

    @property
    def location(self) -> str:
        """The path or URL, for messages."""

    @property
    def layout(self) -> Layout:
        """Chunk and shard sizes; the rows of a chunk are read together."""

    @property
    def classes(self) -> Classes:
        """All classes, seen and unseen."""

    @property
    def absent_label(self) -> int:
        """The value of a label that is not listed: -1 negative, 0 unknown."""

    def labels(self, split: str) -> SparseLabels:
        """Return the labels of every row."""

    def status(self, split: str) -> np.ndarray:
        """Return (rows,) uint8, values of `Status`."""

    def take(self, split: str, name: str, rows: np.ndarray) -> np.ndarray:
        """Return the rows (n, ...) with these numbers (n,) of the array of that name."""
