"""A network of timm through every stage: extraction that resumes, training, prediction, export, fine-tuning."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c3 import Tagger
from c3.common.errors import C3Error
from c3.extract.backbone.weights import load_backbone
from c3.extract.options import ExtractOptions
from c3.extract.request import prepare
from c3.extract.run import extract
from c3.extract.spot_check import check_images
from c3.extract.store.cache import FeatureCache
from c3.extract.store.inspect import inspect_store
from c3.predict.export import export_onnx, export_safetensors
from c3.train.finetune.run import FineTuneOptions, finetune
from c3.train.run import TrainOptions, train
from c3.train.run_folder import open_run
from c3.train.scorer import restore
from safetensors import safe_open
from safetensors.torch import save_file

NAME, SIDE = "timm:mobilenetv4_conv_small", 64


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> Path:
    """A folder with a data set, weights of the network, a store by them and a run on it."""
    root = tmp_path_factory.mktemp("timm")
    draw_table(root / "tiny", 16)
    weights = load_backbone(NAME, "random:0", extras=("global",), input_size=SIDE).weights()
    save_file({name: value.contiguous() for name, value in weights.items()}, root / "w.safetensors")
    extract(options(root, root / "f.zarr"))
    quick = {"epochs": 1, "batch_size": 4, "lr": 1e-4, "hidden1": 16, "hidden2": 8}
    assert train(TrainOptions(root / "f.zarr", "fast0tag", root / "runs", quick, device="cpu")).finished
    return root


def options(root: Path, out: Path, **asked: object) -> ExtractOptions:
    plain = ExtractOptions("tiny", NAME, str(root / "w.safetensors"), out, root / "tiny" / "catalog.yaml", device="cpu",
                           batch_size=4, chunk_rows=2, shard_rows=2, input_size=SIDE)  # fmt: skip
    return replace(plain, **asked)  # type: ignore[arg-type]


def run_of(root: Path) -> Path:
    (found,) = (root / "runs").iterdir()
    return found


def test_an_extraction_in_parts_gives_the_same_bytes_and_says_what_made_them(place: Path, tmp_path: Path) -> None:
    whole = FeatureCache.open(place / "f.zarr")
    for part in ((1, 2), (2, 2)):
        extract(options(place, tmp_path / "p.zarr", part=part))
    parts = FeatureCache.open(tmp_path / "p.zarr")
    assert parts.digest == whole.digest
    for split in whole.splits:
        for level in whole.levels:
            assert (parts.read(split, level.name, 0, 99) == whole.read(split, level.name, 0, 99)).all()
    assert [level.channels for level in whole.levels] == [64, 96, 960]
    assert whole.origin.backbone == f"{NAME}.e2400_r224_in1k"
    assert whole.origin.transform["size"] == [SIDE, SIDE]  # type: ignore[index]
    assert "timm" in whole.provenance.versions
    assert "licence apache-2.0, if w.safetensors is mobilenetv4_conv_small" in inspect_store(place / "f.zarr")
    assert "3 random rows extracted again" in check_images(place / "f.zarr", 3)
    with pytest.raises(C3Error, match="transform"):
        extract(options(place, place / "f.zarr", input_size=96))


def test_prediction_computes_the_features_of_the_store(place: Path) -> None:
    tagger = Tagger.load(run_of(place), device="cpu")
    assert tagger.backbone.resize.side == SIDE
    cache = FeatureCache.open(place / "f.zarr")
    path = place / "tiny" / "images" / str(cache.image_paths("test")[0])
    (tagged,) = tagger.tag(path, top=3)
    scorer = restore(tagger.run, cache, torch.device("cpu"))
    stored = scorer({name: cache.read("test", name, 0, 1) for name in scorer.arrays})[0]
    scores = [stored[cache.classes.names.index(label.name)] for label in tagged.labels]
    np.testing.assert_allclose([label.score for label in tagged.labels], scores, atol=1e-3)


def test_export_repeats_the_licence_and_warns_of_one_that_forbids(
    place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    summary = export_safetensors(run_of(place), tmp_path / "w.safetensors")
    assert "licence apache-2.0, if w.safetensors is mobilenetv4" in summary
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert json.loads(file.metadata()["c3"])["features"]["licence"].startswith("apache-2.0")
    assert not caplog.records
    record = json.loads((run_of(place) / "run.json").read_text())
    other = tmp_path / "run"
    other.mkdir()
    for found in run_of(place).iterdir():
        (other / found.name).write_bytes(found.read_bytes())
    record["cache"]["licence"] = "cc-by-nc-4.0"
    (other / "run.json").write_text(json.dumps(record))
    with caplog.at_level(logging.WARNING):
        export_safetensors(other, tmp_path / "w2.safetensors")
    assert "under the licence cc-by-nc-4.0, which forbids commercial use" in caplog.text


def test_the_graph_takes_pictures_of_the_input_size(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    assert f"{NAME}.e2400_r224_in1k and fast0tag" in export_onnx(run_of(place), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")  # the scores were compared by export itself
    assert session.get_inputs()[0].shape == ["batch", 3, SIDE, SIDE]


def test_fine_tuning_leaves_weights_that_extract(place: Path, tmp_path: Path) -> None:
    asked = FineTuneOptions("tiny", run_of(place), "fast0tag", tmp_path, {"epochs": 1, "lr": 1e-3, "backbone_lr": 1.0},
                            place / "tiny" / "catalog.yaml", "cpu")  # fmt: skip
    tuned = finetune(asked)
    record = open_run(tuned.path).record
    assert record.features.weights_sha256 != open_run(run_of(place)).record.features.weights_sha256
    request = prepare(options(place, tmp_path / "again.zarr", weights=str(tuned.path / "backbone.safetensors")))
    assert request.digest == record.features.digest
