"""Streamed scores -> what exact metrics need: scores where a label is known, and the best K of every image.

Where labels are sparse (`absent` 0) only the scores at listed labels are kept. Where every label is known, all scores
enter an AP: they are kept class by class, in memory up to HELD bytes and in a temporary file beyond.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ..common.average_precision import Ties, average_precision
from ..common.errors import C3Error
from .metrics import top_k
from .truth import Truth

GATHERED = 1024  # rows handled at a time: 31 MB at the size of Open Images
HELD = 1 << 29  # bytes of scores kept in memory; NUS-WIDE needs 434 MB


@dataclass(frozen=True)
class Candidates:
    """The best classes of every image among some classes, best first: scores, classes and hits are (images, k)."""

    scores: np.ndarray
    classes: np.ndarray
    hits: np.ndarray


@dataclass(frozen=True)
class Evidence:
    """All that the metrics of one split need.

    pools are the best classes of every image, by name. listed (entries,) float32 are the scores at the listed labels.
    every (classes, images) float32 has all scores, or is None where only listed labels count.
    """

    truth: Truth
    pools: dict[str, Candidates]
    listed: np.ndarray
    every: np.ndarray | None

    def ranking(self, index: int, images: np.ndarray, absent: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return positive, scores and image numbers of one class, over the images (images,) bool with a known label."""
        listed = self.truth.of_class(index)
        if absent == 0:
            kept = images[listed.image]
            return listed.positive[kept], self.listed[listed.entry[kept]], listed.image[kept]
        if self.every is None:
            raise ValueError("these scores were collected for listed labels only")
        positive = np.zeros(len(self.truth), bool)
        positive[listed.image[listed.positive]] = True
        scores, numbers = np.asarray(self.every[index]), np.flatnonzero(images)
        if len(numbers) == len(images):
            return positive, scores, numbers
        return positive[numbers], scores[numbers], numbers

    def average_precision(self, images: np.ndarray, absent: int, ties: Ties) -> np.ndarray:
        """Return (classes,) float64, NaN where a class has no positive among the images (images,) bool."""

        def one(index: int) -> float:
            positive, scores, _ = self.ranking(index, images, absent)
            return average_precision(positive, scores, ties)

        with ThreadPoolExecutor(os.cpu_count()) as workers:
            return np.array(list(workers.map(one, range(self.truth.classes))))


def collect(
    truth: Truth, blocks: Iterable[np.ndarray], pools: Mapping[str, np.ndarray], k: int, every: bool
) -> Evidence:
    """Read scores once, block by block, and keep what `Evidence` holds.

    blocks are (rows, classes) float32 of consecutive usable rows, together all of `truth.of_row`. `pools` names sets of
    class indices, of which the best `k` (or all, where there are fewer) are kept. `every` is needed where an unlisted
    label counts as negative. Raises C3Error naming image and class of a score that is not finite.
    """
    kept = {
        name: Candidates(*(np.empty((len(truth), min(k, len(classes))), kind) for kind in (np.float32, np.int32, bool)))
        for name, classes in pools.items()
    }
    listed = np.empty(len(truth.labels.indices), np.float32)
    whole = _class_major(truth) if every else None
    start = 0
    # choosing, copying and sorting leave the interpreter lock; more threads than cores only add memory
    with ThreadPoolExecutor(os.cpu_count()) as workers:
        for scores in _images(truth, _gathered(blocks)):
            stop = start + len(scores)
            positive = truth.is_positive(start, stop)

            def keep(name: str, scores: np.ndarray = scores, positive: np.ndarray = positive, at: int = start) -> None:
                pool, classes = kept[name], pools[name]
                if pool.classes.shape[1]:
                    best = classes[top_k(scores[:, _columns(classes)], pool.classes.shape[1])]
                    rows, where = np.arange(len(scores))[:, None], slice(at, at + len(scores))
                    pool.scores[where], pool.classes[where] = scores[rows, best], best
                    pool.hits[where] = positive[rows, best]

            waiting = [workers.submit(keep, name) for name in pools]
            if whole is not None:
                whole[:, start:stop] = scores.T
            entries = slice(truth.labels.indptr[start], truth.labels.indptr[stop])
            listed[entries] = scores[truth.image[entries] - start, truth.labels.indices[entries]]
            for done in waiting:
                done.result()
            start = stop
    return Evidence(truth, kept, listed, whole)


def merge(pools: list[Candidates], shift: float = 0.0) -> Candidates:
    """Merge pools into one ranking of every image, best first; `shift` is subtracted from the scores of the last.

    Equal scores go to the lowest class index first.
    """
    if len(pools) == 1:
        return pools[0]
    offsets = [0.0] * (len(pools) - 1) + [shift]
    scores = np.concatenate([pool.scores - np.float32(off) for pool, off in zip(pools, offsets, strict=True)], axis=1)
    classes = np.concatenate([pool.classes for pool in pools], axis=1)
    order = np.lexsort((classes, -scores), axis=1)
    hits = np.concatenate([pool.hits for pool in pools], axis=1)
    return Candidates(*(np.take_along_axis(part, order, axis=1) for part in (scores, classes, hits)))


def _gathered(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the same rows in blocks of at least GATHERED, so that the file of scores is written in whole pages."""
    held: list[np.ndarray] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= GATHERED:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _images(truth: Truth, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield image scores: the maximum over the crops of an image, which may lie in two blocks."""
    begun, held = 0, None
    for block in blocks:
        images = truth.of_row[begun : begun + len(block)]
        _require_finite(truth, images, block)
        starts = np.flatnonzero(np.append(True, images[1:] != images[:-1]))
        best = block if len(starts) == len(block) else np.maximum.reduceat(block, starts, axis=0)
        if held is not None:
            same = images[0] == truth.of_row[begun - 1]
            best = np.concatenate([np.maximum(held, best[:1]), best[1:]] if same else [held, best])
        begun += len(block)
        if len(best) > 1:
            yield best[:-1]
        held = best[-1:]
    if begun != len(truth.of_row):
        raise ValueError(f"expected scores of {len(truth.of_row)} rows, found {begun}")
    if held is not None:
        yield held


def _require_finite(truth: Truth, images: np.ndarray, scores: np.ndarray) -> None:
    # min and max carry NaN and infinity through, and unlike isfinite they need no second array of this size
    if not (np.isfinite(scores.min()) and np.isfinite(scores.max())):
        row, column = np.argwhere(~np.isfinite(scores))[0]
        raise C3Error(
            f"the score of image {truth.ids[images[row]]} for class {truth.names[column]!r} is {scores[row, column]}; "
            "expected a finite number. A model that diverged gives such scores: train it again with a lower --lr"
        )


def _columns(classes: np.ndarray) -> np.ndarray | slice:
    """Return the columns as a slice where they are adjacent, which saves a copy of the scores."""
    first, stop = int(classes[0]), int(classes[-1]) + 1
    return slice(first, stop) if stop - first == len(classes) else classes


def _class_major(truth: Truth) -> np.ndarray:
    """Return an empty (classes, images) array, in memory or in a file that is deleted with it."""
    shape = (truth.classes, len(truth))
    size = 4 * truth.classes * len(truth)
    if size <= HELD:
        return np.empty(shape, np.float32)
    with tempfile.TemporaryFile(prefix="c3-scores-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, and a crash in the map later
        except OSError as error:
            raise C3Error(
                f"{size / 1e9:.1f} GB for the scores do not fit into {tempfile.gettempdir()} ({error.strerror}); "
                "point the environment variable TMPDIR to a larger disk"
            ) from error
        return np.memmap(file, np.float32, "r+", shape=shape)
