"""End to end: the same scores at the start, both parts learn, nothing gets worse, the two stages close, bad input."""

from __future__ import annotations

import csv
import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.evaluate.report.groups import group_runs
from c3.extract.backbone.network import state_hash
from c3.extract.backbone.weights import load_backbone
from c3.extract.datasets.demo.data_set import DemoSpec, write_demo
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.train.finetune.end_to_end import EndToEnd, EndToEndOptions
from c3.train.finetune.images import PIXELS
from c3.train.finetune.run import finetune
from c3.train.finetune.start import FineTuneOptions
from c3.train.models.base import Inputs
from c3.train.models.fast0tag import Fast0Tag
from c3.train.run import TrainOptions, train
from c3.train.run_folder import ChosenEpoch, Run, claimed, open_run, write_record
from c3.train.scorer import rebuild, restore, word_form
from c3.train.training_state import Checkpointer
from c3.train.validation import Validation
from finetune_setup import QUICK, SIDE, Placement, c3, joined, made, tensors
from mid_training import after


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> Placement:
    return made(tmp_path_factory.mktemp("place"), draw_table)


@pytest.fixture(scope="module")
def tuned(place: Placement) -> Run:
    return finetune(place.asked(place.start.parent))


def log(run: Run) -> list[dict[str, float]]:
    with (run.path / "log.csv").open(newline="") as file:
        return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]


def test_before_the_first_step_the_scores_are_those_of_the_run_on_its_store(place: Placement) -> None:
    cache, (model, table) = FeatureCache.open(place.store), joined(place)
    scorer = restore(open_run(place.start), cache, torch.device("cpu"))
    vectors = word_form(cache.classes, "l2")(torch.from_numpy(cache.classes.vectors))
    for split in cache.splits:
        rows = np.arange(cache.rows(split))
        expected = scorer({name: cache.maps(split, name)[rows] for name in scorer.arrays})
        with torch.inference_mode():
            pixels = torch.from_numpy(table.maps(split, PIXELS)[rows]).float()
            found = model.eval().scores(model({PIXELS: pixels}), vectors).numpy()
        np.testing.assert_allclose(found, expected, rtol=5e-3, atol=2e-3)
        assert np.ptp(expected) > 0.05  # a constant would agree with anything
    seen = vectors[torch.from_numpy(cache.classes.seen)]
    images = Validation(table, (PIXELS,), at_a_time=2).score(model, seen)
    assert images == pytest.approx(Validation(cache, scorer.arrays).score(scorer.model, seen), abs=1e-6)


def test_both_parts_are_tuned_and_validation_gets_no_worse(place: Placement, tuned: Run) -> None:
    before, after = tensors(place.start), tensors(tuned)
    assert before.keys() == after.keys()
    assert not torch.equal(before["network.0.weight"], after["network.0.weight"])
    original, own = load_backbone("squeezenet1_1", "random:0").body.state_dict(), tensors(tuned, "backbone")
    assert original.keys() == own.keys()
    assert all(not torch.equal(original[name], own[name]) for name in own)  # every layer learns
    chosen, lines = tuned.record.validation, log(tuned)
    scores = [chosen.start, *(line["val_mAP"] for line in lines)]
    assert chosen.best == max(scores) > chosen.start
    assert chosen.epoch == scores.index(max(scores))
    assert [line["lr"] for line in lines] == pytest.approx([5e-4, 1e-3 * (1 + np.cos(0.75 * np.pi)) / 2], abs=5e-4)
    assert tuned.path.name.startswith("fast0tag-tiny-e2e-s5-")
    assert not (tuned.path / "checkpoint.safetensors").exists()


def test_longer_training_lowers_the_loss(place: Placement, tmp_path: Path) -> None:
    lines = log(finetune(place.asked(tmp_path, epochs=6, lr=3e-3)))
    assert lines[-1]["loss"] < 0.9 * lines[0]["loss"]


