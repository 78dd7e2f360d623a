"""What several tests need: small pictures in a table data set, and a store filled with known maps."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from c3.extract.options import ExtractOptions
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import FeatureArray, Layout
from c3.extract.store.tables import Classes, Rows, SparseLabels
from origins import PROVENANCE, origin_of
from PIL import Image
from small_disk import SmallDisk

if TYPE_CHECKING:
    from c3 import Tagger
    from tagging_place import Placement

WORDS = {"red": (1, 0, 0, 0), "blue": (0, 1, 0, 0), "dark": (0, 0, 1, 0), "green": (0, 0, 0, 1)}
PAINTS = {"red": (200, 30, 30), "blue": (30, 30, 200), "dark red": (90, 10, 10)}


@pytest.fixture
def table_dataset(tmp_path: Path) -> Path:
    """Twelve plain pictures, their labels and vectors, and the `catalog.yaml` that declares them as `tiny`."""
    return _draw_table(tmp_path / "tiny", 12)


@pytest.fixture(scope="session")
def draw_table() -> Callable[[Path, int], Path]:
    """draw_table(root, count) -> root: the same data set with `count` pictures."""
    return _draw_table


@pytest.fixture(scope="session")
def small_extraction(draw_table: Callable[[Path, int], Path]) -> Callable[..., ExtractOptions]:
    """small_extraction(folder, count, ...) -> options that extract `count` drawn pictures, in shards of two."""

    def make(folder: Path, count: int, **settings: Any) -> ExtractOptions:
        root = draw_table(folder / "tiny", count)
        return ExtractOptions(
            "tiny", "squeezenet1_1", "random:0", folder / "f.zarr", root / "catalog.yaml",
            batch_size=2, chunk_rows=1, shard_rows=2, device="cpu", **settings,
        )  # fmt: skip

    return make


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_extraction: Callable[..., ExtractOptions]
) -> ExtractOptions:
    """A store of 48 pictures in 24 shards, extracted by this process without interruption."""
    from c3.extract.run import extract

    options = small_extraction(tmp_path_factory.mktemp("finished"), 48)
    extract(options)
    return options


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> Placement:
    """A small extracted data set with an evaluated run of two methods, for tagging."""
    from tagging_place import make_placement

    return make_placement(tmp_path_factory.mktemp("tagging"), draw_table)


@pytest.fixture(scope="module")
def tagger(place: Placement) -> Tagger:
    """The tagger of its run of c3."""
    from c3 import Tagger

    return Tagger.load(place.runs["c3"], device="cpu")


@pytest.fixture
def run_copy(place: Placement, tmp_path: Path) -> Path:
    """A copy of that run, to damage."""
    return Path(shutil.copytree(place.runs["c3"], tmp_path / "run"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of five megabytes. The test is skipped where mounting is not allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield SmallDisk(disk)
    subprocess.run(["umount", "--lazy", disk], check=True)  # this process keeps the store's lock file open


def _draw_table(root: Path, count: int) -> Path:
    """Write a table data set of `count` pictures: half train, a quarter val, a quarter test."""
    (root / "images").mkdir(parents=True)
    lines = ["image_path,labels,split"]
    rng = np.random.default_rng(0)
    for number in range(count):
        name = list(PAINTS)[number % 3]
        pixels = np.clip(np.array(PAINTS[name]) + rng.integers(-20, 20, (40, 50, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{number:02d}.png")
        lines.append(f"{number:02d}.png,{name},{('train', 'train', 'val', 'test')[4 * number // count]}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    (root / "unseen.txt").write_text("dark red\n")
    (root / "vectors.txt").write_text(
        "".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in WORDS.items())
    )
    (root / "catalog.yaml").write_text(
        "version: 1\n"
        "datasets:\n"
        "  tiny: {kind: table, root: ., images: images, table: labels.csv, unseen: unseen.txt, "
        "vectors: words, labels: complete}\n"
        "vectors:\n"
        "  words: {kind: text, path: vectors.txt}\n"
    )
    return root


@pytest.fixture
def make_cache(tmp_path: Path) -> Callable[..., FeatureCache]:
    """make_cache(rows, ...) -> a complete store whose maps are seeded noise, scaled like real VGG19 maps."""
    return _caches_in(tmp_path)


@pytest.fixture(scope="session")
def caches_in() -> Callable[[Path], Callable[..., FeatureCache]]:
    """caches_in(folder) -> make_cache for that folder, for what is made once for several tests."""
    return _caches_in


def _caches_in(folder: Path) -> Callable[..., FeatureCache]:
    def make(
        rows: int = 40,
        labelling: str = "complete",
        d_w: int = 6,
        levels: dict[str, int] | None = None,
        name: str = "store.zarr",
        layout: Layout = Layout(chunk_rows=8, shard_rows=16),
        prefix: str = "",
        seen: str = "cde",
        extras: tuple[FeatureArray, ...] = (),
        factor: float = 1.0,
    ) -> FeatureCache:
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
            folder / name,
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

    return make


@pytest.fixture
def browser() -> Iterator[object]:
    """Headless Chromium, driven by playwright; the test is skipped where either is missing."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium: apt-get install chromium")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=flags)
        yield running
        running.close()
