"""A small store with runs of several methods, photographs and word vectors, for the tests of search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train
from PIL import Image

QUICK = {"epochs": 1, "batch_size": 8, "lr": 1e-3}
SIZES = {"c3": {"groups": 2}, "c3-plus": {}, "conse": {"top": 2}, "kim": {"hidden": 4}}
WORDS = list("abcde")  # the classes of the store


@dataclass(frozen=True)
class Place:
    """A store of 40, 6 and 10 rows, a run of each method, the photographs of `test`, and a file of word vectors."""

    store: Path
    runs: dict[str, Path]
    images: Path
    vectors: Path


def make_place(root: Path, make_cache: Callable[..., FeatureCache], methods: Iterable[str]) -> Place:
    """Draw all of it into a folder; `make_cache` is that of the folder."""
    cache = make_cache()
    runs = {
        method: train(TrainOptions(cache.path, method, root / "runs", QUICK | SIZES[method], device="cpu")).path
        for method in methods
    }
    (root / "images").mkdir()
    for number in range(10):
        picture = np.full((30, 60, 3), 20 * number, np.uint8)
        picture[:10] = [200, 30, 30]
        Image.fromarray(picture).save(root / f"images/test{number}.png")
    vectors = root / "vectors.txt"
    known = zip(cache.classes.names, cache.classes.vectors, strict=True)
    lines = [f"{name} {' '.join(map(str, vector.tolist()))}" for name, vector in known]
    vectors.write_text("\n".join([*lines, "sea 1 2 3 1 2 3", "red 3 1 0 0 0 1", "boat 0 1 2 0 1 0"]) + "\n")
    return Place(cache.path, runs, root / "images", vectors)
