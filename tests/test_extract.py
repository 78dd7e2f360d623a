"""Extraction end to end on small pictures: resume, statuses, refusals; and the walk from a picture to a table row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.common.parsing import to_json
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache, Status
from click.testing import CliRunner
from forks import FORKS
from PIL import Image

BACKBONE = {"backbone": "squeezenet1_1", "weights": "random:0", "device": "cpu", "batch_size": 2}


def asked(table: Path, out: Path) -> ExtractOptions:
    return ExtractOptions("tiny", out=out, catalog=table / "catalog.yaml", chunk_rows=2, shard_rows=2, **BACKBONE)


@pytest.fixture
def options(table_dataset: Path, tmp_path: Path) -> ExtractOptions:
    return asked(table_dataset, tmp_path / "f.zarr")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> FeatureCache:
    """A store of the same pictures, extracted without interruption by the request of `options`."""
    folder = tmp_path_factory.mktemp("plain")
    extract(asked(draw_table(folder / "tiny", 12), folder / "f.zarr"))
    return FeatureCache.open(folder / "f.zarr")


@pytest.fixture(scope="module")
def whole(plain: FeatureCache) -> dict[str, np.ndarray]:
    """Its contents."""
    return contents(plain.path)


def contents(path: Path) -> dict[str, np.ndarray]:
    cache = FeatureCache.open(path)
    arrays = {
        f"{s}/{level.name}": cache.read(s, level.name, 0, cache.rows(s)) for s in cache.splits for level in cache.levels
    }
    return arrays | {f"{s}/status": cache.status(s) for s in cache.splits}


def test_a_second_call_finds_nothing_to_do(options: ExtractOptions) -> None:
    assert "is complete: train 6, val 3, test 3 rows, p4(128) p8(256) p16(512), 3 classes; no failures" in extract(
        options
    )
    before = {path: path.stat().st_mtime_ns for path in options.out.rglob("*")}
    assert "complete already" in extract(options)
    assert {path: path.stat().st_mtime_ns for path in options.out.rglob("*")} == before
    cache = FeatureCache.open(options.out)
    assert cache.origin.weights_sha256 and cache.provenance.weights == "random:0"


def test_a_stopped_extraction_goes_on_and_gives_the_same_store(
    options: ExtractOptions, whole: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    write = FeatureCache.write_shard

    def stop_after_two(self: FeatureCache, *arguments: object) -> None:
        nonlocal written
        if written == 2:
            raise KeyboardInterrupt
        written += 1
        write(self, *arguments)

    monkeypatch.setattr(FeatureCache, "write_shard", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        extract(options)
    assert len(FeatureCache.open(options.out).pending("train")) == 1
    monkeypatch.setattr(FeatureCache, "write_shard", write)
    extract(options)
    for name, values in contents(options.out).items():
        np.testing.assert_array_equal(values, whole[name])


def test_a_full_disk_stops_cleanly_and_goes_on(options: ExtractOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    write = FeatureCache.write_shard

    def full(self: FeatureCache, split: str, shard: int, *rest: object) -> None:
        if (split, shard) == ("train", 2):
            raise OSError(28, "No space left on device")
        write(self, split, shard, *rest)

    with (
        monkeypatch.context() as patch,
        pytest.raises(C3Error, match=r"shard 2 of train cannot be written .*No space left"),
    ):
        patch.setattr(FeatureCache, "write_shard", full)
        extract(options)
    assert FeatureCache.open(options.out).pending("train") == [2]
    assert "is complete" in extract(options)


def run_command(command: list[str]) -> None:
    """Found by its name in the child process, which imports `main` by itself."""
    main(command)


def test_a_killed_extraction_goes_on(table_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.zarr"
    command = ["--catalog", str(table_dataset / "catalog.yaml"), "extract", "--dataset", "tiny", "--backbone",
               "squeezenet1_1", "--weights", "random:0", "--out", str(out), "--batch-size", "1"]  # fmt: skip
    process = FORKS.Process(target=run_command, args=(command,), daemon=True)
    process.start()
    while not (out / "train/done/c/0").exists() and process.is_alive():
        time.sleep(0.01)
    process.kill()
    process.join()
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "is complete" in done.stdout
    FeatureCache.open(out).require_complete()


def test_bad_images_keep_their_row_and_their_neighbours(
    options: ExtractOptions, whole: dict[str, np.ndarray], table_dataset: Path
) -> None:
    images = table_dataset / "images"
    (images / "01.png").unlink()
    (images / "03.png").write_bytes(b"")
    (images / "07.png").write_bytes((images / "07.png").read_bytes()[:200])
    summary = extract(options)
    assert "1 missing" in summary and "1 empty" in summary and "1 unreadable" in summary
    found = contents(options.out)
    assert found["train/status"].tolist() == [Status.OK, Status.MISSING, Status.OK, Status.EMPTY, Status.OK, Status.OK]
    assert found["val/status"].tolist() == [Status.OK, Status.UNREADABLE, Status.OK]
    for level in ("p4", "p8", "p16"):
        np.testing.assert_array_equal(found[f"train/{level}"][[0, 2, 4, 5]], whole[f"train/{level}"][[0, 2, 4, 5]])
        assert not found[f"train/{level}"][[1, 3]].any()


def test_an_image_folder_without_one_readable_image_is_an_error(options: ExtractOptions, table_dataset: Path) -> None:
    for path in (table_dataset / "images").iterdir():
        path.write_text("gone")
    with pytest.raises(C3Error, match="not one image"):
        extract(options)


def test_another_request_for_the_same_store_is_refused(options: ExtractOptions, table_dataset: Path) -> None:
    extract(options)
    before = contents(options.out)
    for change, said in (
        ({"weights": "random:1"}, "weights_sha256"),
        ({"backbone": "resnet18"}, "backbone"),
        ({"limit": 1}, "manifest"),
    ):
        with pytest.raises(C3Error, match=said):
            extract(ExtractOptions(**(vars(options) | change)))
    for name, values in contents(options.out).items():
        np.testing.assert_array_equal(values, before[name])
    extract(ExtractOptions(**(vars(options) | {"limit": 1, "overwrite": True})))
    assert FeatureCache.open(options.out).rows("train") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dataset": "tinny"}, "Did you mean 'tiny'"),
        ({"backbone": "vgg"}, "unknown backbone"),
        ({"device": "cuda:99"}, "CUDA devices"),
        ({"device": "tpu"}, "not a device"),
        ({"splits": ("dev",)}, "no split 'dev'"),
        ({"weights": "nothing.pth"}, "no such file"),
    ],
)
def test_bad_requests_leave_no_trace(options: ExtractOptions, change: dict[str, object], said: str) -> None:
    with pytest.raises(C3Error, match=said):
        extract(ExtractOptions(**(vars(options) | change)))
    assert not options.out.exists()


def test_maps_do_not_depend_on_the_batch_or_the_limit(options: ExtractOptions, whole: dict[str, np.ndarray]) -> None:
    extract(replace(options, batch_size=5, limit=2))
    part = contents(options.out)
    for level in ("p4", "p8", "p16"):
        np.testing.assert_allclose(part[f"train/{level}"], whole[f"train/{level}"][:2], rtol=5e-3, atol=1e-4)


def test_a_map_is_the_pooled_feature_of_the_picture(plain: FeatureCache) -> None:
    """The walk by hand: open, resize, normalise, run the plain torchvision network, pool, compare with the store."""
    import torch
    from torchvision import models
    from torchvision.transforms import functional as transforms

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = models.squeezenet1_1(weights=None).eval()
    file = plain.path.parent / "tiny/images/04.png"
    picture = Image.open(file).convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    inputs = transforms.normalize(transforms.to_tensor(picture), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        deep = network.features(inputs[None])
    expected = torch.nn.functional.adaptive_max_pool2d(deep, 7)[0].numpy()
    found = plain.read("train", "p16", 4, 5)[0].astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=1e-4)


def test_the_environment_moves_the_built_in_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from c3.extract.catalog.catalog import Catalog

    monkeypatch.setenv("C3_DATA", str(tmp_path / "elsewhere"))
    assert Catalog().dataset("demo").root == tmp_path / "elsewhere/demo"
    assert os.environ["C3_DATA"] not in str(Catalog().dataset("demo").catalog)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_close_and_recorded(
    options: ExtractOptions, plain: FeatureCache, whole: dict[str, np.ndarray], precision: str
) -> None:
    extract(replace(options, precision=precision))
    assert FeatureCache.open(options.out).origin.precision == precision
    assert "precision" not in to_json(plain.origin)
    low = contents(options.out)
    for name in whole:
        if "/p" in name:
            apart = np.abs(whole[name].astype(np.float32) - low[name].astype(np.float32))
            assert 0 < apart.max() < 0.05 * whole[name].max()


def test_features_beyond_float16_are_extracted(
    options: ExtractOptions, whole: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from c3.extract.backbone.network import Backbone

    forward = Backbone.forward

    def loud(self: Backbone, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        levels = forward(self, pixels)
        return levels | {"p8": levels["p8"] * 1e6}

    monkeypatch.setattr(Backbone, "forward", loud)
    extract(options)
    scaled = contents(options.out)
    assert scaled["train/p8"].dtype == np.float32
    np.testing.assert_allclose(scaled["train/p8"], whole["train/p8"].astype(np.float32) * 1e6, rtol=3e-3, atol=2e4)
    np.testing.assert_array_equal(scaled["train/p16"], whole["train/p16"])
    monkeypatch.setattr(
        Backbone, "forward", lambda self, pixels: {k: v * np.inf for k, v in forward(self, pixels).items()}
    )
    with pytest.raises(C3Error, match="features of p4 hold NaN or infinity"):
        extract(ExtractOptions(**(vars(options) | {"out": options.out.with_name("nan.zarr")})))
