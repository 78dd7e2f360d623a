"""A small extracted data set with an evaluated run of two methods, for the tests of tagging."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from c3.cli import main
from c3.evaluate.run import evaluate
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train
from c3.train.run_folder import open_run
from c3.train.scorer import restore
from click.testing import CliRunner, Result

QUICK = {"epochs": 1, "batch_size": 4, "lr": 1e-3}
SIZES = {"c3": {"groups": 2}, "fast0tag": {"hidden1": 16, "hidden2": 8}}


@dataclass(frozen=True)
class Placement:
    """A store of twelve drawn pictures, an evaluated run of each method, the pictures, and their catalog."""

    store: Path
    runs: dict[str, Path]
    images: Path
    catalog: Path
    vectors: Path


def make_placement(root: Path, draw_table: Callable[[Path, int], Path]) -> Placement:
    """Draw, extract, train and evaluate in a folder; `draw_table` is the fixture."""
    tiny = draw_table(root / "tiny", 12)
    store = root / "f.zarr"
    extract(ExtractOptions("tiny", "squeezenet1_1", "random:0", store, tiny / "catalog.yaml", device="cpu"))
    runs = {}
    for method, size in SIZES.items():
        run = train(TrainOptions(store, method, root / "runs", QUICK | size, device="cpu"))
        runs[method] = evaluate(run.path, device="cpu").path
    return Placement(store, runs, tiny / "images", tiny / "catalog.yaml", tiny / "vectors.txt")


def c3(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def scores_of_store(place: Placement, method: str, split: str) -> np.ndarray:
    """(rows of the split, classes) as c3 evaluate scores them."""
    cache = FeatureCache.open(place.store)
    scorer = restore(open_run(place.runs[method]), cache, torch.device("cpu"))
    return scorer({name: cache.read(split, name, 0, cache.rows(split)) for name in scorer.arrays})
