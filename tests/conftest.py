"""What several tests need: small pictures in a table data set, stores filled with known maps, runs."""

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
from PIL import Image
from small_disk import SmallDisk
from small_stores import make_store

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


@pytest.fixture(scope="session")
def finished(
    tmp_path_factory: pytest.TempPathFactory, small_extraction: Callable[..., ExtractOptions]
) -> ExtractOptions:
    """A store of 48 pictures in 24 shards, extracted by this process without interruption."""
    from c3.extract.run import extract

    options = small_extraction(tmp_path_factory.mktemp("finished"), 48)
    extract(options)
    return options


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> Placement:
    """A small extracted data set with an evaluated run of two methods, for tagging."""
    from tagging_place import make_placement

    return make_placement(tmp_path_factory.mktemp("tagging"), draw_table)


@pytest.fixture(scope="session")
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
def make_cache(tmp_path: Path, caches_in: Callable[[Path], Callable[..., FeatureCache]]) -> Callable[..., FeatureCache]:
    """make_cache(rows, ..., name="store.zarr") -> a store of `make_store`, for this test alone."""
    return caches_in(tmp_path)


@pytest.fixture(scope="session")
def caches_in(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Callable[..., FeatureCache]]:
    """caches_in(folder) -> make_cache for that folder, for what is made once for several tests.

    A store is made once and copied, which takes a twentieth of the time.
    """
    templates, made = tmp_path_factory.mktemp("stores"), {}

    def copies_in(folder: Path) -> Callable[..., FeatureCache]:
        def make(rows: int = 40, name: str = "store.zarr", **settings: Any) -> FeatureCache:
            asked = repr((rows, sorted(settings.items())))
            if asked not in made:
                made[asked] = make_store(templates / f"{len(made)}.zarr", rows, **settings).path
            shutil.copytree(made[asked], folder / name)
            return FeatureCache.open(folder / name, mode="r+")

        return make

    return copies_in


@pytest.fixture(scope="module")
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
