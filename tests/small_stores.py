"""A store filled with known maps; the fixture `make_cache` gives copies of such stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import FeatureArray, Layout
from c3.extract.store.tables import Classes, Rows, SparseLabels
from origins import PROVENANCE, origin_of


def make_store(
    path: Path,
    rows: int = 40,
    labelling: str = "complete",
    d_w: int = 6,
    levels: dict[str, int] | None = None,
    layout: Layout = Layout(chunk_rows=8, shard_rows=16),
    prefix: str = "",
    seen: str = "cde",
    extras: tuple[FeatureArray, ...] = (),
    factor: float = 1.0,
) -> FeatureCache:
    """Make a complete store whose maps are seeded noise, scaled like real VGG19 maps."""
    rng = np.random.default_rng(1)
    channels = levels or {"p8": 5, "p16": 4, "p32": 3}
    scales = dict(zip(channels, (1500.0, 180.0, 1.4), strict=True))
    known = np.array([name in seen for name in "abcde"])
    classes = Classes(tuple("abcde"), known, rng.normal(size=(5, d_w)).astype(np.float32))
    splits = {}
    for split, count in (("train", rows), ("val", 6), ("test", 10)):
        labels = SparseLabels.from_lists(([row % 5, (row + 1) % 5], [(row + 2) % 5]) for row in range(count))
        ids = np.array([f"{prefix}{split}{row}" for row in range(count)])
        splits[split] = Rows(ids, np.tile(np.float32([0, 0, 1, 1]), (count, 1)), labels, np.char.add(ids, ".png"))
    cache = FeatureCache.create(
        path,
        origin=origin_of(labelling=labelling, manifest_sha256=f"{prefix}{rows}"),
        provenance=PROVENANCE,
        levels=(*(FeatureArray(level, count) for level, count in channels.items()), *extras),
        classes=classes,
        splits=splits,
        layout=layout,
    )
    for split in cache.splits:
        for shard in range(cache.shards(split)):
            count = len(cache.shard_rows(split, shard))
            maps = {
                level: (factor * scales[level] * rng.random((count, width, 7, 7))).astype(
                    np.float16 if factor == 1 else np.float32  # float16 ends at 65,504
                )
                for level, width in channels.items()
            }
            maps |= {extra.name: rng.random((count, *extra.cell)).astype(np.float16) for extra in extras}
            cache.write_shard(split, shard, maps, np.ones(count, np.uint8))
    return cache
