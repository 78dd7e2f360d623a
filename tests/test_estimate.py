"""What is said before and after an extraction: the plan, the description of a store, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.estimate import plan
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.spot_check import check_images
from c3.extract.store.cache import FeatureCache
from c3.extract.store.inspect import channel_statistics
from c3.extract.store.layout import Layout
from click.testing import CliRunner, Result
from PIL import Image


@pytest.fixture
def options(table_dataset: Path, tmp_path: Path) -> ExtractOptions:
    return ExtractOptions(
        "tiny", "squeezenet1_1", "random:0", tmp_path / "f.zarr", table_dataset / "catalog.yaml",
        batch_size=4, device="cpu",
    )  # fmt: skip


def c3(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_plan_counts_and_writes_nothing(options: ExtractOptions, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    said = plan(options)
    assert "12 (train 6, val 3, test 3)" in said
    assert "shards    3 of 256 rows" in said
    assert "raw       1.1 MB" in said  # 12 rows of 896 channels, 49 cells, 2 bytes
    many = plan(options, rows=9_000_000)
    assert "9,000,000 (planned; the data set has train 6" in many
    assert "shards    8,790 of 1024 rows" in many
    assert "about 52,740 files" in many
    assert "raw       790.3 GB" in many
    assert set(tmp_path.rglob("*")) == before


def test_the_expected_size_is_close_to_the_real_one(options: ExtractOptions) -> None:
    for dtype in ("float16", "int8"):
        asked = replace(options, dtype=dtype, out=options.out.with_name(f"{dtype}.zarr"), chunk_rows=8, shard_rows=8)
        (line,) = [line for line in plan(asked).splitlines() if line.startswith(dtype)]
        extract(asked)
        stored = sum(file.stat().st_size for file in asked.out.glob("*/pyramid/*/c/*/0/0/0"))
        raw = 12 * 896 * 49 * 2
        ratio = float(line.split("(")[1].split()[0])
        # chunks of the small splits are padded with zeros, which cost next to nothing
        assert stored / raw == pytest.approx(ratio, rel=0.1)


def test_a_plan_without_pictures_says_so(options: ExtractOptions, table_dataset: Path) -> None:
    for image in (table_dataset / "images").iterdir():
        image.unlink()
    with pytest.raises(C3Error, match=r"none of 12 images could be read \(first: .*no such file"):
        plan(options)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_channel_statistics_against_numpy(make_cache: Callable[..., FeatureCache], dtype: str) -> None:
    cache = make_cache(rows=20, layout=Layout(8, 16, dtype))
    status = np.ones(4, np.uint8)
    status[1] = 2
    maps = {level.name: np.random.default_rng(3).random((4, level.channels, 7, 7), np.float32).astype(np.float16)
            for level in cache.levels}  # fmt: skip
    for level_maps in maps.values():
        level_maps[1] = 0
        level_maps[2, 0] = 0
    cache.write_shard("train", 1, maps, status)
    found = channel_statistics(cache)
    for level in cache.levels:
        rows = np.concatenate([cache.maps(s, level.name)[:][cache.status(s) == 1] for s in cache.splits])
        rows = rows.astype(np.float64)
        np.testing.assert_allclose(found[level.name]["mean"], rows.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(found[level.name]["max"], rows.max((0, 2, 3)))
        np.testing.assert_allclose(found[level.name]["zeros"], (rows == 0).mean((0, 2, 3)))
        assert len(found[level.name]["bound"]) == (level.channels if dtype == "int8" else 0)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_check_images_knows_its_pictures(options: ExtractOptions, table_dataset: Path, dtype: str) -> None:
    options = replace(options, dtype=dtype)
    extract(options)
    assert "12 random rows extracted again" in check_images(options.out, 50)
    picture = table_dataset / "images/04.png"
    content = picture.read_bytes()
    Image.new("RGB", (40, 50), (255, 255, 0)).save(picture)
    with pytest.raises(C3Error, match=r"image 04\.png, row 4 of train, differs in p4 by"):
        check_images(options.out, 50)
    picture.unlink()
    with pytest.raises(C3Error, match=r"image 04\.png, row 4 of train, is missing now and was ok"):
        check_images(options.out, 50)
    picture.write_bytes(content)
    shown = c3("inspect", options.out, "--channels", "--check-images", 3, "--json")
    assert shown.exit_code == 0, shown.output
    assert set(json.loads(shown.stdout)["channels"]) == {"p4", "p8", "p16"}
    assert "dead channels" in c3("inspect", options.out, "--channels").stdout


def test_what_does_not_fit_the_store_is_one_line(options: ExtractOptions, tmp_path: Path, table_dataset: Path) -> None:
    extract(options)
    (tmp_path / "file").write_text("hello")
    own = ("--catalog", table_dataset / "catalog.yaml", "extract", "--dataset", "tiny", "--backbone", "squeezenet1_1",
           "--weights", "random:0", "--device", "cpu")  # fmt: skip
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    for arguments, said in (
        (("--out", options.out, "--dtype", "int8"), "dtype: store None, request 'int8'"),
        (("--out", options.out, "--precision", "bf16"), "precision: store None, request 'bf16'"),
        (("--out", options.out, "--shard-rows", "512"), "--shard-rows 256, the request says 512"),
        (("--out", options.out, "--codec", "lz4"), "--codec auto, the request says lz4"),
        (("--out", tmp_path / "file"), "is not a feature store"),
        (("--out", tmp_path / "new.zarr", "--shard-rows", "100", "--chunk-rows", "64"), "whole chunks"),
        (("--out", tmp_path / "new.zarr", "--rows", "5"), "--rows goes with --plan"),
        (("--out", tmp_path / "new.zarr", "--append"), "no feature store at"),
        (("--out", tmp_path / "new.zarr", "--retry-failed"), "no feature store at"),
    ):
        done = c3(*own, *arguments)
        assert done.exit_code == 2, done.output
        assert said in done.stderr.splitlines()[-1]
        assert done.stderr.count("c3: ") == 1
        assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "arguments",
    [("--part", "0/3"), ("--part", "4/3"), ("--part", "x"), ("--shard-rows", "0"), ("--chunk-rows", "-1"),
     ("--workers", "0"), ("--dtype", "float64"), ("--codec", "gzip"), ("--rows", "0")],
)  # fmt: skip
def test_impossible_values_are_refused_by_name(arguments: tuple[str, str]) -> None:
    done = c3("extract", "--dataset", "demo", *arguments)
    assert done.exit_code == 2
    assert arguments[0] in done.stderr
