"""c3 sweep --select: settings are chosen on folds of the seen classes, and nothing else is read."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import yaml
from c3.cli import main
from c3.common.errors import C3Error
from c3.evaluate.select import Candidate, Selection, select
from c3.evaluate.selection_files import write_selection
from c3.extract.store.cache import FeatureCache
from c3.extract.store.tables import Classes
from c3.train.models.fast0tag import Fast0Tag
from c3.train.recipes import resolve_recipe
from c3.train.run import TrainOptions, train
from c3.train.run_folder import list_runs, read_metrics
from c3.train.sweep import for_methods
from click.testing import CliRunner, Result

Make = Callable[..., FeatureCache]
TINY = ["--epochs", 1, "--set", "batch_size=8", "--set", "hidden1=8", "--set", "hidden2=4", "--device", "cpu"]


def c3(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def lines(folder: Path) -> list[dict[str, str]]:
    with (folder / "selection.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_best_settings_of_the_folds_are_trained_on_the_real_split(make_cache: Make, tmp_path: Path) -> None:
    cache, runs = make_cache(rows=24, seen="abcd"), tmp_path / "runs"
    command = ["sweep", "--cache", cache.path, "--runs", runs, "--method", "fast0tag", "--folds", 2,
               "--lr", "1e-4", "0.1", *TINY]  # fmt: skip
    done = c3(*command, "--select", "--seeds", 3, 4)
    assert done.exit_code == 0, done.output
    table = lines(runs)
    assert [line["settings"] for line in table] == [
        f"lr {lr}, epochs 1, batch_size 8, hidden1 8, hidden2 4" for lr in ("0.0001", "0.1")
    ]
    assert {line["folds"] for line in table} == {"2"}
    found = {(run.record.settings["lr"], run.record.settings["fold"]): run for run in list_runs(runs / "folds")}
    assert found.keys() == {(lr, fold) for lr in (1e-4, 0.1) for fold in (0, 1)}
    for line, lr in zip(table, (1e-4, 0.1), strict=True):
        measured = [json.loads((found[lr, fold].path / "metrics-val.json").read_text()) for fold in (0, 1)]
        for task in ("zsl", "gzsl"):
            values = [content["protocols"]["table"]["tasks"][task]["mAP"] for content in measured]
            assert float(line[task.upper()]) == pytest.approx(mean(values), abs=1e-4)
        assert not any((found[lr, fold].path / "metrics.json").exists() for fold in (0, 1))
    best = max(table, key=lambda line: float(line["sum"]))
    assert [line["chosen"] for line in table] == [str(int(line is best)) for line in table]

    finals = list_runs(runs)
    chosen = float(best["settings"].split(",")[0].split()[1])
    assert [(run.seed, run.record.settings["lr"]) for run in finals] == [(3, chosen), (4, chosen)]
    recipe = resolve_recipe("fast0tag", Fast0Tag.Options, "tiny", {"seed": 3}, runs / "selected.yaml")
    assert recipe.as_dict() == finals[0].record.settings
    assert f"best of 2 combinations on 2 folds of store {cache.digest}" in recipe.source

    expected = mean(read_metrics(found[chosen, fold].path, "val").first.calibrated.offset for fold in (0, 1))
    calibrated = finals[0].metrics.first.calibrated
    assert (calibrated.folds, calibrated.offset) == (2, pytest.approx(expected))
    shown = c3("evaluate", "--run", finals[0].path, "--resamples", 0, "--device", "cpu").stdout
    assert "GZSL calibrated by 2 folds (seen scores less " in shown
    (runs / "folds").rename(tmp_path / "away")
    assert "c3 sweep --select-only --cache" in c3("evaluate", "--run", finals[0].path, "--resamples", 0).stdout


def test_the_command_for_folds_of_a_run_trains_folds_of_that_run(make_cache: Make, tmp_path: Path) -> None:
    cache, own = make_cache(rows=24, seen="abcd"), tmp_path / "a catalog.yaml"
    own.write_text("version: 1\nrecipes: {tiny: {conse: {epochs: 1, top: 2, source: mine}}}\n")
    run = train(TrainOptions(cache.path, "conse", tmp_path / "runs", {"lr": 1e-2}, own, device="cpu"))
    shown = c3("evaluate", "--run", run.path, "--resamples", 0, "--device", "cpu").stdout
    command = shlex.split(shown[shown.index("c3 --catalog") :].splitlines()[0])
    assert command[:3] == ["c3", "--catalog", str(own)]
    made = c3(*command[1:], "--folds", 2, "--device", "cpu")
    assert made.exit_code == 0, made.output
    shown = c3("evaluate", "--run", run.path, "--resamples", 0, "--device", "cpu").stdout
    assert "GZSL calibrated by 2 folds" in shown


def test_no_label_of_test_or_of_an_unseen_class_is_read_by_a_choice(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = make_cache(rows=24, seen="abcd")
    command = ["sweep", "--select-only", "--cache", cache.path, "--method", "fast0tag", "--folds", 2,
               "--lr", "1e-3", "0.1", *TINY]  # fmt: skip
    assert c3(*command, "--runs", tmp_path / "a").exit_code == 0
    real_labels, real_classes, unseen = FeatureCache.labels, FeatureCache.classes.func, ~cache.classes.seen

    def other_labels(self: FeatureCache, split: str) -> object:
        assert split != "test"
        labels = real_labels(self, split)
        labels.value[unseen[labels.indices]] *= -1
        return labels

    def other_classes(self: FeatureCache) -> Classes:
        found = real_classes(self)
        return Classes((*found.names[:4], "other"), found.seen, np.where(unseen[:, None], -9, found.vectors))

    monkeypatch.setattr(FeatureCache, "labels", other_labels)
    monkeypatch.setattr(FeatureCache, "classes", property(other_classes))
    again = c3(*command, "--runs", tmp_path / "b")
    assert again.exit_code == 0, again.output
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


def test_choices_of_several_methods_and_draws_stand_side_by_side(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache()
    base = TrainOptions(cache.path, "c3", tmp_path)
    best = Candidate({"lr": 0.5}, 10.0, 20.0)
    one = Selection(
        "conse", None, 2, (Candidate({"lr": 0.25}, 20.0, 9.0), best, Candidate({"lr": 1.0}, 20.0, 10.0)), ()
    )
    assert one.chosen is best  # the first of equals
    write_selection(base, [one, Selection("conse", 3, 2, (best,), ())], "c3 sweep ...")
    assert lines(tmp_path)[1]["sum"] == "30.0000"
    write_selection(base, [Selection("fast0tag", None, 2, (best,), ()), one], "c3 sweep ...")
    assert [(line["method"], line["hide_seed"]) for line in lines(tmp_path)] == [
        ("conse", "3"), ("fast0tag", ""), *[("conse", "")] * 3,
    ]  # fmt: skip
    of_dataset = yaml.safe_load((tmp_path / "selected.yaml").read_text())["recipes"]["tiny"]
    assert [(method, recipe["lr"]) for method, recipe in of_dataset.items()] == [("conse", 0.5), ("fast0tag", 0.5)]
    assert yaml.safe_load((tmp_path / "selected-h3.yaml").read_text())["recipes"]["tiny"].keys() == {"conse"}
    assert one.table().splitlines()[:4] == [
        "conse: mAP on val of seen classes, mean of 2 folds",
        "     lr    ZSL   GZSL    sum",
        "   0.25  20.00   9.00  29.00",
        "*   0.5  10.00  20.00  30.00",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--select", "--folds", 3), "setting folds: 3 folds need at least 6 seen classes, two each, found 4"),
        (("--select", "--folds", 2, "--set", "fold=0"), "--select makes the folds itself; leave out the setting fold"),
        (("--select", "--method", "logistic"), "--select: method logistic scores no unseen classes"),
        (("--method", "conse", "fast0tag", "--set", "grups=3"), "unknown setting of method conse, fast0tag 'grups'"),
        (("--hide-seeds", "3.."), "--hide-seeds: expected numbers such as 0 1 2, or a range such as 0..9, found '3..'"),
        (("--hide-seeds", "9..0"), "found '9..0'"),
        (("--set", "fold=2", "--set", "folds=2"), "setting fold: expected 0 to 1, one of 2 folds, found 2"),
        (("--set", "hide_seed=often"), "setting hide_seed: expected a whole number, found 'often'"),
    ],
    ids=["few-classes", "fold-given", "closed-set", "no-such-setting", "open-range", "backwards", "fold", "hide-seed"],
)
def test_impossible_searches_are_refused_in_one_line(
    make_cache: Make, tmp_path: Path, arguments: tuple[object, ...], said: str
) -> None:
    done = c3("sweep", "--cache", make_cache(seen="abcd").path, "--runs", tmp_path / "runs", *arguments)
    assert (done.exit_code, done.stdout, (tmp_path / "runs").exists()) == (2, "", False)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_choice_needs_val_and_two_classes_a_fold_there(
    make_cache: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = TrainOptions(make_cache(seen="abcd").path, "conse", tmp_path)
    asked = for_methods(("conse",), [{"seed": 0}])
    monkeypatch.setattr("c3.evaluate.select.with_positive", lambda store, split: np.arange(len(store.classes)) < 1)
    with pytest.raises(C3Error, match=r"at least 2 classes with a positive in val, fold 0 of 2 has [01]; use fewer"):
        select(base, asked, 2)
    monkeypatch.setattr(FeatureCache, "splits", ("train", "test"))
    with pytest.raises(C3Error, match="has no split val, on which --select measures"):
        select(base, asked, 2)


def test_a_first_combination_that_diverges_is_no_candidate(make_cache: Make, tmp_path: Path) -> None:
    cache = make_cache(rows=24, seen="abcd")
    done = c3("sweep", "--cache", cache.path, "--runs", tmp_path / "runs", "--method", "fast0tag", "--folds", 2,
              "--lr", "1e30", "1e-3", *TINY, "--select-only")  # fmt: skip
    assert done.exit_code == 0, done.output
    chosen = [line["settings"] for line in lines(tmp_path / "runs") if line["chosen"] == "1"]
    assert len(chosen) == 1 and chosen[0].startswith("lr 0.001")


def test_seeds_of_a_list_do_not_choose(make_cache: Make, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- {lr: 1e-3, seed: 5}\n")
    done = c3("sweep", "--cache", make_cache().path, "--runs", tmp_path / "runs", "--list", tmp_path / "list.yaml",
              "--select-only")  # fmt: skip
    assert done.exit_code == 2 and "--select takes its seeds from --seeds" in done.stderr
