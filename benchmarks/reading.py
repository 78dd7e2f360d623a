"""Say where the time of reading a store goes: fetching, checking, decompressing and gathering batches.

    python benchmarks/reading.py STORE

One thread reads the chunks of the levels in seeded order and gathers batches of 48 rows: with the page cache dropped,
the same with every chunk announced to the system first, and warm. Figures are microseconds a row of all levels.
Processor time is that of the thread. Waiting for the disk is what is left of the wall time when processor time and the
wait for a free processor are taken away (/proc/thread-self/schedstat), so that other work changes it little.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from c3.extract.store import arrays
from c3.extract.store.cache import FeatureCache
from c3.extract.store.storage import LocalStorage
from store import forget_pages

BATCH = 48
STEPS = ("announce", "fetch", "wait for the disk", "crc32c", "decompress", "gather")


class Stopwatch:
    """Seconds by step: processor time, and time that the thread neither ran nor waited for a processor."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed."""

        def measured(*arguments: Any) -> Any:
            wall, queued, ran = time.perf_counter(), _queued(), time.thread_time()
            try:
                return function(*arguments)
            finally:
                ran = time.thread_time() - ran
                self.seconds[step] += ran
                if step == "fetch":
                    waited = time.perf_counter() - wall - ran - (_queued() - queued)
                    self.seconds["wait for the disk"] += waited

        return measured


def _queued() -> float:
    """Return the seconds that this thread has waited for a processor."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


def measure(path: Path, split: str, rows: int, announce: bool) -> dict[str, float]:
    """Return step -> microseconds a row, for the first rows of a split in chunks of seeded order."""
    watch = Stopwatch()
    cache = FeatureCache.open(path)
    levels = [cache.maps(split, level.name) for level in cache.levels if level.pooled]
    size = cache.layout.chunk_rows
    chunks = np.random.default_rng(0).permutation(rows // size).tolist()
    memory = [np.ones((rows, *level.shape[1:]), level.stored_dtype) for level in levels]  # ones: in real pages
    read, check = LocalStorage.read, arrays._check
    LocalStorage.read, arrays._check = watch.timed("fetch", read), watch.timed("crc32c", check)  # type: ignore[method-assign]
    try:
        for level, values in zip(levels, memory, strict=True):
            reader = level._reader
            reader._decompress = watch.timed("decompress", reader._decompress)
            for chunk in chunks if announce else ():
                reader._index(chunk * size // cache.layout.shard_rows)
                watch.timed("announce", level.announce)(chunk)
            for place, chunk in enumerate(chunks):
                level.read_stored(chunk, values[place * size : (place + 1) * size])
    finally:
        LocalStorage.read, arrays._check = read, check  # type: ignore[method-assign]
    order = np.random.default_rng(1).permutation(len(chunks) * size)
    for start in range(0, len(order), BATCH):
        watch.timed("gather", lambda places: [values.take(places, axis=0) for values in memory])(
            order[start : start + BATCH]
        )
    return {step: 1e6 * watch.seconds[step] / len(order) for step in STEPS}


def main() -> None:
    """Measure the three ways and print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, help="a feature store in a folder of this machine")
    parser.add_argument("--split", default="train")
    parser.add_argument("--rows", type=int, default=2048)
    arguments = parser.parse_args()
    cache = FeatureCache.open(arguments.store)
    rows = min(arguments.rows, cache.rows(arguments.split)) // cache.layout.chunk_rows * cache.layout.chunk_rows
    if not rows:
        parser.error(f"{arguments.split} has less than one chunk of {cache.layout.chunk_rows} rows")
    found = []
    for announce, cold in ((False, True), (True, True), (True, False)):
        if cold:
            forget_pages(arguments.store)
        found.append(measure(arguments.store, arguments.split, rows, announce))
    print(f"{rows:,} rows of {arguments.split}, codec {cache.layout.codec}; load {os.getloadavg()[0]:.1f}\n")
    print("| us a row | cold, not announced | cold | warm |\n|---|---:|---:|---:|")
    for step in STEPS:
        print(f"| {step} | {' | '.join(f'{way[step]:.1f}' for way in found)} |")
    print(f"| together | {' | '.join(f'{sum(way.values()):.1f}' for way in found)} |")
    cores = os.cpu_count() or 1
    print(f"\n{cores} cores that only decompress: {cores * 1e6 / found[-1]['decompress']:,.0f} rows a second")


if __name__ == "__main__":
    main()
