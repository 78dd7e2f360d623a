"""A finished run and a feature store -> scores, streamed chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import C3Error
from ..extract.cache import FeatureCache, Status
from ..progress import progress
from ..train.runs import Run


@dataclass(frozen=True)
class Scored:
    """The usable rows of a split, (used,) int64, their scores, (used, classes) float32, and the device that ran."""

    rows: np.ndarray
    values: np.ndarray
    device: str


def scores(run: Run, cache: FeatureCache, split: str, device: str) -> Scored:
    """Score every row of a split whose status is OK with the run's model; the other rows are masked.

    `device` is auto, cpu, cuda or cuda:N. Raises C3Error when no row is usable, a shard is missing or damaged, or the
    device does not exist.
    """
    usable = cache.status(split) == Status.OK
    used = np.flatnonzero(usable)
    if not len(used):
        raise C3Error(f"{cache.path}: none of {len(usable)} rows of {split} is usable; see: c3 inspect {cache.path}")
    # torch comes with these: a report of runs that are measured already starts without it
    from ..devices import resolve_device
    from ..train.registry import restore

    resolved = resolve_device(device)
    scorer = restore(run, cache, resolved)
    result = np.empty((len(used), len(cache.classes)), np.float32)
    filled, step = 0, cache.layout.chunk_rows
    with progress(f"scoring {split}", total=len(usable), unit="rows") as bar:
        for start in range(0, len(usable), step):
            keep = usable[start : start + step]
            count = int(keep.sum())
            if count:
                stop = start + len(keep)
                maps = {level: cache.read(split, level, start, stop)[keep] for level in scorer.levels}
                result[filled : filled + count] = scorer(maps)
            filled += count
            bar.advance(len(keep), failed=len(keep) - count)
    return Scored(used, result, str(resolved))
