"""A run with its model and its store, opened for a figure, and the rows and arrays of chosen images. Torch is lazy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...extract.store.cache import FeatureCache, Status
from ...train.run_folder import Run
from ..score import open_store, truth_for
from ..truth import Truth

if TYPE_CHECKING:
    from ...train.scorer import Scorer


@dataclass(frozen=True)
class Opened:
    """A run, its store, its scorer on a device, and the truth of one split of the store."""

    run: Run
    store: FeatureCache
    scorer: Scorer
    truth: Truth
    split: str

    def rows(self) -> np.ndarray:
        """Return the first usable row of every image, (images,), ascending."""
        used, of_row = np.flatnonzero(self.store.status(self.split) == Status.OK), self.truth.of_row
        return used[np.flatnonzero(np.append(True, of_row[1:] != of_row[:-1]))]

    def arrays(self, rows: np.ndarray, names: Sequence[str] | None = None) -> Iterator[dict[str, np.ndarray]]:
        """Yield arrays of rows (ascending), one chunk of the store at a time; by default those the method reads."""
        size = self.store.layout.chunk_rows
        for chunk in np.unique(rows // size):
            inside = rows[rows // size == chunk]
            yield {name: self.store.take(self.split, name, inside) for name in names or self.scorer.arrays}


def opened(run: Run, device: str, split: str) -> Opened:
    """Open a run on its store. Raises C3Error where the store has gone, or the split has nothing to measure by."""
    from ...common.devices import resolve_device
    from ...train.scorer import restore

    store = open_store(run)
    return Opened(run, store, restore(run, store, resolve_device(device)), truth_for(run, store, split), split)
