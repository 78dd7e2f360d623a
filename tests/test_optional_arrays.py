"""The optional arrays of a store, `regions` and `global`: extracted, mended, joined and read like its levels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from c3.cli import main
from c3.common.errors import C3Error
from c3.common.parsing import to_json
from c3.extract import cluster
from c3.extract.estimate import plan
from c3.extract.merge import merge
from c3.extract.options import ExtractOptions
from c3.extract.request import prepare
from c3.extract.run import extract, tasks_of
from c3.extract.spot_check import check_images
from c3.extract.store.cache import FeatureCache, Status
from c3.extract.store.inspect import channel_statistics
from c3.extract.store.layout import GLOBAL_VECTOR, REGIONS, FeatureArray
from c3.extract.verify import verify
from c3.train import inputs as on_offer
from c3.train.data.batches import BatchStream
from c3.train.registry import inputs_of
from c3.train.run import TrainOptions, train
from click.testing import CliRunner
from PIL import Image
from torchvision import models

Make = Callable[..., FeatureCache]
EXTRAS = (FeatureArray(REGIONS, 4, 14), FeatureArray(GLOBAL_VECTOR, 9, 0))
BOTH = {"regions": True, "global_vector": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_extraction: Callable[..., ExtractOptions]) -> ExtractOptions:
    """A finished store of four pictures, a shard each, with both arrays, by resnet18; one of train is missing."""
    options = small_extraction(tmp_path_factory.mktemp("extras"), 4)
    (options.catalog.parent / "images/01.png").unlink()
    options = replace(options, backbone="resnet18", shard_rows=1, **BOTH)
    assert "p8(128) p16(256) p32(512) regions(256) global(512), 3 classes; 1 missing" in extract(options)
    return options


@pytest.fixture
def options(made: ExtractOptions, tmp_path: Path) -> ExtractOptions:
    """The same store in a folder of its own."""
    shutil.copytree(made.out, tmp_path / "f.zarr")
    return replace(made, out=tmp_path / "f.zarr")


def contents(path: Path | str) -> dict[str, np.ndarray]:
    cache = FeatureCache.open(path)
    return {f"{s}/{array.path}": cache.maps(s, array.name)[:] for s in cache.splits for array in cache.arrays}


def assert_same(found: Path | str, expected: Path | str) -> None:
    one, other = contents(found), contents(expected)
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)


# -- a store with them -------------------------------------------------------------------------------------------------


def test_a_store_says_what_it_has(made: ExtractOptions) -> None:
    cache = FeatureCache.open(made.out)
    assert [level.name for level in cache.levels] == ["p8", "p16", "p32"]
    assert cache.extras == (FeatureArray("regions", 256, 14), FeatureArray("global", 512, 0))
    assert [to_json(array) for array in cache.extras] == [
        {"name": "regions", "channels": 256, "side": 14}, {"name": "global", "channels": 512, "side": 0},
    ]  # fmt: skip
    assert cache.origin.regions == {"node": "layer3", "channels": 256, "stride": 16}
    assert cache.origin.global_vector == {"node": "layer4", "channels": 512, "stride": 0}
    regions, vector = cache.maps("train", "regions"), cache.maps("train", "global")
    assert (regions.shape, regions.ndim, regions.chunks) == ((2, 256, 14, 14), 4, (1, 256, 14, 14))
    assert (vector.shape, vector.ndim, vector.chunks) == ((2, 512), 2, (1, 512))
    assert not regions[1].any() and not vector[1].any() and regions[0].any() and vector[0].any()
    np.testing.assert_array_equal(regions[:].reshape(2, 256, 7, 2, 7, 2).max((3, 5)), cache.read("train", "p16", 0, 2))
    for name in ("regions", "global"):
        plain = zarr.open_array(Path(made.out) / f"train/{name}", mode="r")[:]
        np.testing.assert_array_equal(cache.maps("train", name)[[1, 0]], plain[[1, 0]])
    with pytest.raises(C3Error, match="has no array 'fc7'; it has p8, p16, p32, regions, global"):
        cache.maps("train", "fc7")
    assert "is sound" in verify(made.out)
    assert "4 random rows extracted again" in check_images(made.out, 4)


def test_levels_do_not_depend_on_the_arrays_beside_them(made: ExtractOptions, tmp_path: Path) -> None:
    extract(replace(made, out=tmp_path / "plain.zarr", regions=False, global_vector=False))
    plain, both = FeatureCache.open(tmp_path / "plain.zarr"), FeatureCache.open(made.out)
    assert plain.digest != both.digest
    assert plain.extras == ()
    found, expected = contents(tmp_path / "plain.zarr"), contents(made.out)
    assert all("/pyramid/" in name for name in found) and len(expected) == len(found) + 6
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    for path, asked, said in (
        (made.out, {"regions": False}, r"regions: store \{'node': 'layer3'.*request None"),
        (made.out, {"global_vector": False, "append": True}, r"do not fit: global: store \{.*request None"),
        (tmp_path / "plain.zarr", {"global_vector": False}, r"regions: store None, request \{'node': 'layer3'"),
    ):
        with pytest.raises(C3Error, match=said):
            extract(replace(made, out=path, **asked))
    with pytest.raises(C3Error, match="do not fit"):
        merge([made.out, tmp_path / "plain.zarr"], tmp_path / "m.zarr")


def test_the_commands_know_them(options: ExtractOptions) -> None:
    common = [
        "--catalog",
        str(options.catalog),
        "extract",
        "--dataset",
        "tiny",
        "--weights",
        "random:0",
        "--device",
        "cpu",
    ]
    asked = ["--backbone", "resnet18", "--batch-size", "2", "--regions", "--global", "--out", str(options.out)]
    done = CliRunner().invoke(main, [*common, *asked])
    assert done.exit_code == 0 and "Nothing to do" in done.output
    refused = CliRunner().invoke(main, [*common, "--backbone", "squeezenet1_1", "--regions", "--out", "new.zarr"])
    assert refused.exit_code == 2 and "squeezenet1_1 has none" in refused.stderr.splitlines()[-1]
    shown = CliRunner().invoke(main, ["inspect", str(options.out), "--json", "--channels"])
    found = json.loads(shown.stdout)
    assert found["levels"]["regions"] == [256, 14, 14] and found["levels"]["global"] == [512]
    assert found["bytes_raw"] == 4 * 2 * ((128 + 256 + 512) * 49 + 256 * 196 + 512)
    assert len(found["channels"]["global"]["mean"]) == 512
    text = CliRunner().invoke(main, ["inspect", str(options.out)]).stdout
    assert "p32 512x7x7, regions 256x14x14, global 512, float16" in text


def test_a_plan_counts_them(made: ExtractOptions) -> None:
    said = plan(replace(made, batch_size=1))
    assert "p32 512x7x7, regions 256x14x14, global 512: 189.2 kB a row in float16" in said
    assert "raw       756.7 kB" in said  # 4 rows
    assert "about 32 files" in said  # 4 shards of five arrays, scale, status and flag


# -- stopped, damaged, grown -------------------------------------------------------------------------------------------


def test_a_stopped_extraction_goes_on(made: ExtractOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    write = FeatureCache.write_shard

    def stop_after_one(self: FeatureCache, *arguments: object) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(arguments)
        write(self, *arguments)

    again = replace(made, out=tmp_path / "g.zarr")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FeatureCache, "write_shard", stop_after_one)
        extract(again)
    cache = FeatureCache.open(again.out, mode="r+")
    assert cache.pending("train") == [1]
    with pytest.raises(C3Error, match="shard 1 of train/global has no scale: it is lost, or not extracted yet"):
        cache.read("train", "global", 1, 2)
    request = prepare(again)  # the next shard by what a worker of a cluster runs
    task = tasks_of(request.manifest, cache, {"train": [1]})[0]
    cluster.work(task, cluster.WorkerSetup.of(request))
    assert FeatureCache.open(again.out).pending("train") == []
    assert "is complete" in extract(again)
    assert_same(again.out, made.out)


@pytest.mark.parametrize(
    ("key", "lost"),
    [("train/regions/c/0/0/0/0", False), ("train/global/c/0/0", True), ("train/global/zarr.json", False)],
)
def test_damage_is_named_and_mended(options: ExtractOptions, made: ExtractOptions, key: str, lost: bool) -> None:
    file = Path(options.out) / key
    times = {path: path.stat().st_mtime_ns for path in Path(options.out).rglob("*/c/*") if path.is_file()}
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    if lost:
        file.unlink()
    else:
        file.write_bytes(content)
    named = "train/global/zarr.json is" if "json" in key else f"train shard 0: shard 0 of {key.split('/c/')[0]} is"
    with pytest.raises(C3Error, match=named):
        verify(options.out)
    verify(options.out, repair=True)
    assert "is sound" in verify(options.out)
    assert_same(options.out, made.out)
    touched = {path.relative_to(options.out) for path, time in times.items() if path.stat().st_mtime_ns != time}
    assert touched == ({Path("train/done/c/0"), Path("train/status/c/0")} if "/c/" in key else set())


def test_failures_are_retried_in_every_array(options: ExtractOptions) -> None:
    picture = Path(options.catalog).parent / "images/01.png"
    Image.new("RGB", (30, 30), (200, 30, 30)).save(picture)
    try:
        assert "no failures" in extract(replace(options, retry_failed=True))
    finally:
        picture.unlink()
    cache = FeatureCache.open(options.out)
    assert all(cache.maps("train", array.name)[1].any() for array in cache.arrays)


def test_parts_and_appended_rows_give_the_same_store(made: ExtractOptions, tmp_path: Path) -> None:
    parts = [tmp_path / f"part{number}.zarr" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        extract(replace(made, out=part, part=(number, 2)))
    assert "0 of 4 shards pending" in merge(parts, tmp_path / "merged.zarr")
    assert_same(tmp_path / "merged.zarr", made.out)
    grown = replace(made, out=tmp_path / "grown.zarr")
    extract(replace(grown, splits=("train",), limit=1))
    extract(replace(grown, append=True))
    assert_same(grown.out, made.out)
    assert "is sound" in verify(grown.out)


def test_rows_of_other_stores_follow(make_cache: Make, tmp_path: Path) -> None:
    stores = [make_cache(rows=20, name=f"{n}.zarr", prefix=f"s{n}-", extras=EXTRAS) for n in (0, 1)]
    merge([store.path for store in stores], tmp_path / "m.zarr")
    merged = FeatureCache.open(tmp_path / "m.zarr")
    for array in (*stores[0].levels, *EXTRAS):
        expected = np.concatenate([store.maps("train", array.name)[:] for store in stores])
        np.testing.assert_array_equal(merged.maps("train", array.name)[:], expected)


# -- numbers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loud", ["regions", "global"])
def test_values_beyond_float16_are_scaled(make_cache: Make, loud: str) -> None:
    cache = make_cache(rows=20, extras=EXTRAS)
    maps = {array.name: np.ones((4, *array.cell), np.float32) for array in cache.arrays}
    maps[loud][2, 3] = 3e8
    cache.write_shard("train", 1, maps, np.full(4, Status.OK, np.uint8))
    cache = FeatureCache.open(cache.path)
    assert cache.shard_files.wide("train").tolist() == [array.name == loud for array in cache.arrays]
    for array in cache.arrays:
        found = cache.read("train", array.name, 16, 20)
        assert found.dtype == (np.float32 if array.name == loud else np.float16)
        np.testing.assert_allclose(found, maps[array.name], rtol=2**-10)
    assert "is sound" in verify(cache.path)


def test_int8_errs_by_at_most_half_a_step_of_the_channel(made: ExtractOptions, tmp_path: Path) -> None:
    packed = replace(made, dtype="int8", out=tmp_path / "int8.zarr")
    extract(packed)
    cache = FeatureCache.open(packed.out)
    bounds = {name: np.array(found["bound"]) for name, found in channel_statistics(cache).items()}
    assert {array.name: array.channels for array in cache.arrays} == {name: len(bounds[name]) for name in bounds}
    exact = contents(made.out)
    for name, values in contents(packed.out).items():
        bound = bounds[name.split("/")[-1]].reshape(-1, *(1,) * (values.ndim - 2))
        apart = np.abs(values.astype(np.float32) - exact[name])
        assert (apart <= 1.01 * bound + 2e-3 * np.abs(exact[name])).all(), name
    assert "4 random rows extracted again" in check_images(packed.out, 4)


# -- old stores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "digest"), [("float16", "e14e59645c94dd90"), ("int8", "27bf25f1c340ea40")])
def test_stores_without_them_are_what_they_were(
    tmp_path: Path, small_extraction: Callable[..., ExtractOptions], dtype: str, digest: str
) -> None:
    """The digests were computed by the version before the optional arrays, from the same pictures and weights."""
    state = models.squeezenet1_1(weights=None).state_dict()
    known = {n: (torch.arange(t.numel()) % 7 - 3).reshape(t.shape) / (4 * t[0].numel()) for n, t in state.items()}
    torch.save(known, tmp_path / "w.pth")
    options = replace(small_extraction(tmp_path, 8), weights=str(tmp_path / "w.pth"), dtype=dtype)
    extract(options)
    cache = FeatureCache.open(options.out)
    assert cache.digest == digest
    assert [to_json(array) for array in cache.arrays] == [
        {"name": "p4", "channels": 128}, {"name": "p8", "channels": 256}, {"name": "p16", "channels": 512},
    ]  # fmt: skip
    assert {"regions", "global", "global_vector"}.isdisjoint(
        {*to_json(cache.origin), *cache.attributes.record(), *cache.provenance.request}
    )
    assert not list(Path(options.out).glob("*/regions")) and not list(Path(options.out).glob("*/global"))


# -- training ----------------------------------------------------------------------------------------------------------


def test_methods_are_built_for_them_and_read_them(make_cache: Make, tmp_path: Path) -> None:
    assert (REGIONS, GLOBAL_VECTOR) == (on_offer.REGIONS, on_offer.GLOBAL_VECTOR)
    cache = make_cache(extras=EXTRAS)
    inputs = inputs_of(cache)
    assert (inputs.regions, inputs.global_vector) == (4, 9)
    assert inputs.names == ("p8", "p16", "p32", "regions", "global")
    assert all(inputs.shape(array.name) == array.cell for array in cache.arrays)
    assert (inputs_of(make_cache(name="plain.zarr")).regions, inputs_of(make_cache(name="p.zarr")).global_vector) == (
        0,
        0,
    )
    for batch in BatchStream(cache, "train", inputs.names, 7, seed=0).epoch(0):
        for array in cache.arrays:
            np.testing.assert_array_equal(batch.arrays[array.name], cache.maps("train", array.name)[batch.rows])
    for method, settings in (("c3", {"groups": 2}), ("fast0tag", {"hidden1": 16, "hidden2": 8})):
        asked = {"epochs": 1, "batch_size": 8, "lr": 1e-3} | settings
        run = train(TrainOptions(cache.path, method, tmp_path / "runs", asked, device="cpu"))
        assert run.finished
        assert (run.record.inputs.regions, run.record.inputs.global_vector) == (4, 9)
