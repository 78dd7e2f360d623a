"""Measure the reading of a table data set of a million lines.

    python benchmarks/table_reading.py [--lines 1000000] [--folder FOLDER]

The table has 1,000 classes, none to six labels a line, and 1,000 lines a folder. Times are processor time of one
thread, the best of three. `strict` is the reader of c3: every row fits the header, lines count as in an editor, paths
and labels are compared in NFC, one file has one row. `csv` only splits the lines, by Python's csv module, and `pandas`
does so by pandas, which refuses none of what c3 refuses.
"""

from __future__ import annotations

import argparse
import csv
import random
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from c3.extract.catalog.specs import TableSpec
from c3.extract.datasets.table import table_manifest

REPEATS = 3
CLASSES = [f"word{number}" for number in range(1000)]


def write_table(folder: Path, lines: int) -> Path:
    """Write labels.csv and an empty images folder."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = random.Random(0)
    path = folder / "labels.csv"
    with path.open("w") as file:
        file.write("image_path,labels,split\n")
        for number in range(lines):
            labels = "|".join(rng.sample(CLASSES, rng.randint(0, 6)))
            split = "train" if number % 10 < 8 else "val" if number % 10 == 8 else "test"
            file.write(f"train/{number // 1000:04d}/{number:08d}.jpg,{labels},{split}\n")
    return path


def strict(path: Path) -> int:
    """Read a table as c3 does; return its number of rows."""
    spec = TableSpec(name="d", kind="table", root=path.parent, images="images", table=path.name)
    return sum(len(rows) for rows in table_manifest(spec).splits.values())


def plain_csv(path: Path) -> int:
    """Split a table by Python's csv module; return its rows."""
    with path.open(encoding="utf-8", newline="") as file:
        return sum(1 for _ in csv.reader(file, strict=True)) - 1


def by_pandas(path: Path) -> int:
    """Split a table by pandas; return its rows."""
    return len(pd.read_csv(path, dtype=str, keep_default_na=False))


WAYS: dict[str, Callable[[Path], int]] = {"strict": strict, "csv": plain_csv, "pandas": by_pandas}


def seconds(way: Callable[[Path], int], path: Path, lines: int) -> float:
    """Return the best processor time of `REPEATS` readings."""
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        if way(path) != lines:
            raise SystemExit(f"{way.__name__} read another number of rows than {lines:,}")
        taken.append(time.process_time() - start)
    return min(taken)


def main() -> None:
    """Write a table, read it in every way, and print the processor time of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="where to write the table (default: a temporary folder)")
    parser.add_argument("--quick", action="store_true", help="1,000 lines only, to check that everything runs")
    arguments = parser.parse_args()
    lines = 1000 if arguments.quick else arguments.lines
    with tempfile.TemporaryDirectory() as scratch:
        path = write_table(arguments.folder or Path(scratch), lines)
        size = path.stat().st_size / 2**20
        print(f"pandas {version('pandas')}; {lines:,} lines, {size:.0f} MiB; processor time of one thread\n")
        print("| reader | seconds |\n|---|---|")
        for name, way in WAYS.items():
            print(f"| {name} | {seconds(way, path, lines):.2f} |", flush=True)


if __name__ == "__main__":
    main()
