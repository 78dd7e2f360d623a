"""Figure 7: which run it shows, its panels and csv files, and what it says without probabilities."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.evaluate.report.figures import draw_reliability
from c3.evaluate.report.pages import FigureOptions, draw
from c3.evaluate.report.reliability import diagram, occupied
from c3.train.run_folder import Bins, list_runs, write_json
from run_files import RunFolders

RIGHT = {"labels": [90, 10, 9], "predicted": [0.1, 0.5, 0.9], "positive": [0.1, 0.5, 0.8]}
WRONG = {"labels": [0, 0, 109], "predicted": [0.0, 0.0, 0.9], "positive": [0.0, 0.0, 0.2]}


def add(folders: RunFolders, seen: float, reliability: dict[str, Any]) -> str:
    """A run that reaches `seen` on val, and has this reliability on val and on test."""
    name = folders.add("c3", val=seen)
    path = folders.root / name
    record = json.loads((path / "run.json").read_text())
    write_json(path / "run.json", record | {"seen": {"mAP": seen, "random": 0.01}})
    for file in ("metrics.json", "metrics-val.json"):
        write_json(path / file, json.loads((path / file).read_text()) | {"reliability": reliability})
    return name


def test_the_figure_shows_the_run_that_is_best_on_val_and_lists_all(tmp_path: Path) -> None:
    folders = RunFolders(tmp_path)
    one = {"before": WRONG, "after": RIGHT}
    other = add(folders, 0.3, {"seen": one, "unseen": one})
    best = add(folders, 0.4, {"seen": one})
    folders.add("c3-plus")  # without probabilities
    lines = list(draw([7], FigureOptions(tmp_path, tmp_path / "out")))
    assert len(lines) == 1 and lines[0].startswith("figure 7 of nuswide: ")
    assert (tmp_path / "out/figure-7-nuswide.png").stat().st_size > 1000
    with (tmp_path / "out/figure-7-nuswide-errors.csv").open() as file:
        errors = list(csv.DictReader(file))
    assert [(line["run"], line["split"], line["classes"]) for line in errors] == [
        (other, "val", "seen"), (other, "val", "unseen"), (other, "test", "seen"), (other, "test", "unseen"),
        (best, "val", "seen"), (best, "test", "seen"),
    ]  # fmt: skip
    assert float(errors[0]["raw scores"]) == pytest.approx(0.7)
    assert float(errors[0]["probabilities"]) == pytest.approx(9 * 0.1 / 109)
    assert float(errors[0]["likely labels"]) == pytest.approx(9 * 0.1 / 19)
    with (tmp_path / "out/figure-7-nuswide.csv").open() as file:
        bins = list(csv.DictReader(file))
    assert len(bins) == 2 * 2 * 3 and {line["map"] for line in bins} == {"raw", "probability"}

    shown = diagram(list_runs(tmp_path))
    assert shown.run.id == best
    for narrow in (False, True):
        axes = draw_reliability(shown, "title", narrow).axes
        assert [axis.get_title() for axis in axes] == ["val", "test"]
        told = [text.get_text() for text in axes[0].get_legend().get_texts()]
        assert told == ["seen, raw scores: error 0.7000", "seen, probabilities: error 0.0083"]
        np.testing.assert_allclose(axes[0].lines[2].get_xydata(), [[0.1, 0.1], [0.5, 0.5]])  # the last bin is small


def test_a_bin_with_few_labels_is_left_out() -> None:
    bins = Bins(tuple(RIGHT["labels"]), tuple(RIGHT["predicted"]), tuple(RIGHT["positive"]))
    assert occupied(bins, 10).tolist() == [[0.1, 0.5], [0.1, 0.5]]
    assert occupied(bins, 1000).shape == (2, 0)


def test_what_is_measured_on_val_alone_is_shown(tmp_path: Path) -> None:
    folders = RunFolders(tmp_path)
    name = add(folders, 0.3, {"seen": {"before": WRONG, "after": RIGHT}})
    for file in ("metrics.json", "metrics-val.json"):
        content = json.loads((tmp_path / name / file).read_text()) | {"reliability": {}}
        write_json(tmp_path / name / file, content)
        if file == "metrics.json":  # an older one
            shown = diagram(list_runs(tmp_path))
            assert list(shown.panels) == ["val"] and draw_reliability(shown, "title").axes[0].get_title() == "val"
    (tmp_path / name / "probabilities.json").write_text("{}")
    with pytest.raises(C3Error, match=rf"{name} has probabilities that were not measured.*evaluate --run .*{name}$"):
        diagram(list_runs(tmp_path))


def test_runs_without_probabilities_have_no_such_figure(tmp_path: Path) -> None:
    name = RunFolders(tmp_path).add("c3")
    with pytest.raises(C3Error, match=f"no run has probabilities.*c3 evaluate --run {tmp_path / name}"):
        list(draw([7], FigureOptions(tmp_path, tmp_path / "out")))
