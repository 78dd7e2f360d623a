"""Compare the speed of c3 beside the usual ways with what it once was, and fail where it has become worse.

    python benchmarks/guard.py STORE

STORE is a feature store of real features. Every figure is a ratio of two rates that are measured side by side, so that
it can be compared between machines of the same kind: guard.json beside this file has the ratios, the tolerance of
each, a share of the ratio, and where they were measured. By hand and before releases, on a quiet machine; it takes
about ten minutes. Each ratio that is worse is a line at the end, and the exit code is 1.

    c3 / memmap          rows a second of shuffled epochs, with the page cache dropped and warm
    extract / forward    images a second of the whole extraction and of the backbone alone (VGG19, drawn pictures)
    train / bare step    rows a second of c3 train (c3-plus, --residency ram and stream) and of its step alone
    evaluate / sklearn   rows a second at the size of NUS-WIDE, and of a loop over scikit-learn's average precision

--write stores what was measured, with machine, load, day and commit, and keeps the tolerances; only on a quiet machine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import evaluation
import gpu_check
import torch
import training
from c3.common.errors import C3Error
from c3.common.files import write_bytes
from c3.common.parsing import STRICT
from c3.extract.store.cache import FeatureCache
from c3.train.recipes import LoopOptions
from pydantic import TypeAdapter
from quiet import require_quiet
from store import machine

STORED = Path(__file__).with_suffix(".json")
METHOD = "c3-plus"


@dataclass(frozen=True)
class Size:
    """How much to measure: arguments of store.py, images and their backbone, rows and seconds of training, and rows."""

    reading: tuple[str, ...] = ()
    images: int = 64
    backbone: str = "vgg19"
    rows: int = 1024
    seconds: float = 6.0
    rounds: int = 3
    scored: int = evaluation.SIZES["nuswide"].images


QUICK = Size(("--quick",), 32, "squeezenet1_1", 32, 0.01, 1, 300)


@dataclass(frozen=True)
class Bound:
    """A ratio that was measured, and the share of it by which a new one may be lower."""

    ratio: float
    tolerance: float

    __pydantic_config__ = STRICT

    @property
    def least(self) -> float:
        """The lowest ratio that passes."""
        return self.ratio * (1 - self.tolerance)


@dataclass(frozen=True)
class Stored:
    """What guard.json holds: the bounds by name, and where their ratios were measured."""

    measured: str
    bounds: Mapping[str, Bound]

    __pydantic_config__ = STRICT

    @classmethod
    def read(cls) -> Stored:
        """Read guard.json."""
        return TypeAdapter(cls).validate_json(STORED.read_bytes())

    def write(self) -> None:
        """Replace guard.json."""
        write_bytes(STORED, TypeAdapter(Stored).dump_json(self, indent=2) + b"\n")


def reading(store: str, size: Size) -> dict[str, float]:
    """Run store.py for c3 and the memmap; take the ratios from its table."""
    command = [sys.executable, str(STORED.with_name("store.py")), store, *size.reading, "--only", "c3", "--busy"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    cells = next(line for line in printed.splitlines() if line.startswith("| c3 |")).split("|")
    return {"c3 / memmap, cold": float(cells[5]), "c3 / memmap, warm": float(cells[7])}


def extracting(store: str, size: Size) -> dict[str, float]:
    """Compare an extraction of drawn pictures with the bare forward pass."""
    with tempfile.TemporaryDirectory() as folder:
        asked = gpu_check.Size(images=size.images, backbones=(size.backbone,))
        check = gpu_check.Check(Path(folder), torch.device("cpu"), asked)
        return {"extract / forward": float(check.extraction(size.backbone, "fp32")["of bare"])}


def learning(store: str, size: Size) -> dict[str, float]:
    """Compare c3 train with the bare step."""
    asked = Namespace(rows=size.rows, seconds=size.seconds, rounds=size.rounds, images=0, ways=["ram", "stream"])
    with tempfile.TemporaryDirectory() as folder:
        options = LoopOptions(seed=training.SEED)
        setup = training.Setup(FeatureCache.open(store), METHOD, options, torch.device("cpu"), Path(folder))
        found = training.measure(asked, setup, None)
    rates = {name: median(result["rows_per_s"] for result in results) for name, results in found.items()}
    return {f"train / bare step, {name}": rates[name] / rates["bare"] for name in asked.ways}


def measuring(store: str, size: Size) -> dict[str, float]:
    """Compare evaluation with a loop over scikit-learn, on the same rows."""
    ours, theirs = (evaluation.run_one("nuswide", way, size.scored)["seconds"] for way in ("c3", "sklearn loop"))
    return {"evaluate / sklearn": theirs / ours}


PARTS: tuple[Callable[[str, Size], dict[str, float]], ...] = (reading, extracting, learning, measuring)


def row(name: str, found: float, bound: Bound) -> str:
    """Return the row of a ratio in a markdown table."""
    said = "worse" if found < bound.least else "better: --write" if found > bound.ratio / (1 - bound.tolerance) else ""
    return f"| {name} | {found:.3f} | {bound.ratio:.3f} | {bound.least:.3f} | {said} |"


def complaint(name: str, found: float, bound: Bound, measured: str) -> str:
    """Return the line that says how much worse a ratio is than it was."""
    return (
        f"{name}: found {found:.3f}, expected {bound.ratio:.3f} less {bound.tolerance:.0%}, so at least "
        f"{bound.least:.3f}; {STORED.name} was measured on {measured}"
    )


def here(load: float) -> str:
    """Say where and when this runs, and on which commit."""
    commit = subprocess.run(["git", "-C", str(STORED.parent), "describe", "--always", "--dirty"], check=True,
                            stdout=subprocess.PIPE, text=True).stdout.strip()  # fmt: skip
    return f"{machine()}, load {load:.1f}, {datetime.now(UTC):%Y-%m-%d}, {commit}"


def main() -> None:
    """Measure every ratio, print a table, and exit with 1 and a line for each that is below its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="a feature store of real features")
    parser.add_argument("--busy", action="store_true", help="measure although other work runs")
    parser.add_argument("--write", action="store_true", help=f"store what was measured in {STORED.name}")
    parser.add_argument("--quick", action="store_true", help="few rows, to check that everything runs; nothing fails")
    asked = parser.parse_args()
    if asked.write and (asked.busy or asked.quick):
        parser.error(f"{STORED.name} holds figures of a quiet machine and all rows: leave --busy and --quick out")
    try:
        load, stored = require_quiet(asked.busy), Stored.read()
        FeatureCache.open(asked.store).require_complete()
    except C3Error as error:
        parser.error(str(error))
    print(f"load {load:.1f} at the start\n\n| ratio | now | stored | least | |\n|---|---:|---:|---:|---|", flush=True)
    found: dict[str, float] = {}
    for part in PARTS:
        for name, ratio in part(asked.store, QUICK if asked.quick else Size()).items():
            found[name] = ratio
            print(row(name, ratio, stored.bounds[name]), flush=True)
    if asked.write:
        bounds = {name: replace(stored.bounds[name], ratio=round(ratio, 3)) for name, ratio in found.items()}
        Stored(here(load), bounds).write()
    worse = [name for name, ratio in found.items() if ratio < stored.bounds[name].least and not asked.quick]
    for name in worse:
        print(complaint(name, found[name], stored.bounds[name], stored.measured), file=sys.stderr)
    sys.exit(bool(worse))


if __name__ == "__main__":
    main()
