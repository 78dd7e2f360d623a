"""Real photographs, weights and word vectors, where they lie beside the checkout; users and CI may not have them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from c3.extract.catalog.catalog import Catalog
from c3.extract.datasets.read import read_manifest
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache

CATALOG = Path(__file__).resolve().parents[2] / "shared/real/catalog.yaml"
pytestmark = pytest.mark.skipif(not CATALOG.exists(), reason="needs the real data beside the checkout")


def test_the_photographs_are_read_as_documented() -> None:
    manifest = read_manifest(Catalog(CATALOG).dataset("corel5k"))
    assert {name: len(split) for name, split in manifest.splits.items()} == {"train": 2398, "val": 300, "test": 1000}
    assert (manifest.classes.seen.sum(), (~manifest.classes.seen).sum(), manifest.classes.d_w) == (199, 50, 300)
    with (CATALOG.parent / "corel5k/labels.csv").open(newline="") as file:
        listed = sum(len(row["labels"].split("|")) for row in csv.DictReader(file) if row["labels"])
    assert sum(len(split.labels.indices) for split in manifest.splits.values()) == listed


def test_real_weights_give_real_features(tmp_path: Path) -> None:
    options = ExtractOptions(
        "corel5k", "vgg19", "vgg19-keras", tmp_path / "f.zarr", CATALOG, splits=("val",), limit=6, device="cpu"
    )
    assert "no failures" in extract(options)
    cache = FeatureCache.open(options.out)
    levels = {level.name: cache.read("val", level.name, 0, 6).astype(np.float32) for level in cache.levels}
    assert {name: maps.shape for name, maps in levels.items()} == {
        "p8": (6, 256, 7, 7), "p16": (6, 512, 7, 7), "p32": (6, 512, 7, 7),
    }  # fmt: skip
    # known from these weights on a thousand pictures: the share of zeros grows, the scale falls a thousandfold
    zeros = [float((maps == 0).mean()) for maps in levels.values()]
    assert zeros == pytest.approx([0.03, 0.50, 0.89], abs=0.08)
    assert [float(maps.mean()) for maps in levels.values()] == pytest.approx([1485, 181, 1.4], rel=0.4)