def test_the_backbone_learns_at_its_own_rate(place: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates, real = [], torch.optim.Adam.step

    def watched(self: torch.optim.Adam, *arguments: object) -> object:
        rates.append([(group["lr"], len(group["params"])) for group in self.param_groups])
        return real(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", watched)
    finetune(place.asked(tmp_path, epochs=1, schedule="step", drop_epoch=9, warmup=0, backbone_lr=0.25))
    head, body = len(list(rebuild(open_run(place.start)).parameters())), len(tensors_of_backbone())
    assert rates == [[(1e-3, head), (2.5e-4, body)]] * len(rates)


def tensors_of_backbone() -> list[torch.nn.Parameter]:
    return list(load_backbone("squeezenet1_1", "random:0").parameters())


def test_a_frozen_backbone_stays_bit_for_bit_and_gives_the_same_store(place: Placement, tmp_path: Path) -> None:
    run = finetune(place.asked(tmp_path, backbone_lr=0))
    assert state_hash(tensors(run, "backbone")) == open_run(place.start).record.features.weights_sha256
    assert run.record.features.digest == FeatureCache.open(place.store).digest
    assert log(run)[0]["loss"] > 0


def test_the_start_is_kept_where_no_epoch_is_better(
    place: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scores, epoch in (([0.5, 0.4, 0.5], 0), ([0.5, 0.6, 0.4], 1)):
        told = iter(scores)
        monkeypatch.setattr(Validation, "score", lambda *_, told=told: next(told))
        run = finetune(place.asked(tmp_path / str(epoch)))
        assert run.record.validation == ChosenEpoch(start=0.5, best=max(scores), epoch=epoch)
        same = [torch.equal(one, tensors(run)[name]) for name, one in tensors(place.start).items()]
        assert all(same) == (epoch == 0)
        unchanged = state_hash(tensors(run, "backbone")) == open_run(place.start).record.features.weights_sha256
        assert unchanged == (epoch == 0)


def test_a_stopped_run_ends_with_the_same_weights(
    place: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"ema": 0.9, "clip": 1.0}
    whole = finetune(place.asked(tmp_path / "whole", **settings))
    asked = replace(place.asked(tmp_path / "stopped", **settings), checkpoint_steps=1)
    real, done = Checkpointer.step, []

    def step(self: Checkpointer) -> None:
        real(self)
        done.append(1)
        if len(done) in (1, 3):
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpointer, "step", step)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            finetune(asked)
    again = finetune(asked)
    assert len(done) == 6  # two steps an epoch, and the two that were stopped before they were saved
    for name in ("weights", "backbone"):
        one, other = tensors(whole, name), tensors(again, name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert again.record.validation == whole.record.validation
    assert finetune(asked).record == again.record  # and is not trained again
    assert len(done) == 6
    with claimed(again.path), pytest.raises(C3Error, match="is being trained by another process"):
        finetune(replace(asked, overwrite=True))


def test_batch_norm_keeps_its_statistics_and_half_precision_trains_every_layer() -> None:
    backbone = load_backbone("resnet18", "random:0")
    before = {name: value.clone() for name, value in backbone.body.state_dict().items()}
    inputs = Inputs({"p8": 128, "p16": 256, "p32": 512}, d_w=4, classes=3)
    model = EndToEnd(Fast0Tag(inputs, Fast0Tag.Options(hidden1=8, hidden2=4)), backbone, EndToEndOptions()).train()
    assert model.head.training and not any(module.training for module in backbone.modules())
    pixels = torch.randint(0, 256, (2, 3, 64, 64)).float()
    with torch.autocast("cpu", torch.bfloat16):
        half = backbone.features(pixels)["p32"]
        embedding = model({PIXELS: pixels})
    assert half.dtype == torch.bfloat16
    embedding.float().square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert all(torch.equal(value, before[name]) for name, value in backbone.body.state_dict().items())


def test_half_precision_trains(place: Placement, tmp_path: Path) -> None:
    run = finetune(place.asked(tmp_path, precision="bf16", epochs=1))
    assert run.record.validation.start > 0


def test_a_tuned_run_tags_pictures_by_its_own_backbone(place: Placement, tuned: Run, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(tuned.path, tmp_path / "moved"))
    features = replace(tuned.record.features, weights_asked="/gone/backbone.safetensors")
    write_record(moved, replace(tuned.record, features=features))
    shown = c3("predict", place.root / "images/00.png", "--run", moved, "--json", "--top", 9, "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    scores = {label["label"]: label["score"] for label in json.loads(shown.stdout)["labels"]}
    _, table = joined(place)
    backbone = load_backbone("squeezenet1_1", str(tuned.path / "backbone.safetensors"))
    model = EndToEnd(rebuild(tuned), backbone, EndToEndOptions()).eval()
    row = np.flatnonzero(FeatureCache.open(place.store).image_ids("train") == "00.png")
    with torch.inference_mode():
        embedding = model({PIXELS: torch.from_numpy(table.maps("train", PIXELS)[row]).float()})
        expected = model.scores(embedding, word_form(table.classes, "l2")(torch.from_numpy(table.classes.vectors)))[0]
    assert [scores[name] for name in table.classes.names] == pytest.approx(expected.tolist(), rel=1e-3, abs=1e-5)


def test_the_two_stages_close(place: Placement, tuned: Run) -> None:
    missing = c3("evaluate", "--run", tuned.path, "--device", "cpu")
    command = tuned.record.tuned_from.extract
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert f"give this command and then c3 evaluate again: {command}" in missing.stderr
    other = c3("evaluate", "--run", tuned.path, "--cache", place.store, "--device", "cpu")
    assert (other.exit_code, "has other features" in other.stderr) == (2, True)
    words = shlex.split(command)
    assert words[:3] == ["c3", "--catalog", str(place.catalog)]
    done = c3(*words[1:], "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert FeatureCache.open(tuned.path / "features.zarr").digest == tuned.record.features.digest
    for split in ("test", "val"):
        scored = c3("evaluate", "--run", tuned.path, "--split", split, "--device", "cpu")
        assert scored.exit_code == 0, scored.output
    metrics = json.loads((tuned.path / "metrics-val.json").read_text())["protocols"]["table"]["tasks"]
    assert metrics["seen"]["mAP"] == pytest.approx(100 * tuned.record.validation.best, abs=1e-3)
    assert open_run(tuned.path).metrics.split == "test"
    again = finetune(replace(place.asked(tuned.path.parent / "second", epochs=1), start=tuned.path))
    assert again.record.validation.start == pytest.approx(tuned.record.validation.best, abs=1e-6)
    assert again.record.tuned_from.features == FeatureCache.open(place.store).digest


def test_seeds_of_a_tuned_backbone_are_one_row(tuned: Run) -> None:
    def seed(number: int, digest: str) -> Run:
        settings = {**tuned.record.settings, "seed": number}
        features = replace(tuned.record.features, digest=digest)
        return replace(tuned, record=replace(tuned.record, settings=settings, features=features))

    groups, replaced = group_runs([seed(0, "a" * 16), seed(1, "b" * 16)])
    assert [len(group.runs) for group in groups] == [2] and not replaced


def test_images_that_could_not_be_read_are_left_out(
    draw_table: Callable[[Path, int], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = made(tmp_path, draw_table, broken=("01.png", "09.png"))
    run = finetune(place.asked(tmp_path / "tuned", epochs=1))
    assert run.record.rows == open_run(place.start).record.rows
    for split, name in (("train", "01.png"), ("val", "09.png")):
        said = f"1 of {8 if split == 'train' else 4} images of {split} cannot be read and are left out (first: {name}: "
        assert said in caplog.text
    (place.root / "images/03.png").unlink()
    with pytest.raises(C3Error, match="was trained on 5 images, of which 4 can be read now"):
        finetune(place.asked(tmp_path / "less"))


def test_an_image_that_goes_during_training_is_named(
    place: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place_copy = place.copied(tmp_path)

    def lose() -> None:
        for path in (place_copy.root / "images").glob("0[0-7].png"):
            path.unlink()

    after(1, lose, monkeypatch)
    with pytest.raises(C3Error, match=r"\.png: missing, no such file, but it was read when the features were made"):
        finetune(place_copy.asked(tmp_path / "runs", epochs=4))
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "checkpoint.safetensors").exists()


def test_without_val_all_epochs_are_trained(
    draw_table: Callable[[Path, int], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = draw_table(tmp_path / "tiny", 16)
    (root / "labels.csv").write_text((root / "labels.csv").read_text().replace(",val", ",test"))
    store = tmp_path / "f.zarr"
    plain = ExtractOptions("tiny", "squeezenet1_1", "random:0", store, root / "catalog.yaml", device="cpu")
    extract(replace(plain, input_size=SIDE))
    place = Placement(root, store, train(TrainOptions(store, "fast0tag", tmp_path / "runs", QUICK, device="cpu")).path)
    run = finetune(place.asked(tmp_path / "tuned"))
    assert run.record.validation is None
    assert "the weights after the last epoch are kept" in caplog.text
    assert not torch.equal(tensors(run)["network.0.weight"], tensors(place.start)["network.0.weight"])
    with pytest.raises(C3Error, match="no labels of seen classes in val; set patience=0"):
        finetune(place.asked(tmp_path / "tuned", patience=1))


def test_on_a_small_demo_validation_is_not_lowered(tmp_path: Path) -> None:
    write_demo(tmp_path / "demo", DemoSpec(seed=3, train=16, val=8, test=4, side=96, d_w=16))
    catalog = tmp_path / "catalog.yaml"
    catalog.write_text(
        "version: 1\n"
        "datasets:\n"
        "  little: {kind: table, root: demo, table: labels.csv, images: images, classes: classes.txt, "
        "unseen: unseen.txt, vectors: words}\n"
        "vectors:\n"
        "  words: {kind: text, path: demo/vectors.txt}\n"
    )
    store, runs = tmp_path / "f.zarr", tmp_path / "runs"
    extract(ExtractOptions("little", "squeezenet1_1", "random:0", store, catalog, device="cpu", input_size=SIDE))
    settings = {"epochs": 3, "batch_size": 8, "lr": 2e-3, "groups": 3, "drop_epoch": 2}
    start = train(TrainOptions(store, "c3", runs, settings, device="cpu"))
    run = finetune(FineTuneOptions("little", None, "c3", runs, {"epochs": 1, "warmup": 2}, catalog, "cpu"))
    assert run.record.tuned_from.run == start.id
    cached = FeatureCache.open(store)
    seen = word_form(cached.classes, start.record.vectors).trained
    head = rebuild(start)
    expected = Validation(cached, head.reads(head.inputs)).score(head, seen)
    assert run.record.validation.start == pytest.approx(expected, abs=5e-3)
    assert run.record.validation.best >= run.record.validation.start
