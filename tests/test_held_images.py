"""Folds that hold back images of train: what they are scored on, and that nothing is learnt from them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.cli import main
from c3.common.errors import C3Error
from c3.evaluate.score import open_store
from c3.evaluate.select import Candidate, Selection
from c3.evaluate.selection_files import write_selection
from c3.extract.store.cache import FeatureCache
from c3.extract.store.held_view import HeldView
from c3.extract.store.tables import SparseLabels
from c3.train.class_split import ClassSplit
from c3.train.run import TrainOptions, train
from c3.train.run_folder import Run, open_run, read_metrics
from c3.train.sweep import sweep
from click.testing import CliRunner, Result
from safetensors.torch import load_file

Make = Callable[..., FeatureCache]
HELD = {"folds": 2, "fold": 1, "held_images": 0.25}
TINY = {"epochs": 2, "batch_size": 8, "lr": 1e-2}
SETTINGS = {"fast0tag": {"hidden1": 8, "hidden2": 4}, "conse": {}, "c3-plus": {}}


def c3(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def options(cache: FeatureCache, runs: Path, method: str = "fast0tag", **settings: object) -> TrainOptions:
    return TrainOptions(cache.path, method, runs, TINY | SETTINGS[method] | settings, device="cpu")


def same(first: Run, second: Run) -> bool:
    one, two = (load_file(run.path / "weights.safetensors") for run in (first, second))
    return all(torch.equal(one[name], two[name]) for name in one)


def without_val(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureCache, "splits", property(lambda store: ("train", "test")))


def test_held_rows_are_all_crops_of_other_images_in_every_fold() -> None:
    ids = np.repeat([f"image{number}" for number in range(40)], [1, 3] * 20)
    drawn = [ClassSplit(folds=5, fold=fold, held_images=0.2).held_rows(ids) for fold in range(5)]
    for rows in drawn:
        assert rows.tolist() == sorted(rows)
        assert len(set(ids[rows])) == 8
        assert rows.tolist() == np.flatnonzero(np.isin(ids, ids[rows])).tolist()
    assert sorted(np.concatenate(drawn)) == list(range(80))
    more = [set(ClassSplit(folds=2, fold=fold, held_images=0.7).held_rows(ids)) for fold in range(2)]
    assert more[0] | more[1] == set(range(80))  # the second draw goes on at the start of the order
    with pytest.raises(C3Error, match=r"0.1 of the 3 images of train are 0; at least one is held back and one"):
        ClassSplit(folds=2, held_images=0.1).held_rows(np.array(["a", "b", "c"]))
    with pytest.raises(C3Error, match=r"0.9 of the 1 images of train are 1; at least one"):
        ClassSplit(folds=2, held_images=0.9).held_rows(np.array(["a", "a"]))


def test_val_is_joined_with_the_held_rows_which_lose_their_labels_in_train(make_cache: Make) -> None:
    cache, held = make_cache(rows=20), np.array([3, 4, 17])
    view = HeldView(cache, held)
    assert (view.rows("train"), view.rows("val"), view.rows("test")) == (20, 9, 10)
    assert view.image_ids("val").tolist() == [
        *cache.image_ids("val"), "train/train3", "train/train4", "train/train17"
    ]  # fmt: skip
    assert view.image_paths("val")[-1] == "train17.png"
    assert (view.crops("val").shape, view.status("val", range(5, 8)).tolist()) == ((9, 4), [1, 1, 1])
    train, val = view.labels("train"), view.labels("val")
    before = cache.labels("train").dense(5, 0)
    assert (train.dense(5, 0) == np.where(np.isin(np.arange(20), held)[:, None], 0, before)).all()
    assert (val.dense(5, 0)[6:] == before[held]).all()
    assert (val.dense(5, 0)[:6] == cache.labels("val").dense(5, 0)).all()
    assert view.label_values("train").tolist() == train.value.tolist()
    maps = np.concatenate([cache.maps("val", "p16")[:], cache.maps("train", "p16")[held]])
    np.testing.assert_array_equal(view.read("val", "p16", 4, 99), maps[4:])
    np.testing.assert_array_equal(view.take("val", "p16", np.array([8, 0, 6])), maps[[8, 0, 6]])
    np.testing.assert_array_equal(view.take("test", "p16", np.array([2])), cache.maps("test", "p16")[2:3])
    with pytest.raises(TypeError, match="use take or read"):
        view.maps("val", "p16")


@pytest.mark.parametrize("method", SETTINGS)
def test_nothing_is_learnt_from_labels_of_held_rows(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    cache = make_cache(rows=32, seen="abcd")
    before = train(options(cache, tmp_path / "a", method, **HELD))
    held = ClassSplit(**HELD).held_rows(cache.image_ids("train"))
    assert before.record.rows <= 24 == 32 - len(held)
    real = FeatureCache.labels

    def scrambled(self: FeatureCache, split: str) -> SparseLabels:
        labels = real(self, split)
        if split == "train":
            labels.value[np.isin(labels.row, held)] *= -1
        return labels

    monkeypatch.setattr(FeatureCache, "labels", scrambled)
    assert same(before, train(options(cache, tmp_path / "b", method, **HELD)))
    monkeypatch.setattr(ClassSplit, "hold_back", lambda _split, store: store)
    assert not same(before, train(options(cache, tmp_path / "c", method, **HELD)))  # the test can fail


def test_held_rows_are_not_counted_as_left_out(
    make_cache: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make_cache(rows=32, seen="abcd")
    caplog.set_level("INFO")
    run = train(options(cache, tmp_path, **HELD))
    held = ClassSplit(**HELD).held_rows(cache.image_ids("train"))
    lost = 32 - len(held) - run.record.rows
    assert len(held) == 8 and lost > 0
    assert f"trains on {run.record.rows} rows; left out: {lost} without a positive label" in caplog.text
    assert "holds back 8 rows of train (0.25 of its images), which lose their labels" in caplog.text


def test_a_fold_is_named_recorded_and_scored_with_its_held_images(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache(rows=24, seen="abcd")
    plain = HELD | {"held_images": 0}
    asked = [HELD, plain, HELD | {"fold": 0}]
    done = c3("sweep", "--cache", cache.path, "--method", "fast0tag", "--runs", tmp_path / "one", "--folds", 2,
              "--held-images", 0.25, "--epochs", 1, "--set", "hidden1=8", "--set", "hidden2=4")  # fmt: skip
    assert done.exit_code == 0, done.output
    runs = sweep(options(cache, tmp_path / "all"), asked, lambda run: run).runs
    assert [run.record.class_split for run in runs] == [HELD, {"folds": 2, "fold": 1}, HELD | {"fold": 0}]
    assert len({run.id for run in runs}) == 3
    assert {run.path.parent.name for run in runs} == {"folds"}
    for run, settings in zip(runs, asked, strict=True):  # the arrays of train are read once, for all of them
        assert same(run, train(options(cache, tmp_path / "alone", **settings)))
        assert open_store(run).rows("val") == (6 if settings is plain else 12)
    (measured,) = (
        found for path in (tmp_path / "one/folds").iterdir() if (found := open_run(path)).record.number("fold")
    )
    assert read_metrics(measured.path, "val").rows.used == 12


def test_settings_are_chosen_without_a_split_val(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, runs = make_cache(rows=24, seen="abcd"), tmp_path / "runs"
    without_val(monkeypatch)
    command = ["sweep", "--cache", cache.path, "--runs", runs, "--method", "conse", "--folds", 2, "--lr", 1e-3, 0.1,
               "--set", "epochs=1", "--device", "cpu", "--select"]  # fmt: skip
    refused = c3(*command)
    assert (refused.exit_code, runs.exists()) == (2, False)
    assert (
        "has no split val, on which --select measures; hold back images of train with --held-images" in refused.stderr
    )
    done = c3(*command, "--held-images", 0.25)
    assert done.exit_code == 0, done.output
    assert "conse: mAP on val and 25 % of train of seen classes, mean of 2 folds" in done.stdout
    with (runs / "selection.csv").open(newline="") as file:
        assert [line["held_images"] for line in csv.DictReader(file)] == ["0.25", "0.25"]
    text = (runs / "selected.yaml").read_text()
    assert "--folds 2 --held-images 0.25" in text and "scored on val and 25 % of train" in text
    assert "held_images:" not in text  # no recipe has it
    (final,) = (open_run(path) for path in runs.iterdir() if path.name.startswith("conse"))
    assert final.record.class_split == {}
    assert final.metrics.first.calibrated.folds == 2  # its folds choose the offset, also those that hold back images


def test_an_older_table_of_choices_gets_the_column(make_cache: Make, tmp_path: Path) -> None:
    base = TrainOptions(make_cache().path, "c3", tmp_path)
    of = {method: Selection(method, None, 2, (Candidate({"lr": 0.5}, 1.0, 2.0),), ()) for method in ("conse", "c3")}
    write_selection(base, [of["conse"]], "c3 sweep ...")
    file = tmp_path / "selection.csv"
    file.write_text("".join(line.rpartition(",")[0] + "\n" for line in file.read_text().splitlines()))
    write_selection(base, [of["c3"]], "c3 sweep ...")
    assert [line.split(",")[-2:] for line in file.read_text().splitlines()] == [
        ["chosen", "held_images"], ["1", "0"], ["1", "0"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--held-images", 0.2), "setting held_images: expected 0 (off) without folds, found 0.2"),
        (("--folds", 2, "--held-images", 1), "'--held-images': 1.0 is not in the range 0<=x<1"),
        (("--folds", 2, "--held-images", 0.01), "setting held_images: 0.01 of the 40 images of train are 0"),
        (("--select", "--folds", 2, "--set", "held_images=0.2"),
         "--select makes the folds itself; leave out the setting held_images, and use --held-images X"),
    ],
    ids=["without-folds", "all", "none", "select"],
)  # fmt: skip
def test_impossible_shares_are_refused(
    make_cache: Make, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    done = c3("sweep", "--cache", make_cache(seen="abcd").path, "--method", "conse", "--runs", tmp_path / "runs",
              *arguments)  # fmt: skip
    assert (done.exit_code, done.stdout, (tmp_path / "runs").exists()) == (2, "", False)
    assert said in done.stderr
