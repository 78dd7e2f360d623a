"""Tagging by probability: what is shown, sorted and compared, with and without maps of the run."""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from c3 import Tagger
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.predict.results import Label, Tagged, table
from c3.train.run import TrainOptions, train
from c3.train.run_folder import (
    ClassMap,
    OtherMap,
    ProbabilityMaps,
    SharedMap,
    read_probabilities,
    write_lines,
    write_probabilities,
)
from click.testing import CliRunner, Result
from scipy.special import expit

MAPS = ProbabilityMaps(
    30, 30, {"platt": 0.1, "isotonic": 0.2}, "logistic", SharedMap("platt", (0.0, 1.0), (0.0, 1.0)),
    OtherMap(0.5, -3.0, 3), (ClassMap("red", 15, 1.0, -2.0), ClassMap("blue", 15, 1.0, 2.0)),
)  # fmt: skip
LINES = {"red": (1, -2), "blue": (1, 2), "dark red": (0.5, -3), "green": (0.5, -3)}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> tuple[Path, Path]:
    """Drawn pictures, and a run on them without probabilities: its val split is small."""
    root = tmp_path_factory.mktemp("tagging")
    tiny = draw_table(root / "tiny", 12)
    extract(ExtractOptions("tiny", "squeezenet1_1", "random:0", root / "f.zarr", tiny / "catalog.yaml", device="cpu"))
    settings = {"epochs": 1, "batch_size": 4, "groups": 2}
    return tiny / "images", train(TrainOptions(root / "f.zarr", "c3", root / "runs", settings, device="cpu")).path


@pytest.fixture
def tagger(place: tuple[Path, Path]) -> Tagger:
    """The same run with maps that turn red and blue around."""
    write_probabilities(place[1], MAPS)
    assert read_probabilities(place[1]) == MAPS
    return Tagger.load(place[1], device="cpu")


