"""Compare the speed of c3 beside the usual ways with what it once was, and fail where it has become worse.

    python benchmarks/guard.py STORE

STORE is a feature store of real features. Every figure is a ratio of two rates that are measured side by side, so that
it can be compared between machines of the same kind: guard.json beside this file has the ratios and the tolerance of
each, a share of the ratio. By hand and before releases, on a quiet machine; it takes about ten minutes.

    c3 / memmap          rows a second of shuffled epochs, with the page cache dropped and warm
    extract / forward    images a second of the whole extraction and of the backbone alone (VGG19, drawn pictures)
    train / bare step    rows a second of c3 train (c3-plus, --residency ram and stream) and of its step alone
    evaluate / sklearn   rows a second at the size of NUS-WIDE, and of a loop over scikit-learn's average precision

--write stores what was measured, and keeps the tolerances.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import evaluation
import gpu_check
import torch
import training
from c3.common.errors import C3Error
from c3.common.parsing import STRICT
from c3.extract.store.cache import FeatureCache
from c3.train.recipes import LoopOptions
from pydantic import TypeAdapter
from quiet import require_quiet

STORED = Path(__file__).with_suffix(".json")
METHOD, IMAGES, ROWS = "c3-plus", 64, 1024


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


def reading(store: str) -> dict[str, float]:
    """Run store.py for c3 and the memmap; take the ratios from its table."""
    command = [sys.executable, str(STORED.with_name("store.py")), store, "--only", "c3", "--busy"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    cells = next(line for line in printed.splitlines() if line.startswith("| c3 |")).split("|")
    return {"c3 / memmap, cold": float(cells[5]), "c3 / memmap, warm": float(cells[7])}


def extracting(store: str) -> dict[str, float]:
    """Compare an extraction of drawn pictures with the bare forward pass."""
    with tempfile.TemporaryDirectory() as folder:
        check = gpu_check.Check(Path(folder), torch.device("cpu"), gpu_check.Size(images=IMAGES))
        return {"extract / forward": float(check.extraction("vgg19", "fp32")["of bare"])}


def learning(store: str) -> dict[str, float]:
    """Compare c3 train with the bare step."""
    asked = Namespace(rows=ROWS, seconds=6.0, rounds=3, images=0, ways=["ram", "stream"])
    with tempfile.TemporaryDirectory() as folder:
        options = LoopOptions(seed=training.SEED)
        setup = training.Setup(FeatureCache.open(store), METHOD, options, torch.device("cpu"), Path(folder))
        found = training.measure(asked, setup, None)
    rates = {name: median(result["rows_per_s"] for result in results) for name, results in found.items()}
    return {f"train / bare step, {name}": rates[name] / rates["bare"] for name in asked.ways}


def measuring(store: str) -> dict[str, float]:
    """Compare evaluation with a loop over scikit-learn, on the same rows."""
    rows = evaluation.SIZES["nuswide"].images
    ours, theirs = (evaluation.run_one("nuswide", way, rows)["seconds"] for way in ("c3", "sklearn loop"))
    return {"evaluate / sklearn": theirs / ours}


PARTS: tuple[Callable[[str], dict[str, float]], ...] = (reading, extracting, learning, measuring)


def stored(path: Path = STORED) -> dict[str, Bound]:
    """Return name -> the ratio that was measured once, and its tolerance."""
    return TypeAdapter(dict[str, Bound]).validate_json(path.read_bytes())


def line(name: str, found: float, bound: Bound) -> str:
    """Return the row of a ratio in a markdown table."""
    said = "worse" if found < bound.least else "better: --write" if found > bound.ratio / (1 - bound.tolerance) else ""
    return f"| {name} | {found:.3f} | {bound.ratio:.3f} | {bound.least:.3f} | {said} |"


def main() -> None:
    """Measure every ratio, print a table, and exit with 1 where one is below its bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", help="a feature store of real features")
    parser.add_argument("--busy", action="store_true", help="measure although other work runs")
    parser.add_argument("--write", action="store_true", help=f"store what was measured in {STORED.name}")
    asked = parser.parse_args()
    try:
        load, bounds = require_quiet(asked.busy), stored()
        FeatureCache.open(asked.store).require_complete()
    except C3Error as error:
        parser.error(str(error))
    print(f"load {load:.1f} at the start\n\n| ratio | now | stored | least | |\n|---|---:|---:|---:|---|", flush=True)
    found: dict[str, float] = {}
    for part in PARTS:
        for name, ratio in part(asked.store).items():
            found[name] = ratio
            print(line(name, ratio, bounds[name]), flush=True)
    if asked.write:
        written = {name: {"ratio": round(found[name], 3), "tolerance": bounds[name].tolerance} for name in found}
        STORED.write_text(json.dumps(written, indent=2) + "\n")
    sys.exit(any(ratio < bounds[name].least for name, ratio in found.items()))


if __name__ == "__main__":
    main()
