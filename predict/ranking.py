"""Keep the best images of every word, block by block."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class BestRows:
    """The `top` best images of one word: row numbers and scores (n,), best first; of equals the first row leads.

    An image with several rows has the score of its best one. Images are neighbours: `image` (all rows,) ascends.
    """

    top: int
    image: np.ndarray
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    def add(self, first: int, scores: np.ndarray) -> None:
        """Take in the scores (n,) of the rows from `first` on; blocks come in order, each row once."""
        full = len(self.rows) == self.top
        # a row that only equals the last one comes after it
        better = np.flatnonzero(scores > self.scores[-1]) if full else np.arange(len(scores))
        if not len(better):
            return
        rows = np.append(self.rows, first + better)
        values = np.append(self.scores, scores[better])
        order = np.lexsort((rows, -values))
        _, leads = np.unique(self.image[rows[order]], return_index=True)
        order = order[np.sort(leads)[: self.top]]
        self.rows, self.scores = rows[order], values[order]
