"""Which rows each of several processes trains on: disjoint, and the same in every epoch. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DEAL = 1  # sets the draw of the division apart from those of the epochs, which are [seed, epoch]


def rank_rows(usable: np.ndarray, chunk_rows: int, seed: int, rank: int, ranks: int) -> np.ndarray:
    """The rows of a rank, sorted: all rows come to one rank or another, equally many but for one.

    usable (n,) are sorted row numbers. Whole chunks are shuffled, laid end to end and cut: only at a cut do two ranks
    read the same chunk, so at most ranks - 1 chunks are read twice.
    """
    if ranks == 1:
        return usable
    chunks = np.split(usable, np.flatnonzero(np.diff(usable // chunk_rows)) + 1)
    order = np.random.default_rng([seed, ranks, DEAL]).permutation(len(chunks))
    return np.sort(np.array_split(np.concatenate([chunks[i] for i in order]), ranks)[rank])


def rank_sizes(sizes: Sequence[int], ranks: int) -> np.ndarray:
    """How many rows of each batch each rank has: (batches, ranks), for batches of so many rows.

    A rank has had floor((n + ranks - 1 - rank) / ranks) of the first n rows: these sum to n, differ by at most one
    between ranks, also within a batch, and end at what `rank_rows` gives it.
    """
    ends = np.cumsum([0, *sizes])[:, None]
    return np.diff((ends + np.arange(ranks)[::-1]) // ranks, axis=0)
