"""The rows that each of several processes trains on: disjoint, and the same in every epoch. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DIVISION = 1  # keeps this random stream apart from those of the epochs, which are [seed, epoch]


def rank_rows(usable: np.ndarray, chunk_rows: int, seed: int, rank: int, ranks: int) -> np.ndarray:
    """Return the sorted rows of a rank. Every row has one rank; the ranks differ by at most one row.

    usable (n,) int64 are sorted row numbers. Whole chunks are shuffled, laid end to end and cut into equal parts: two
    ranks share a chunk only at a cut, so at most ranks - 1 chunks are read twice.
    """
    if ranks == 1:
        return usable
    chunks = np.split(usable, np.flatnonzero(np.diff(usable // chunk_rows)) + 1)
    order = np.random.default_rng([seed, ranks, DIVISION]).permutation(len(chunks))
    return np.sort(np.array_split(np.concatenate([chunks[i] for i in order]), ranks)[rank])


def rank_sizes(sizes: Sequence[int], ranks: int) -> np.ndarray:
    """Return (batches, ranks) int64: the rows that each rank has of batches of these sizes.

    Of the first n rows a rank has floor((n + ranks - 1 - rank) / ranks). These numbers sum to n, differ by at most one
    between ranks, also within a batch, and end at the length of `rank_rows`.
    """
    ends = np.cumsum([0, *sizes])[:, None]
    return np.diff((ends + np.arange(ranks)[::-1]) // ranks, axis=0)
