"""Run folders -> tables in every format; the published numbers against the paper's text."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.evaluate.report.block import Shown
from c3.evaluate.report.groups import group_runs
from c3.evaluate.report.published import TABLES
from c3.evaluate.report.render import FORMATS
from c3.evaluate.report.run import report
from c3.evaluate.report.tables import build
from c3.evaluate.report.text import WIDTH
from c3.train.run_folder import list_runs
from click.testing import CliRunner
from run_files import RunFolders

# The paper's row names, without markup and citation, and the registry's.
PAPER_NAMES = {
    "CONSE": "conse", "LabelEM": "labelem", "Fast0Tag": "fast0tag", "FastOtag": "fast0tag", "Kim et al.": "kim",
    "Attention per Cluster": "lesa-apc", "LESA ApC": "lesa-apc", "LESA": "lesa", "BiAM": "biam", "Our Approach": "c3",
    "Ours": "c3", "Logistic": "logistic", "WARP": "warp", "WSABIE": "wsabie", "CNN-RNN": "cnn-rnn",
}  # fmt: skip


@pytest.fixture
def paper() -> str:
    path = Path(__file__).resolve().parents[2] / "shared/paper/c3-mlzsl.md"
    if not path.exists():
        pytest.skip(f"the paper's text is not at {path}; it is not part of the repository")
    return path.read_text()


@pytest.fixture
def runs(tmp_path: Path) -> RunFolders:
    return RunFolders(tmp_path)


def lines_after(text: str, start: str) -> list[list[str]]:
    """The tab-separated lines of the first table after a text, without markup and citations."""
    table = text.split(start)[1].split("\n\n")[1]
    return [re.sub(r"<[^>]+>| ?\[\d+\]", "", line).split("\t") for line in table.splitlines()]


@pytest.mark.parametrize("number", [1, 2, 4])
def test_every_number_of_the_comparisons_is_the_papers(paper: str, number: int) -> None:
    table = TABLES[number]
    captions = {1: "Table 1. State-of-the-art", 2: "Table 2. State-of-the-art", 4: "Table 4. Our"}
    lines = lines_after(paper, captions[number])
    assert lines[0][1:] == ["Task", "mAP", *(f"F1 (K = {k})" for k in table.ks)]
    assert table.metrics == ("mAP", *(f"F1@{k}" for k in table.ks))
    found = []
    for zsl, gzsl in zip(lines[1::2], lines[2::2], strict=True):
        assert (zsl[1], gzsl[:2]) == ("ZSL", ["", "GZSL"])
        name = zsl[0].lower() if table.by_backbone else PAPER_NAMES[zsl[0]]
        found.append((name, (tuple(map(float, zsl[2:])), tuple(map(float, gzsl[2:])))))
    assert [(row.backbone if table.by_backbone else row.method, row.values) for row in table.rows] == found


def test_every_number_of_the_ablation_is_the_papers(paper: str) -> None:
    lines = lines_after(paper, "Table 3. **Ablation")
    assert [line[1:6] for line in lines[1:4]] == [
        ["", "✓", "✓", "✓", "✓"], ["", "", "✓", "", "✓"], ["", "", "", "✓", "✓"],
    ]  # fmt: skip
    parts = [line[0].replace(" ", "") for line in lines[1:4]]
    assert parts == ["ForwardPyramid", "(ML)2P-Encoder", "GroupAttention"]
    zsl, gzsl = lines[4], ["", *lines[5]]
    assert (zsl[:2], gzsl[1:3]) == (["mAP", "ZSL"], ["", "GZSL"])
    columns = zip(zsl[2:], gzsl[3:], strict=True)
    assert [row.values for row in TABLES[3].rows] == [((float(a),), (float(b),)) for a, b in columns]


def test_every_number_of_multi_label_learning_is_the_papers(paper: str) -> None:
    header, *lines = lines_after(paper, "Table 5. Performance")
    assert [heading.split("( $")[0].split("($")[0] for heading in header[1:]] == ["F1(K=3)", "F1(K=5)", "mAP"]
    assert [(row.method, row.values) for row in TABLES[5].rows] == [
        (PAPER_NAMES[name], (tuple(map(float, numbers)),)) for name, *numbers in lines
    ]


def test_without_runs_the_tables_have_the_published_numbers_and_dashes(tmp_path: Path) -> None:
    alone = Shown(published=True)
    text = report((1, 2), tmp_path / "none", shown=alone)
    assert text.count("Table 1:") == 1
    assert text.count("Table 2:") == 2
    assert re.search(r"C3-MLZSL +ZSL +- +29\.4 +- +32\.8 +- +32\.3\n", text)
    assert re.search(r"random scores +ZSL( +-){6}\n", text)
    assert re.search(r"Logistic +MLL +- +51\.1 +- +46\.1 +- +21\.6\n", report((5,), tmp_path / "none", shown=alone))


def test_seeds_make_one_row_with_mean_spread_and_count(runs: RunFolders) -> None:
    for seed, level in enumerate((20.0, 22.0, 27.0)):
        runs.add(level=level, seed=seed)
    frame = runs.table().frame
    zsl = frame.loc[("C3-MLZSL", "ZSL")]
    assert zsl["mAP"].to_dict() == {
        "mean": 23.0, "sd": pytest.approx(13**0.5), "n": 3.0, "low": 21.0, "high": 26.0, "published": 29.4,
        "difference": pytest.approx(23.0 - 29.4),
    }  # fmt: skip
    assert frame.loc[("C3-MLZSL", "GZSL"), ("F1@5", "mean")] == 11.5 + 5
    assert frame.loc[("random scores", "ZSL"), ("mAP", "mean")] == 1.0
    assert "23.0 ± 3.6 (3)" in report((1,), runs.root)


def test_rows_keep_the_papers_order_and_further_methods_follow(runs: RunFolders) -> None:
    runs.add("c3-released")
    runs.add("fast0tag")
    runs.add("my-head")
    labels = runs.table().frame.index.get_level_values("Method").unique().tolist()
    assert labels[:5] == ["random scores", "label frequency", "CONSE", "LabelEM", "Fast0Tag"]
    assert labels[-3:] == ["C3-MLZSL", "C3-MLZSL, released code", "my-head"]


def test_other_settings_make_another_row_that_names_what_differs(runs: RunFolders) -> None:
    runs.add(level=10.0, epochs=20, groups=7)
    runs.add(level=12.0, epochs=40, groups=7)
    runs.add(level=14.0, epochs=40, groups=7, backbone="resnet50", digest="f" * 16)
    frame = runs.table().frame
    for label, level in (
        ("epochs 20, backbone vgg19", 10.0),
        ("epochs 40, backbone vgg19", 12.0),
        ("epochs 40, backbone resnet50", 14.0),
    ):
        assert frame.loc[(f"C3-MLZSL ({label})", "ZSL"), ("mAP", "mean")] == level


def test_two_stores_that_nothing_else_tells_apart_are_named_by_digest(runs: RunFolders) -> None:
    runs.add(digest="a" * 16, floor=1.0)
    runs.add(digest="b" * 16, floor=2.0)
    labels = runs.table().frame.index.get_level_values("Method").unique()
    assert {label for label in labels if "features" in label} == {
        "random scores (features aaaaaaaa)", "random scores (features bbbbbbbb)",
        "label frequency (features aaaaaaaa)", "label frequency (features bbbbbbbb)",
        "C3-MLZSL (features aaaaaaaa)", "C3-MLZSL (features bbbbbbbb)",
    }  # fmt: skip


def test_a_repeated_seed_is_not_a_second_one(runs: RunFolders) -> None:
    old, new = runs.add(level=10.0), runs.add(level=30.0)
    groups, replaced = group_runs(list_runs(runs.root))
    assert [[run.id for run in group.runs] for group in groups] == [[new]]
    assert [run.id for run in replaced] == [old]
    assert f"Not counted: {old}: a later run has the same settings, seed and draw." in runs.table().notes


def test_the_table_of_open_images_comes_under_both_protocols_and_marks_foreign_numbers(runs: RunFolders) -> None:
    runs.add(dataset="openimages")
    lesa, biam = build(2, list_runs(runs.root), {})
    assert "openimages-lesa" in lesa.title
    assert "openimages-biam" in biam.title
    assert ("BiAM †", "ZSL") in lesa.frame.index
    assert ("LESA †", "ZSL") in biam.frame.index
    assert biam.frame.loc[("C3-MLZSL", "ZSL"), ("F1@20", "mean")] == 40.0
    home = runs.table(1, shown=Shown(published=True))
    assert home.frame.xs("mean", axis=1, level="field").isna().all().all()


def test_another_data_set_has_its_own_block_under_a_heading_that_says_so(runs: RunFolders) -> None:
    runs.add(dataset="corel5k")
    (away,) = build(1, list_runs(runs.root), {})
    assert away.frame.index.get_level_values("Method").unique().tolist() == [
        "random scores", "label frequency", "C3-MLZSL",
    ]  # fmt: skip
    assert not any("cannot be compared" in note or "less published" in note for note in away.notes)
    home, away = build(1, list_runs(runs.root), {}, Shown(published=True))
    assert home.reference == "paper"
    assert away.title == "Table 1 layout: multi-label ZSL and GZSL, measured on corel5k (protocol table)"
    assert away.reference == "paper, NUS-WIDE"
    assert away.frame.loc[("C3-MLZSL", "ZSL"), ("mAP", "mean")] == 20.0
    assert any("cannot be compared" in note for note in away.notes)
    assert "mAP (paper, NUS-WIDE)" in report((1,), runs.root, "markdown", Shown(published=True))
    runs.add(dataset="nuswide")
    assert [table.reference for table in build(1, list_runs(runs.root), {})] == ["paper", ""]


def test_the_difference_is_shown_only_beside_numbers_of_the_same_data_set_and_protocol(runs: RunFolders) -> None:
    runs.add("c3", 31.0)
    runs.add("c3", 31.0, dataset="openimages")
    runs.add("lesa", 31.0, dataset="openimages")
    assert "+1.6" in report((1,), runs.root)
    lesa, biam = (table.frame for table in build(2, list_runs(runs.root), {}))
    assert lesa.loc[("LESA", "ZSL"), ("mAP", "difference")] == pytest.approx(31.0 - 41.7)
    assert lesa.loc[("C3-MLZSL †", "ZSL")].xs("difference", level="field").isna().all()
    assert biam.loc[("C3-MLZSL", "ZSL"), ("mAP", "difference")] == pytest.approx(31.0 - 65.7)
    assert biam.loc[("LESA †", "ZSL")].xs("difference", level="field").isna().all()


def test_open_images_prints_the_conversion_between_its_protocols(runs: RunFolders) -> None:
    (note,) = {
        note
        for table in build(2, [], {}, Shown(published=True))
        for note in table.notes
        if note.startswith("Conversion")
    }
    # 45.4 x 7586 / 5128
    assert "LESA 67.2" in note and "CONSE 64.4" in note and "BiAM" not in note


def test_the_ablation_shows_variants_of_c3_only(runs: RunFolders) -> None:
    runs.add("c3-b", 12.0)
    runs.add("c3", 20.0)
    runs.add("fast0tag", 15.0)
    frame = runs.table(3).frame
    assert frame.loc[("b: a + Forward Pyramid", "ZSL"), ("mAP", "mean")] == 12.0
    assert frame.loc[("C3-MLZSL: all three", "GZSL"), ("mAP", "mean")] == 10.0
    assert not any("Fast0Tag" in label for label in frame.index.get_level_values("Method"))
    assert not any("Pyramid" in label or label == "c3-b" for label in runs.table(1).frame.index.get_level_values(0))


def test_backbones_are_rows_of_their_own(runs: RunFolders) -> None:
    runs.add("c3", 20.0)
    runs.add("c3", 25.0, backbone="resnet50", digest="f" * 16)
    runs.add("c3", 15.0, backbone="squeezenet1_1", digest="e" * 16)
    runs.add("fast0tag", 90.0)
    table = runs.table(4)
    rows = {label.split(" (")[0]: row for (label, task), row in table.frame["mAP"].iterrows() if task == "ZSL"}
    assert (rows["VGG19"]["mean"], rows["ResNet50"]["mean"], rows["squeezenet1_1"]["mean"]) == (20.0, 25.0, 15.0)
    assert (rows["ResNet50"]["published"], rows["ResNet50"]["difference"]) == (30.9, pytest.approx(-5.9))
    assert rows["squeezenet1_1"][["published", "difference"]].isna().all()
    assert rows["ResNet101"]["mean"] != rows["ResNet101"]["mean"]


def test_multi_label_learning_shows_the_classes_that_were_trained_on(runs: RunFolders) -> None:
    runs.add("c3", 20.0, dataset="nuswide-81")
    table = runs.table(5)
    assert table.frame.loc[("C3-MLZSL", "MLL"), ("mAP", "mean")] == 5.0
    assert table.frame.loc[("WARP", "MLL"), ("F1@3", "published")] == 54.4


def test_a_method_that_knows_only_its_own_classes_has_no_row_where_unseen_ones_are_asked_for(runs: RunFolders) -> None:
    runs.add("logistic", 90.0)
    runs.add("c3", 20.0)
    table = runs.table(1)
    assert "Logistic" not in table.frame.index.get_level_values("Method")
    assert not any("logistic" in note for note in table.notes)


def test_the_leak_free_score_stands_below_zsl(runs: RunFolders) -> None:
    runs.add(leak_free=17.5)
    table = runs.table()
    assert table.frame.loc[("C3-MLZSL", "ZSL, leak-free"), ("mAP", "mean")] == 17.5
    assert any("near-duplicates" in note for note in table.notes)
    text = report((1,), runs.root)
    assert len(re.findall("^C3-MLZSL ", text, re.MULTILINE)) == 1  # one row of three tasks


def test_json_has_everything(runs: RunFolders) -> None:
    runs.add(level=20.0)
    (table,) = json.loads(report((1,), runs.root, "json"))
    row = next(row for row in table["rows"] if (row["method"], row["task"]) == ("C3-MLZSL", "ZSL"))
    assert row["metrics"]["mAP"] == {
        "mean": 20.0, "sd": None, "n": 1.0, "low": 18.0, "high": 23.0, "published": 29.4,
        "difference": pytest.approx(-9.4),
    }  # fmt: skip
    assert table["notes"][0].startswith("Protocol nuswide")


def test_notes_name_runs_seeds_store_weights_and_protocol(runs: RunFolders) -> None:
    name = runs.add(weights="random:0", seed=4)
    notes = "\n".join(runs.table().notes)
    assert f"runs {name}; seeds 4; p8, p16, p32 of features 0123456789abcdef (vgg19, weights random:0)" in notes
    assert "95 % interval of mAP over images (1,000 resamples, mean over runs): ZSL 18.0 to 23.0." in notes
    assert "seeded random weights (random:0)" in notes
    assert "Protocol nuswide: every test image counts" in notes


def test_weights_that_are_not_random_are_not_called_so(runs: RunFolders) -> None:
    runs.add()
    assert not any("random weights" in note for note in runs.table().notes)


def test_runs_without_numbers_are_named(runs: RunFolders) -> None:
    running, unmeasured = runs.add(status="training"), runs.add(level=None, seed=1)
    text = report((1,), runs.root, "markdown")
    assert f"Not counted: {running}: not finished (status training)." in text
    assert re.search(rf"Not counted: {unmeasured}: evaluation failed: .*gone\.zarr is missing", text)


def test_a_metric_that_a_task_cannot_have_is_a_dash_with_a_note(runs: RunFolders) -> None:
    path = runs.root / runs.add(dataset="demo") / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["protocols"]["table"]["tasks"]["zsl"]["F1@5"] = None
    path.write_text(json.dumps(metrics))
    table = runs.table()
    assert table.frame.loc[("C3-MLZSL", "ZSL"), "F1@5"][["mean", "n"]].isna().all()
    assert "F1@5 is a dash where a task has fewer than 5 classes." in table.notes


def test_text_fits_its_width_and_wraps_long_labels(runs: RunFolders) -> None:
    for epochs in (10, 20):
        for seed in range(12):
            runs.add(level=80.0 + seed, dataset="corel5k", seed=seed, epochs=epochs, schedule=f"cosine{epochs}")
    text = report((1,), runs.root, "text")
    lines = text.split("measured on corel5k")[1].splitlines()
    assert max(map(len, lines)) <= WIDTH
    start = next(index for index, line in enumerate(lines) if line.startswith("C3-MLZSL"))
    label = lines[start][: lines[start].index(" ZSL ")].strip()
    assert label == "C3-MLZSL (epochs 10, schedule cosine10)"
    assert "85.5 ± 3.6 (12)" in lines[start]


def test_a_narrow_text_puts_the_metrics_that_find_no_room_below(runs: RunFolders) -> None:
    for seed, level in enumerate((20.0, 22.0)):
        runs.add(level=level, seed=seed)
    lines = report((1,), runs.root, width=80).split("Protocol")[0].splitlines()
    assert max(map(len, lines)) <= 80
    headings = [re.findall("mAP|F1@[35]", line) for line in lines if line.startswith("Method")]
    assert headings == [["mAP"] * 3 + ["F1@3"] * 3, ["F1@5"] * 3]
    values = [line.split() for line in lines if line.startswith("C3-MLZSL")]
    assert values[0][2:] == ["21.0", "±", "1.4", "(2)", "29.4", "-8.4", "24.0", "±", "1.4", "(2)", "32.8", "-8.8"]
    assert values[1][2:] == ["26.0", "±", "1.4", "(2)", "32.3", "-6.3"]


def test_a_value_without_a_rival_is_not_called_the_best(runs: RunFolders) -> None:
    runs.add("c3", 20.0, dataset="corel5k")
    assert "20.0 (1)*" not in report((1,), runs.root)
    runs.add("lesa", 7.5, dataset="corel5k")
    text = report((1,), runs.root)
    assert "20.0 (1)*" in text and "7.5 (1)*" not in text and "A star" in text


@pytest.mark.parametrize("made", [False, True], ids=["missing", "empty"])
def test_a_folder_without_runs_is_refused_in_one_line(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "rusn"
    if made:
        folder.mkdir()
    said = "holds no run" if made else "does not exist"
    with pytest.raises(C3Error, match=rf"{folder} {said}.*c3 report --published"):
        report((1,), folder)
    done = CliRunner().invoke(main, ["report", "--runs", str(folder)])
    assert (done.exit_code, done.output.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    ("format", "mark", "best", "rest"),
    [
        ("markdown", r"\*\*[^*]+\*\*", "| **25.0 (1)** |", "| 20.0 (1) |"),
        ("latex", r"\\textbf", r"& \textbf{25.0 (1)} &", "& 20.0 (1) &"),
    ],
)
def test_the_best_measured_value_is_bold(runs: RunFolders, format: str, mark: str, best: str, rest: str) -> None:
    runs.add("lesa", 20.0, floor=90.0)
    runs.add("c3", 25.0, floor=90.0)
    text = report((1,), runs.root, format)
    assert best in text
    assert rest in text
    assert len(re.findall(mark, text)) == 6  # three metrics, two tasks; neither the floors nor the paper


def test_latex_is_escaped_and_uses_booktabs(runs: RunFolders) -> None:
    runs.add("a_b~50%", 25.0, seed=0)
    runs.add("a_b~50%", 35.0, seed=1)
    runs.add("c3", 20.0)
    text = report((1,), runs.root, "latex")
    assert r"a\_b\textasciitilde{}50\% & ZSL & \textbf{30.0 $\pm$ 7.1 (2)} & -" in text
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    assert not re.search(r"(?<!\\)[_%#~]|±|†", text)


def test_csv_has_a_line_per_method_task_and_metric_with_every_digit(runs: RunFolders) -> None:
    runs.add(level=20 / 3)
    lines = list(csv.DictReader(io.StringIO(report((1, 2), runs.root, "csv", Shown(published=True)))))
    assert len(lines) == 3 * 2 * (10 + 9 + 9)  # ten rows, nine under each protocol of Open Images
    mine = next(line for line in lines if line["method"] == "C3-MLZSL" and line["metric"] == "mAP")
    assert (mine["task"], mine["mean"], mine["sd"], mine["n"]) == ("ZSL", "6.666666667", "", "1")
    assert (mine["published"], mine["published in"]) == ("29.4", "paper")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_shows_a_measured_value(runs: RunFolders, format: str) -> None:
    runs.add(level=43.2)
    assert "43.2" in report((1,), runs.root, format)


def test_an_unknown_format_or_table_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(C3Error, match=r"'latx'. Did you mean 'latex'.*markdown"):
        report((1,), tmp_path, "latx")
    with pytest.raises(C3Error, match=r"table '7'.*Known: 1, 2, 3, 4, 5"):
        report((7,), tmp_path)


def test_a_report_needs_no_torch(runs: RunFolders) -> None:
    runs.add()
    code = f"import sys; from c3.evaluate.report.run import report; report((1, 2, 3, 4, 5), {str(runs.root)!r})"
    code += "; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