def c3(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_labels_have_probabilities_and_are_sorted_by_them(place: tuple[Path, Path], tagger: Tagger) -> None:
    for tagged in tagger.tag(place[0]):
        found = [label.probability for label in tagged.labels]
        assert found == sorted(found, reverse=True)
        for label in tagged.labels:
            slope, intercept = LINES[label.name]
            assert label.probability == pytest.approx(expit(slope * label.score + intercept))
    (new,) = tagger.tag(place[0] / "00.png", vocabulary=["green"], vectors=str(place[0].parent / "vectors.txt"))
    assert new.labels[0].probability == pytest.approx(expit(0.5 * new.labels[0].score - 3))
    by_score = [label.name for label in tagger.tag(place[0] / "00.png", raw=True)[0].labels]
    assert [label.name for label in tagger.tag(place[0] / "00.png")[0].labels] != by_score


def test_a_threshold_is_a_probability_or_a_score(place: tuple[Path, Path], tagger: Tagger) -> None:
    whole = tagger.tag(place[0])
    middle = sorted(label.probability for tagged in whole for label in tagged.labels)[15]
    kept = [[label.name for label in tagged.labels] for tagged in tagger.tag(place[0], threshold=middle)]
    assert kept == [[label.name for label in tagged.labels if label.probability >= middle] for tagged in whole]
    with pytest.raises(C3Error, match=r"expected a probability from 0 to 1, or a score with --raw; found 1\.5"):
        tagger.tag(place[0], threshold=1.5)
    scores = sorted(label.score for tagged in whole for label in tagged.labels)
    lines = [[name, 1, 1, repr(scores[15]), "0.5", "val"] for name in ("red", "blue", "dark red")]
    write_lines(place[1] / "thresholds.csv", ("class", "seen", "positives", "threshold", "F1", "source"), lines)
    for asked in ({"threshold": "val"}, {"threshold": scores[15], "raw": True}):
        found = tagger.tag(place[0], **asked)
        reached = [{one.name for one in tagged.labels if one.score >= scores[15]} for tagged in whole]
        assert [{label.name for label in tagged.labels} for tagged in found] == reached
        assert all(label.threshold == scores[15] for tagged in found for label in tagged.labels)


@pytest.mark.usefixtures("tagger")
def test_every_form_shows_them_and_raw_leaves_them_out(place: tuple[Path, Path]) -> None:
    command = ("predict", place[0] / "00.png", "--run", place[1], "--device", "cpu")
    (line,) = map(json.loads, c3(*command, "--json").stdout.splitlines())
    labels: list[dict[str, Any]] = line["labels"]
    assert line["schema"] == 2 and all(0 < label["probability"] < 1 for label in labels)
    rows = list(csv.DictReader(io.StringIO(c3(*command, "--csv").stdout)))
    assert [float(row["probability"]) for row in rows] == [label["probability"] for label in labels]
    assert [float(row["score"]) for row in rows] == [label["score"] for label in labels]
    shown = c3(*command)
    assert shown.stdout.splitlines()[0].split() == ["image", "label", "kind", "probability"]
    assert f"{labels[0]['probability']:.2f} ■" in shown.stdout and shown.stderr.count("probabilit") == 0
    raw = c3(*command, "--raw")
    assert raw.stdout.splitlines()[0].split()[-1] == "score" and "probabilit" not in raw.stderr
    (line,) = map(json.loads, c3(*command, "--raw", "--json").stdout.splitlines())
    assert {label["probability"] for label in line["labels"]} == {None}
    scores = [label["score"] for label in line["labels"]]
    assert scores == sorted(scores, reverse=True)
    told = [row.split()[-2:] for row in raw.stdout.splitlines() if "■" in row]  # a long path is folded
    assert [score for score, _ in told] == [f"{score:.3f}" for score in scores]
    assert told[0][1] == "■" * 10


def test_what_is_lacking_is_said_once(
    place: tuple[Path, Path], tagger: Tagger, caplog: pytest.LogCaptureFixture
) -> None:
    (place[1] / "probabilities.json").unlink()
    plain = Tagger.load(place[1], device="cpu")
    with caplog.at_level(logging.WARNING, logger="c3"):
        tagger.tag(place[0] / "00.png")
        plain.tag(place[0] / "00.png", raw=True)
    assert not caplog.messages
    for _ in range(2):
        (tagged,) = plain.tag(place[0] / "00.png", threshold=-1e9)
    assert {label.probability for label in tagged.labels} == {None}
    assert len(caplog.messages) == 1 and f"c3 evaluate --run {place[1]} writes them" in caplog.text
    assert "the threshold -1000000000.0 is taken as a score" in caplog.text
    plain.tag(place[0] / "00.png")
    assert "threshold" not in caplog.messages[1]
    caplog.clear()
    write_probabilities(place[1], ProbabilityMaps(**MAPS.__dict__ | {"other": OtherMap()}))
    without_folds = Tagger.load(place[1], device="cpu")
    without_folds.tag(place[0] / "00.png", vocabulary=["red"])
    assert not caplog.messages
    for _ in range(2):
        without_folds.tag(place[0] / "00.png")
    assert len(caplog.messages) == 1 and "has no runs of folds" in caplog.text
    assert (
        f"evaluate it again: c3 sweep --select-only --cache {place[0].parents[1] / 'f.zarr'} --method c3 --runs "
        f"{place[1].parent} --set batch_size=4 --set epochs=1 --set groups=2; c3 evaluate --run {place[1]}"
    ) in caplog.text


def test_a_damaged_file_is_refused_before_a_picture_is_read(place: tuple[Path, Path], tagger: Tagger) -> None:
    (tagger.run.path / "probabilities.json").write_text("{}")
    refused = c3("predict", place[0], "--run", place[1], "--device", "cpu")
    assert refused.exit_code == 2 and refused.stdout == ""
    assert (
        f"probabilities.json has no schema, this c3 reads schema 1; write it again: c3 evaluate --run {place[1]}"
        in (refused.stderr)
    )


@pytest.mark.parametrize(
    ("classes", "said"),
    [(MAPS.classes[:1], "found 1, without 'blue'"), ((*MAPS.classes, ClassMap("x", 1, 1.0, 0.0)), "found 3, with 'x'")],
    ids=["cut", "more"],
)
@pytest.mark.usefixtures("tagger")
def test_maps_of_other_classes_are_refused(place: tuple[Path, Path], classes: tuple[ClassMap, ...], said: str) -> None:
    write_probabilities(place[1], ProbabilityMaps(**MAPS.__dict__ | {"classes": classes}))
    for command in (("predict", place[0], "--run", place[1]), ("export", place[1], "--card", place[1] / "card.md")):
        refused = c3(*command)
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
        assert f"expected its 2 seen classes, {said}; write it again: c3 evaluate --run {place[1]}" in refused.stderr


@pytest.mark.usefixtures("tagger")
def test_two_forms_of_output_are_refused(place: tuple[Path, Path]) -> None:
    command = ("predict", place[0] / "00.png", "--run", place[1])
    refused = c3(*command, "--csv", "--json")
    assert (refused.exit_code, refused.stdout) == (2, "") and "give one of them" in refused.stderr
    assert c3(*command, "--csv", "--csv").stdout.startswith("image,status")


def test_a_bar_is_as_long_as_the_probability() -> None:
    labels = (Label("sea", "seen", 9.0, probability=0.72), Label("sky", "new", 9.0, probability=0.004))
    lines = table([Tagged("a.jpg", "ok", labels=labels)]).splitlines()
    assert lines[1].split()[-2:] == ["0.72", "■" * 7] and lines[2].split()[-2:] == ["0.00", "■"]
