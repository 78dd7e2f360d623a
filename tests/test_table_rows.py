"""What makes a row of a table: draws of the hidden classes, settings that val chose, pairs of runs, budgets."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from c3.common.errors import C3Error
from c3.evaluate.report.block import Shown
from c3.evaluate.report.groups import IMAGE_TEXT_METHODS
from c3.evaluate.report.paired import difference
from c3.evaluate.report.render import Table
from c3.evaluate.report.run import report
from c3.evaluate.report.series import leading
from c3.evaluate.report.tables import build
from c3.train.registry import METHODS
from c3.train.run_folder import list_runs
from run_files import RunFolders

ALL = Shown(all_settings=True)


@pytest.fixture
def runs(tmp_path: Path) -> RunFolders:
    return RunFolders(tmp_path)


def methods(table: Table) -> list[str]:
    return list(table.frame.index.get_level_values("Method").unique())


def level(table: Table, method: str, task: str = "ZSL") -> float:
    return float(table.frame.loc[(method, task), ("mAP", "mean")])


def drawn(runs: RunFolders) -> None:
    """CONSE with two seeds of three draws, C3 with one seed of two of them and of one more, and both on their own."""
    for draw, (conse, floor) in enumerate(((10.0, 1.0), (20.0, 2.0), (30.0, 6.0))):
        for seed in (0, 1):
            runs.add("conse", conse + seed, dataset="corel5k", hide_seed=draw, seed=seed, floor=floor)
    for draw, value in ((0, 13.0), (1, 24.0), (7, 60.0)):
        runs.add("c3", value, dataset="corel5k", hide_seed=draw, floor={0: 1.0, 1: 2.0, 7: 3.0}[draw])
    runs.add("conse", 50.0, dataset="corel5k")
    runs.add("c3", 40.0, dataset="corel5k")


def test_runs_over_draws_are_rows_of_a_table_of_their_own(runs: RunFolders) -> None:
    drawn(runs)
    own, over_draws = build(1, list_runs(runs.root), {})
    assert (level(own, "CONSE"), level(own, "C3-MLZSL")) == (50.0, 40.0)
    assert "mean over" not in own.title
    assert over_draws.title == (
        "Table 1 layout: multi-label ZSL and GZSL, measured on corel5k, mean over 4 draws of the hidden classes "
        "(protocol table)"
    )
    conse = over_draws.frame.loc[("CONSE", "ZSL"), "mAP"]
    assert (conse["mean"], conse["n"]) == (20.5, 6)
    assert conse["sd"] == pytest.approx(80.3**0.5)  # of 10, 11, 20, 21, 30, 31
    notes = "\n".join(over_draws.notes)
    assert (
        "CONSE: 6 runs: 2 seeds, 3 draws of the hidden classes; runs conse-corel5k-s0-" in notes and "3 more" in notes
    )
    assert "Seeds and draws differ: seeds 0 to 1 of draws 0 to 2: CONSE; seeds 0 of draws 0 to 1, 7: C3-MLZSL." in notes
    assert not any("Not counted" in note for note in over_draws.notes)


def test_drawn_splits_without_numbers_are_notes_of_the_one_table(runs: RunFolders) -> None:
    runs.add("c3", 40.0, dataset="corel5k")
    running = runs.add("c3", dataset="corel5k", hide_seed=0, status="training")
    (table,) = build(1, list_runs(runs.root), {})
    assert (level(table, "C3-MLZSL"), "mean over" in table.title) == (40.0, False)
    assert f"Not counted: {running}: not finished (status training)." in table.notes


def test_the_paper_is_no_measure_of_drawn_splits(runs: RunFolders) -> None:
    runs.add("c3", 29.4, hide_seed=0)
    (table,) = build(1, list_runs(runs.root), {})
    assert (table.reference, methods(table)[2:]) == ("", ["C3-MLZSL"])


def test_floors_are_averaged_over_draws_not_over_runs(runs: RunFolders) -> None:
    drawn(runs)
    floor = build(1, list_runs(runs.root), {})[1].frame.loc[("random scores", "ZSL"), "mAP"]
    assert floor["mean"] == 3.0  # 1, 2, 6 and 3
    assert floor["sd"] == pytest.approx((14 / 3) ** 0.5)
    assert floor["n"] != floor["n"]


def test_figures_show_the_stores_own_split_where_there_is_one(runs: RunFolders) -> None:
    drawn(runs)
    assert not any(group.drawn for group in leading(list_runs(runs.root)).values())


def test_runs_of_folds_are_no_rows(runs: RunFolders) -> None:
    runs.add("c3", 20.0, folds=4, fold=1)
    assert build(1, list_runs(runs.root), {}) == []


def test_differences_are_those_of_equal_seeds_and_draws(runs: RunFolders) -> None:
    drawn(runs)
    own, over_draws = build(1, list_runs(runs.root), {}, Shown(against="conse"))
    assert own.paired is not None and over_draws.paired is not None
    assert list(over_draws.paired.index) == [("C3-MLZSL", "ZSL"), ("C3-MLZSL", "GZSL")]
    found = over_draws.paired.loc[("C3-MLZSL", "ZSL"), "mAP"]
    # 13 - 10 and 24 - 20; the draw 7 and the second seeds have no partner. t(0.975, 1) = 12.7062, sd / sqrt(2) = 0.5
    assert found.to_dict() == {
        "mean": 3.5, "relative": pytest.approx(100 * 3.5 / 15), "low": pytest.approx(3.5 - 6.3531, abs=1e-4),
        "high": pytest.approx(3.5 + 6.3531, abs=1e-4), "pairs": 2.0, "smallest": 3.0, "largest": 4.0,
    }  # fmt: skip
    assert over_draws.paired.loc[("C3-MLZSL", "GZSL"), ("mAP", "mean")] == 1.75
    single = own.paired.loc[("C3-MLZSL", "ZSL"), "F1@3"]
    assert (single["mean"], single["pairs"]) == (-10.0, 1.0)
    assert single[["low", "high"]].isna().all()
    assert any("no interval over splits" in note for note in own.paired_notes)
    assert "C3-MLZSL: 2 pairs only, of draws 0 to 1." in over_draws.paired_notes


def test_rows_on_other_features_are_not_compared(runs: RunFolders) -> None:
    runs.add("conse", 10.0, dataset="corel5k")
    runs.add("c3", 30.0, dataset="corel5k", backbone="resnet50", digest="f" * 16)
    table = runs.table(shown=Shown(against="conse"))
    assert table.paired is None
    assert "Not compared with CONSE, which has no run on their features: C3-MLZSL." in table.notes


def test_seeds_of_a_draw_are_averaged_before_the_interval() -> None:
    values = {(0, 0): 1.0, (0, 1): 3.0, (1, 0): 4.0, (1, 1): 4.0, (2, 0): 6.0}
    found = difference(values, dict.fromkeys(values, 10.0) | {(3, 0): 99.0})
    # the draws differ by -8, -6 and -4: mean -6, sd 2, t(0.975, 2) = 4.3027
    assert (found.low, found.high) == (
        pytest.approx(-6 - 4.3027 * 2 / 3**0.5, abs=1e-3),
        pytest.approx(-1.0317, abs=1e-3),
    )
    assert (found.mean, found.relative, found.pairs) == (pytest.approx(-6.0), pytest.approx(-60.0), 5)
    assert (found.smallest, found.largest) == (-9.0, -4.0)


def test_every_format_has_the_differences(runs: RunFolders) -> None:
    drawn(runs)
    texts = {form: report((1,), runs.root, form, Shown(against="conse")) for form in ("text", "markdown", "latex")}
    assert re.search(r"C3-MLZSL +ZSL +2 +\+3\.5 \[-2\.9, \+9\.9\] +\+23 % +\+3\.0 to \+4\.0", texts["text"])
    assert "| C3-MLZSL | ZSL | 2 | +3.5 [-2.9, +9.9] | +23 % | +3.0 to +4.0 |" in texts["markdown"]
    assert r"+23 \% & +3.0 to +4.0" in texts["latex"]
    table = json.loads(report((1,), runs.root, "json", Shown(against="conse")))[1]
    assert table["paired"]["against"] == "CONSE"
    assert table["paired"]["rows"][0]["metrics"]["mAP"]["mean"] == 3.5
    lines = csv.DictReader(io.StringIO(report((1,), runs.root, "csv", Shown(against="conse"))))
    line = next(line for line in lines if "draws" in line["table"] and line["method"] == "C3-MLZSL")
    assert (line["paired with"], line["paired mean"], line["paired smallest"]) == ("CONSE", "3.5", "3")


def test_a_method_without_runs_cannot_be_compared_with(runs: RunFolders) -> None:
    runs.add("c3")
    with pytest.raises(C3Error, match=r"method of --against .*'cons'.*Known: c3"):
        report((1,), runs.root, shown=Shown(against="cons"))


def test_a_run_of_an_older_version_has_the_defaults_of_settings_that_it_did_not_know(runs: RunFolders) -> None:
    runs.add(level=10.0)
    runs.add(level=30.0, seed=1, x_scale="batchnorm", precision="fp32")
    runs.add(level=50.0, x_scale="unit", precision="fp32")
    labels = ("x_scale batchnorm", "x_scale unit")
    levels = [runs.table().frame.loc[(f"C3-MLZSL ({label})", "ZSL"), ("mAP", "mean")] for label in labels]
    assert levels == [20.0, 50.0]


def test_val_chooses_among_settings_and_test_does_not(runs: RunFolders) -> None:
    for lr, test, val in ((0.1, 10.0, 50.0), (0.01, 30.0, 40.0), (0.001, 20.0, 45.0)):
        runs.add("c3", test, lr=lr, val=val, dataset="corel5k")
    runs.add("lesa", 15.0, dataset="corel5k")
    table = runs.table()
    assert methods(table)[2:] == ["LESA", "C3-MLZSL"]
    assert level(table, "C3-MLZSL") == 10.0
    notes = "\n".join(table.notes)
    assert (
        "C3-MLZSL: 3 settings were tried; mAP of the seen classes on val chose lr 0.1 (50.0) over lr 0.001: 45.0; "
        "lr 0.01: 40.0. --all-settings shows all." in notes
    )
    assert "Search budgets differ: 1 setting: LESA; 3 settings: C3-MLZSL." in notes
    everything = runs.table(shown=ALL)
    assert level(everything, "C3-MLZSL (lr 0.01)") == 30.0
    assert everything.unranked == {"C3-MLZSL (lr 0.01)", "C3-MLZSL (lr 0.001)"}
    text = report((1,), runs.root, shown=ALL)
    assert "15.0 (1)*" in text and "30.0 (1)*" not in text  # the best method, not the best of its settings


def test_settings_are_compared_on_the_runs_that_all_of_them_have(runs: RunFolders) -> None:
    runs.add("c3", 10.0, lr=0.1, val=40.0)
    runs.add("c3", 12.0, lr=0.01, val=30.0)
    runs.add("c3", 14.0, lr=0.01, val=90.0, seed=1)  # 30 against 40 on seed 0
    assert level(runs.table(), "C3-MLZSL") == 10.0


def test_settings_without_a_score_on_val_are_all_shown_and_none_is_the_best(runs: RunFolders) -> None:
    runs.add("c3", 10.0, lr=0.1, val=40.0)
    runs.add("c3", 30.0, lr=0.01)
    runs.add("lesa", 5.0)
    runs.add("biam", 6.0)
    table = runs.table()
    assert level(table, "C3-MLZSL (lr 0.1)") == 10.0 and level(table, "C3-MLZSL (lr 0.01)") == 30.0
    assert any("none is chosen" in note and "--split val" in note for note in table.notes)
    assert "6.0 (1)*" in report((1,), runs.root)


def test_other_features_are_no_settings_to_choose_from(runs: RunFolders) -> None:
    runs.add("c3", 10.0, val=40.0)
    runs.add("c3", 30.0, val=10.0, backbone="resnet50", digest="f" * 16)
    assert len(methods(runs.table())) == len(methods(runs.table(shown=ALL)))
    assert level(runs.table(), "C3-MLZSL (backbone resnet50)") == 30.0


def test_notes_say_what_rows_do_not_share(runs: RunFolders) -> None:
    runs.add("c3", 10.0, dataset="corel5k", recipe="recipe default/c3: ours; overridden: seed=0")
    runs.add("lesa", 10.0, dataset="corel5k", epochs=40, reads=("regions",), recipe="recipe corel5k/lesa: ours")
    notes = runs.table().notes
    assert "Settings of the fallback recipes (corel5k has none of its own for the method): C3-MLZSL." in notes
    assert "Epochs differ: 40: LESA; 20: C3-MLZSL." in notes
    assert "Rows read different arrays: regions: LESA; p8, p16, p32: C3-MLZSL." in notes
    assert not any("budgets" in note or "Seeds and draws" in note for note in notes)


def test_settings_that_folds_chose_count_as_tried(runs: RunFolders) -> None:
    runs.add("c3", 10.0, dataset="corel5k")
    runs.add("lesa", 10.0, dataset="corel5k")
    lines = [f"0123456789abcdef,corel5k,{draw},c3,lr {lr}" for draw in ("", "3") for lr in (0.1, 0.2)]
    lines += ["another,corel5k,,lesa,lr 0.1", "another,corel5k,,lesa,lr 0.2"]
    (runs.root / "selection.csv").write_text("\n".join(["store,dataset,hide_seed,method,settings", *lines]))
    assert "Search budgets differ: 1 setting: LESA; 2 settings: C3-MLZSL." in runs.table().notes


def test_image_text_pretraining_has_a_part_of_the_table(runs: RunFolders) -> None:
    runs.add("c3", 10.0, dataset="corel5k")
    runs.add("lesa", 8.0, dataset="corel5k")
    assert runs.table().sections == {}
    runs.add("clip", 60.0, dataset="corel5k", backbone="open_clip:ViT-B-32", digest="e" * 16)
    runs.add("c3", 70.0, dataset="corel5k", backbone="open_clip:ViT-B-32", digest="e" * 16)
    table = runs.table()
    text = report((1,), runs.root)
    without, with_pairs = (
        text.index("\nwithout image-text pretraining\n"),
        text.index("\nwith image-text pretraining\n"),
    )
    assert without < text.index("\nLESA ") < with_pairs < text.index("\nCLIP")
    assert set(table.sections.values()) == {"without image-text pretraining", "with image-text pretraining"}
    assert "10.0 (1)*" in text and "70.0 (1)*" in text  # the best of each part
    assert "| *with image-text pretraining* |" in report((1,), runs.root, "markdown")
    assert r"\multicolumn{5}{l}{\textit{with image-text pretraining}} \\" in report((1,), runs.root, "latex")


def test_the_methods_with_image_text_pretraining_are_those_that_say_so() -> None:
    assert {name for name, kind in METHODS.items() if kind.image_text} == set(IMAGE_TEXT_METHODS)


def test_other_backbones_than_the_papers_are_named(runs: RunFolders) -> None:
    runs.add("c3", 10.0, dataset="corel5k")
    assert not any("paper's backbones" in note for note in runs.table(4).notes)
    runs.add("c3", 12.0, dataset="corel5k", backbone="timm:convnext_tiny", digest="f" * 16)
    table = runs.table(4)
    assert [name.split(" (weights")[0] for name in methods(table)[2:]] == [
        "VGG19 (backbone vgg19)", "convnext_tiny (timm) (backbone timm:convnext_tiny)",
    ]  # fmt: skip
    assert "Not the paper's backbones: convnext_tiny (timm)." in table.notes


def test_a_named_addition_is_a_row_of_table_3_and_no_rival_elsewhere(runs: RunFolders) -> None:
    recipe, names = "recipe default/c3 (corel5k has none): ours", {"x_scale": "batchnorm", "shuffle": True, "lr": 0.1}
    own = f"{recipe}; overridden: seed=0"
    runs.add("c3", 20.0, dataset="corel5k", recipe=own, **names)
    runs.add("c3-b", 18.0, dataset="corel5k", recipe=own, **names)
    runs.add("c3", 30.0, dataset="corel5k", recipe=f"{own}, x_scale=none", **names | {"x_scale": "none"})
    runs.add("c3", 10.0, dataset="corel5k", recipe=f"{own}, lr=0.2", **names | {"lr": 0.2})
    table = runs.table(3)
    assert methods(table)[2:] == [
        "b: a + Forward Pyramid", "C3-MLZSL: all three (lr 0.1)", "C3-MLZSL: all three (lr 0.2)",
        "C3-MLZSL, x_scale none",
    ]  # fmt: skip
    assert table.sections == {"C3-MLZSL, x_scale none": "additions"}
    assert (
        "Every row has the settings of recipe default/c3 (corel5k has none), but for what its name says." in table.notes
    )
    first = runs.table(1)
    assert methods(first)[2:] == ["C3-MLZSL (lr 0.1)", "C3-MLZSL (lr 0.2)"]
    assert "Table 3 shows what differs in one named addition: C3-MLZSL, x_scale none." in first.notes


def test_a_sweep_over_an_addition_is_a_choice_of_settings(runs: RunFolders) -> None:
    for value, test, val in (("none", 30.0, 40.0), ("scalar", 20.0, 50.0)):
        recipe = f"recipe default/c3: ours; overridden: x_scale={value}, seed=0"
        runs.add("c3", test, dataset="corel5k", recipe=recipe, x_scale=value, val=val)
    assert level(runs.table(1), "C3-MLZSL") == level(runs.table(3), "C3-MLZSL: all three") == 20.0
