"""Tagging: the scores of the store, any words, bad pictures, overlays, the best of several runs, keywords in files."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c3 import Tagger
from c3.common.errors import C3Error
from c3.extract.backbone.pictures.crop_policies import POLICIES
from c3.extract.backbone.weights import load_backbone
from c3.extract.store.cache import FeatureCache
from c3.predict.images import find_pictures
from c3.predict.results import Label, Tagged, csv_lines, table
from c3.train import registry
from c3.train.models.fast0tag import Fast0Tag
from c3.train.run_folder import best_run, open_run, write_json
from PIL import Image
from tagging_place import SIZES, Placement, c3, scores_of_store


@pytest.mark.parametrize("method", SIZES)
def test_the_scores_of_the_stores_own_pictures_are_those_of_evaluation(place: Placement, method: str) -> None:
    cache = FeatureCache.open(place.store)
    expected = scores_of_store(place, method, "test")
    paths = [place.images / name for name in cache.image_ids("test").tolist()]
    found = Tagger.load(place.runs[method], device="cpu").tag(paths, top=len(cache.classes), batch_size=2)
    for row, tagged in enumerate(found):
        own = {label.name: label.score for label in tagged.labels}
        np.testing.assert_allclose([own[name] for name in cache.classes.names], expected[row], rtol=5e-3, atol=2e-3)
        assert [label.score for label in tagged.labels] == sorted(own.values(), reverse=True)
    kinds = {label.name: label.kind for label in found[0].labels}
    assert kinds == {"blue": "seen", "red": "seen", "dark red": "unseen"}


def test_a_run_needs_no_store(place: Placement, tagger: Tagger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureCache, "open", lambda *_: pytest.fail("the store was opened"))
    assert Tagger.load(place.runs["c3"], device="cpu").tag(place.images)[0].ok


def test_batches_and_order_do_not_change_a_score(place: Placement, tagger: Tagger) -> None:
    paths = find_pictures([place.images])
    alone, together = (tagger.tag(paths, batch_size=size) for size in (1, 5))
    for one, other in zip(alone, together, strict=True):
        assert one.image == other.image
        np.testing.assert_allclose(*([label.score for label in t.labels] for t in (one, other)), rtol=1e-4, atol=1e-5)


def test_any_word_with_a_vector_can_be_asked_for(place: Placement, tagger: Tagger, tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("# colours\n\nred\n dark red \nGreen\nnight-blue\n")
    shown = c3("predict", place.images / "00.png", "--run", place.runs["c3"], "--vocabulary", words,
               "--vectors", place.vectors, "--json", "--device", "cpu")  # fmt: skip
    assert shown.exit_code == 0, shown.output
    (line,) = map(json.loads, shown.stdout.splitlines())
    assert {label["label"]: label["kind"] for label in line["labels"]} == {
        "red": "seen", "dark red": "unseen", "Green": "new", "night-blue": "new",
    }  # fmt: skip
    assert "night-blue (night)" in shown.stderr  # a word of it has no vector
    scores = {label["label"]: label["score"] for label in line["labels"]}
    own = {label.name: label.score for label in tagger.tag(place.images / "00.png", top=9)[0].labels}
    assert scores["red"] == pytest.approx(own["red"], rel=1e-5)
    assert scores["dark red"] == pytest.approx(own["dark red"], rel=1e-5)


def test_vectors_are_normalised_as_the_run_says_and_may_be_an_array(place: Placement, tagger: Tagger) -> None:
    picture = [place.images / "01.png"]
    vectors = np.array([[3, 0, 0, 0], [0, 0, 0, 0.5]])
    (long,) = tagger.tag(picture, vocabulary=["x", "y"], vectors=vectors)
    (unit,) = tagger.tag(picture, vocabulary=["x", "y"], vectors=vectors / [[3], [0.5]])
    assert {label.name: label.score for label in long.labels} == pytest.approx(
        {label.name: label.score for label in unit.labels}, rel=1e-5
    )
    assert tagger.tag(picture, vocabulary=["red"])[0].labels[0].kind == "seen"  # a class brings its own vector


def test_a_bad_picture_loses_nothing_else(place: Placement, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    (folder / "deep").mkdir(parents=True)
    for number in range(3):
        shutil.copy(place.images / f"0{number}.png", folder / "deep" / f"{number}.PNG")
    (folder / "a.jpg").write_bytes(b"")
    (folder / "b.jpg").write_bytes((place.images / "00.png").read_bytes()[:200])
    (folder / ".c.png").write_bytes(b"hidden files are left out")
    (folder / "notes.txt").write_text("no picture")
    command = (
        "predict",
        folder,
        tmp_path / "gone.png",
        "--run",
        place.runs["c3"],
        "--device",
        "cpu",
        "--batch-size",
        2,
    )
    shown = c3(*command, "--json")
    assert shown.exit_code == 3
    lines = list(map(json.loads, shown.stdout.splitlines()))
    assert [(Path(line["image"]).name, line["status"]) for line in lines] == [
        ("a.jpg", "empty"), ("b.jpg", "unreadable"), ("0.PNG", "ok"), ("1.PNG", "ok"), ("2.PNG", "ok"),
        ("gone.png", "missing"),
    ]  # fmt: skip
    assert set(lines[2]) == {"schema", "image", "status", "reason", "labels"}
    assert set(lines[2]["labels"][0]) == {"label", "kind", "probability", "score", "threshold"}
    assert all(bool(line["labels"]) == (line["status"] == "ok") and bool(line["reason"]) == (not line["labels"])
               for line in lines)  # fmt: skip
    assert "a.jpg: empty, the file is empty" in shown.stderr
    rows = list(csv.DictReader(io.StringIO(c3(*command, "--csv", "--top", 1).stdout)))
    assert [(row["status"], row["rank"]) for row in rows] == [
        ("empty", ""), ("unreadable", ""), ("ok", "1"), ("ok", "1"), ("ok", "1"), ("missing", "")
    ]  # fmt: skip
    assert [float(row["score"]) for row in rows[2:5]] == [line["labels"][0]["score"] for line in lines[2:5]]
    text = c3(*command).stdout
    assert text.splitlines()[0].split() == ["image", "label", "kind", "score"]
    assert "(unreadable)" in text and "deep/2.PNG" in text.replace("\n", "")


def test_pictures_are_found_in_files_folders_and_globs(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "deep/c.webp", "deep/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_pictures([tmp_path])]
    assert names == ["a.JPG", "b.png", "deep/c.webp"]
    a, b, c, d = (tmp_path / name for name in ("a.JPG", "b.png", "deep/c.webp", "deep/d.txt"))
    assert find_pictures([b, tmp_path]) == [b, a, c]
    assert find_pictures([f"{tmp_path}/**/*.webp", d]) == [c, d]  # what is named is taken, whatever its suffix
    (tmp_path / "none").mkdir()
    for places in ([f"{tmp_path}/*.gif"], [b, tmp_path / "none"], []):
        with pytest.raises(C3Error, match="no pictures"):
            find_pictures(places)


def test_a_picture_scores_the_maximum_over_the_crops_of_its_store(place: Placement, run_copy: Path) -> None:
    record = json.loads((run_copy / "run.json").read_text())
    record["cache"]["crops"] = "five"
    write_json(run_copy / "run.json", record)
    (found,) = Tagger.load(run_copy, device="cpu").tag(place.images / "03.png", top=3, responses=True)
    tagger = Tagger.load(place.runs["c3"], device="cpu")
    alone = []
    for box in POLICIES["five"]:
        tagger._boxes = (box,)
        alone.append({label.name: label.score for label in tagger.tag(place.images / "03.png")[0].labels})
    assert len(found.pixels) == 5
    for label in found.labels:
        scores = [one[label.name] for one in alone]
        assert label.score == pytest.approx(max(scores), rel=1e-4, abs=1e-5)
        assert scores[label.crop] == pytest.approx(max(scores), rel=1e-4, abs=1e-5)


def test_maps_are_those_asked_for_and_are_drawn(place: Placement, tmp_path: Path) -> None:
    tagger = Tagger.load(place.runs["c3"], device="cpu")
    (found,) = tagger.tag(place.images / "02.png", responses=True, maps="shares")
    for label in found.labels:
        assert label.response.sum() == pytest.approx(label.score, rel=1e-4, abs=1e-4)
    (hidden,) = tagger.tag(place.images / "02.png", responses=True)
    assert [label.score for label in hidden.labels] == [label.score for label in found.labels]
    assert all(label.response.shape == (7, 7) for label in hidden.labels)
    assert not np.allclose(hidden.labels[0].response, found.labels[0].response)
    drawn = c3(
        "predict", place.images / "0[01].png", "--run", place.runs["c3"], "--overlay", tmp_path / "o", "--device", "cpu"
    )
    assert drawn.exit_code == 0, drawn.output
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["0000-00.png", "0001-01.png"]
    with Image.open(tmp_path / "o/0000-00.png") as image:
        assert image.width > 2 * image.height
    copy = tmp_path / f"{'é' * 125}.png"  # one long name stops nothing
    shutil.copyfile(place.images / "00.png", copy)
    assert c3("predict", copy, "--run", place.runs["c3"], "--overlay", tmp_path / "l", "--device", "cpu").exit_code == 0
    assert [path.name for path in (tmp_path / "l").iterdir()] == [f"0000-{'é' * 100}.png"]
    fast0tag = ("predict", place.images / "00.png", "--run", place.runs["fast0tag"], "--device", "cpu")
    assert c3(*fast0tag, "--overlay", tmp_path / "f").exit_code == 0
    assert len(list((tmp_path / "f").iterdir())) == 1
    refused = c3(*fast0tag, "--overlay", tmp_path / "n", "--map", "shares")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "fast0tag has no shares of positions to draw; leave --map out" in refused.stderr
    assert not (tmp_path / "n").exists()


def test_a_method_that_is_not_zero_shot_tags_with_its_own_classes(
    place: Placement, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(Fast0Tag):
        zero_shot = False

    monkeypatch.setitem(registry.METHODS, "fast0tag", Closed)
    tagger = Tagger.load(place.runs["fast0tag"], device="cpu")
    (found,) = tagger.tag(place.images / "00.png", top=9)
    assert {label.name for label in found.labels} == {"red", "blue"}
    with pytest.raises(C3Error, match="can only tag with the 2 classes that it was trained on"):
        tagger.tag(place.images, vocabulary=["red"])


def test_weights_that_a_trainer_wrapped_are_those_of_the_features(place: Placement, tmp_path: Path) -> None:
    state = load_backbone("squeezenet1_1", "random:0").body.state_dict()
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}},
               tmp_path / "w.pth.tar")  # fmt: skip
    tagger = Tagger.load(place.runs["c3"], weights=str(tmp_path / "w.pth.tar"), device="cpu")
    assert tagger.tag(place.images / "00.png")[0].ok


def test_names_of_any_bytes_can_be_printed() -> None:
    bad = Tagged("a\udcff.jpg", "ok", labels=(Label("sea, sky", "new", 1.0),))
    csv_lines(bad).encode()
    assert "sea, sky" in table([bad, replace(bad, labels=())])
    assert next(csv.reader([csv_lines(bad)]))[3] == "sea, sky"


def test_importing_c3_loads_neither_torch_nor_zarr() -> None:
    code = "import sys, c3; assert 'Tagger' in c3.__all__; sys.exit(bool({'torch', 'zarr'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_words_without_vectors_are_looked_up_where_the_data_set_has_its_own(
    place: Placement, tagger: Tagger, run_copy: Path
) -> None:
    """The store recorded the catalog, so that neither it nor the vectors have to be given again."""
    (found,) = tagger.tag(place.images / "00.png", vocabulary=["green", "red"])
    assert {label.name: label.kind for label in found.labels} == {"green": "new", "red": "seen"}
    record = json.loads((run_copy / "run.json").read_text())
    record["cache"]["request"]["catalog"] = str(run_copy / "gone.yaml")
    (run_copy / "run.json").write_text(json.dumps(record))
    moved = Tagger.load(run_copy, device="cpu")
    assert len(moved.tag(place.images / "00.png", vocabulary=["red"])) == 1
    with pytest.raises(C3Error, match=r"green\. Leave|without a vector in the run's own classes"):
        moved.tag(place.images / "00.png", vocabulary=["green"])


def test_strength_is_the_place_between_the_mean_and_the_best(place: Placement, tagger: Tagger) -> None:
    for tagged in tagger.tag(place.images, top=9):
        scores = np.array([label.score for label in tagged.labels])
        expected = np.maximum((scores - scores.mean()) / (scores.max() - scores.mean()), 0)
        assert [label.strength for label in tagged.labels] == pytest.approx(expected, abs=1e-4)
    shown = c3("predict", place.images / "00.png", "--run", place.runs["c3"], "--device", "cpu").stdout
    best = tagger.tag(place.images / "00.png")[0].labels[0]
    assert f" {best.score:.3f} {'■' * 10}" in shown


def test_a_folder_of_runs_gives_its_best_on_validation(place: Placement, tmp_path: Path) -> None:
    runs = {method: open_run(path) for method, path in place.runs.items()}
    scores = {method: run.record.seen.mAP for method, run in runs.items() if run.record.seen}
    folder = place.runs["c3"].parent
    best = max(scores, key=lambda method: (scores[method], runs[method].record.created))
    assert best_run(folder).path == place.runs[best]
    shown = c3("predict", place.images / "00.png", "--run", folder, "--device", "cpu")
    assert shown.exit_code == 0 and f"{place.runs[best]} is the run with the best mAP" in shown.stderr
    with pytest.raises(C3Error, match="no finished run with a score on validation"):
        best_run(tmp_path)
    drawn = json.loads((place.runs[best] / "run.json").read_text())
    (tmp_path / "drawn").mkdir()
    write_json(tmp_path / "drawn/run.json", drawn | {"config": drawn["config"] | {"hide_seed": 1}})
    with pytest.raises(C3Error, match="no finished run with a score on validation"):
        best_run(tmp_path)
    for number, path in enumerate(place.runs.values()):
        record = json.loads((path / "run.json").read_text())
        record["cache"]["dataset"] = f"set {number}"
        (tmp_path / path.name).mkdir()
        (tmp_path / path.name / "run.json").write_text(json.dumps(record))
    with pytest.raises(C3Error, match="runs of different data sets"):
        best_run(tmp_path)


def test_xmp_files_get_the_labels_that_are_printed(place: Placement, tmp_path: Path) -> None:
    for name in ("00.png", "01.png", "02.png"):
        shutil.copy(place.images / name, tmp_path / name)
    (tmp_path / "bad.png").write_bytes(b"")
    (tmp_path / "01.xmp").write_text("<not xml", encoding="utf-8")
    (tmp_path / "tree.txt").write_text("colour|red\ncolour|blue\ncolour|dark red\n", encoding="utf-8")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    command = ("predict", tmp_path, "--run", place.runs["c3"], "--device", "cpu", "--top", 2, "--json")
    shown = c3(*command, "--xmp", "--label-tree", tmp_path / "tree.txt")
    assert shown.exit_code == 3, shown.output
    assert "01.xmp stays as it is: it is not well-formed XML" in shown.stderr
    assert "sidecars: 2 written, 1 not written" in shown.stderr
    for line in map(json.loads, shown.stdout.splitlines()):
        sidecar = Path(line["image"] + ".xmp")
        assert sidecar.exists() == (sidecar.name in ("00.png.xmp", "02.png.xmp"))
        if sidecar.exists():
            words = [label["label"] for label in line["labels"]]
            written = re.findall("<rdf:li>(.*)</rdf:li>", sidecar.read_text(encoding="utf-8"))
            assert written == words + [f"colour|{word}" for word in words]
    assert all(path.read_bytes() == content for path, content in before.items())
    for asked in (("--xmp-name", "stem"), ("--label-tree", tmp_path / "tree.txt")):
        refused = c3(*command, *asked)
        assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1) and "goes with --xmp" in refused.stderr
    refused = c3(*command, "--xmp", "--words", "red,d\x01g")
    assert (refused.exit_code, refused.stdout) == (2, "") and refused.stderr.count("control character") == 1
