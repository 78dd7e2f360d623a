"""Measure a search over projections: time and memory at 10^4, 10^6 and 9 x 10^6 images.

    python benchmarks/search.py

A file of projections as `c3 search` keeps it, (rows, 300) float16 drawn from a normal distribution, is written to a
temporary folder. For each size a process of its own maps it into memory and ranks all rows under three words, as
`Searcher.search` does: blocks to float32, inner products, the best 20 of every word. `first` is the first query of the
process, `next` the median of the others; the file is in the page cache. `processor` is the time of all cores for one
of the others, which says more than `next` where other programs run. Memory is that of the process alone (RssAnon), at
its highest between blocks, less what it was before the first query; pages of the file are not counted, for the system
takes them back when it needs them. The answer for one word is compared with a full sort of all scores.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np

WIDTH, WORDS, TOP = 300, 3, 20
SIZES = (10_000, 1_000_000, 9_000_000)
BLOCK = 100_000  # rows that are drawn at once


def write(path: Path, rows: int) -> None:
    """Write rows of seeded noise: a block that is repeated a little smaller each time, for drawing takes minutes."""
    drawn = np.random.default_rng(0).standard_normal((min(BLOCK, rows), WIDTH), np.float32)
    with path.open("wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (rows, WIDTH)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, rows, BLOCK):
            file.write((drawn[: rows - start] * (1 - 1e-3 * start / BLOCK)).astype(np.float16).tobytes())


def private_memory() -> float:
    """Return the memory of this process that is no file, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def measure(path: Path, threads: int, queries: int) -> None:
    """Print the line of one size."""
    began = time.perf_counter()
    import torch
    from c3.predict.projections import kept_blocks
    from c3.predict.ranking import BestRows
    from c3.train.models.base import inner_products

    imports = time.perf_counter() - began
    torch.set_num_threads(threads)
    values = np.load(path, mmap_mode="c")
    numbers = np.arange(len(values))
    rng = np.random.default_rng(1)
    before, highest = private_memory(), 0.0
    seconds, processor = [], []
    for _ in range(1 + queries):
        vectors = torch.from_numpy(rng.standard_normal((WORDS, WIDTH), np.float32))
        began, busy = time.perf_counter(), time.process_time()
        best = [BestRows(TOP, numbers) for _ in range(WORDS)]
        for first, block in kept_blocks(values, WORDS, torch.device("cpu")):
            scores = inner_products(block, vectors).numpy()
            for word, found in enumerate(best):
                found.add(first, scores[:, word])
            highest = max(highest, private_memory())
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - busy)
    every = np.concatenate([inner_products(block, vectors[:1]).numpy()[:, 0]
                            for _, block in kept_blocks(values, WORDS, torch.device("cpu"))])  # fmt: skip
    exact = np.argsort(-every, kind="stable")[:TOP]
    if not np.allclose(every[best[0].rows], every[exact], rtol=1e-5):
        raise SystemExit("the best rows are not those of a full sort")
    times = (f"{1e3 * value:,.0f} ms" for value in (seconds[0], median(seconds[1:]), median(processor[1:])))
    cells = [f"{len(values):,}", f"{path.stat().st_size / 1e9:.2f} GB", f"{imports:.1f} s", *times]
    print(f"| {' | '.join(cells)} | {highest - before:,.0f} MiB |", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every size in a process of its own; print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=SIZES)
    parser.add_argument("--queries", type=int, default=5, help="after the first")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="few rows, to check that everything runs")
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.file:
        measure(given.file, given.threads, given.queries)
        return
    print(f"{WIDTH} numbers an image, {WORDS} words, the best {TOP} of each, {given.threads} threads of "
          f"{os.cpu_count()} {platform.machine()} cores; load {os.getloadavg()[0]:.1f} before\n")  # fmt: skip
    print("| images | file | imports | first | next | processor | memory |")
    print("|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    for rows in (1_000,) if given.quick else given.rows:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "projections.npy"
            write(path, rows)
            command = [sys.executable, __file__, "--file", str(path), "--threads", str(given.threads),
                       "--queries", str(given.queries)]  # fmt: skip
            subprocess.run(command, check=True)
    print(f"\nload {os.getloadavg()[0]:.1f} after")


if __name__ == "__main__":
    main()
