"""The demo data set: what its files promise, checked on a small one."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.datasets.demo import data_set as demo
from c3.extract.datasets.demo.data_set import (
    CLASSES,
    SEEN,
    UNSEEN,
    DemoSpec,
    labels_of,
    plan_scenes,
    word_vectors,
    write_demo,
)
from c3.extract.datasets.demo.drawing import COLOURS, SIZES, Scene, Thing, draw_scene
from PIL import Image

SMALL = DemoSpec(seed=3, train=40, val=10, test=20, side=96, d_w=16)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "demo"
    write_demo(folder, SMALL)
    return folder


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["image_path"] for row in rows}) == len(rows), "an image has one row, so splits are disjoint"
    return {row["image_path"]: row for row in rows}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_thing(shape: str, colour: str = "red", texture: str = "plain", **other: object) -> Scene:
    thing = Thing(shape, colour, texture, size="large", x=0.5, y=0.5, radius=0.25, angle=0.0)
    return Scene("grass", "day", (replace(thing, **other),))


def test_the_same_spec_gives_the_same_bytes_and_another_seed_does_not(root: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "again", SMALL)
    assert contents(tmp_path / "again") == contents(root)
    write_demo(tmp_path / "other", replace(SMALL, seed=4))
    other = contents(tmp_path / "other")
    for name in ("images/00000.jpg", "labels.csv", "labels-verified.csv", "vectors.txt"):
        assert other[name] != contents(root)[name], name


def test_every_promised_file_is_there_and_agrees_with_the_others(root: Path) -> None:
    rows = table(root / "labels.csv")
    assert sorted(rows) == sorted(path.name for path in (root / "images").iterdir())
    splits = [row["split"] for row in rows.values()]
    assert [splits.count(split) for split in ("train", "val", "test")] == [SMALL.train, SMALL.val, SMALL.test]
    for name in rows:
        with Image.open(root / "images" / name) as image:
            assert (image.size, image.mode, image.format) == ((96, 96), "RGB", "JPEG")
    names = (root / "classes.txt").read_text().splitlines()
    assert tuple(names) == CLASSES and len(set(names)) == len(names)
    assert (root / "unseen.txt").read_text().splitlines() == names[-len(UNSEEN) :]
    assert json.loads((root / "demo.json").read_text())["seed"] == SMALL.seed
    assert [path.name for path in root.parent.iterdir()] == [root.name], "no draft is left behind"


def test_labels_are_those_of_the_planned_scenes(root: Path) -> None:
    planned = [(split, scene) for split, scenes in plan_scenes(SMALL).items() for scene in scenes]
    for number, row in enumerate(table(root / "labels.csv").values()):
        split, scene = planned[number]
        assert (row["image_path"], row["split"]) == (f"{number:05d}.jpg", split)
        assert row["labels"].split("|") == list(labels_of(scene))


def test_labels_of_a_scene_worked_by_hand() -> None:
    things = (
        Thing("heart", "orange", "plain", "large", 0.3, 0.3, 0.25, 0.0),
        Thing("star", "blue", "dotted", "small", 0.8, 0.8, 0.1, 0.0),
    )
    expected = {"orange", "heart", "orange heart", "large", "blue", "star", "blue star", "dotted", "dotted star"}
    assert set(labels_of(Scene("sea", "night", things))) == expected | {"sea", "night", "night sea"}


def test_every_word_of_an_unseen_class_occurs_in_seen_classes() -> None:
    seen_words = {word for name in SEEN for word in name.split()}
    assert not set(SEEN) & set(UNSEEN)
    assert [name for name in UNSEEN if not seen_words.issuperset(name.split())] == []


def test_every_word_has_a_vector_and_families_hold_together(root: Path) -> None:
    lines = [line.split() for line in (root / "vectors.txt").read_text().splitlines()]
    vectors = {word: np.array(values, np.float32) for word, *values in lines}
    assert set(vectors) == {word for name in CLASSES for word in name.split()}
    assert {vector.shape for vector in vectors.values()} == {(SMALL.d_w,)}
    written = word_vectors(SMALL)
    np.testing.assert_allclose([vectors[word] for word in written], list(written.values()), atol=1e-6)

    long = word_vectors(replace(SMALL, d_w=300))
    family = {word: kind for kind, words in demo.FAMILIES.items() for word in words}
    pairs = [(a, b) for a in long for b in long if a < b]
    cosine = {same: [long[a] @ long[b] for a, b in pairs if (family[a] == family[b]) is same] for same in (True, False)}
    assert np.mean(cosine[True]) > 0.1 > abs(np.mean(cosine[False]))


def test_verified_labels_are_a_part_of_the_complete_ones(root: Path) -> None:
    complete, verified = table(root / "labels.csv"), table(root / "labels-verified.csv")
    assert {name: row["split"] for name, row in complete.items()} == {n: r["split"] for n, r in verified.items()}
    present = confirmed = absent = refuted = 0
    for name, row in verified.items():
        true = set(complete[name]["labels"].split("|"))
        positive, negative = set(row["labels"].split("|")), set(row["negatives"].split("|"))
        assert positive and positive <= true
        assert negative and negative <= set(CLASSES) - true
        present, confirmed = present + len(true), confirmed + len(positive)
        absent, refuted = absent + len(CLASSES) - len(true), refuted + len(negative)
    assert confirmed / present == pytest.approx(SMALL.verified[0], abs=0.05)
    assert refuted / absent == pytest.approx(SMALL.verified[1], abs=0.02)


def test_a_red_circle_is_red_where_the_plan_says(root: Path) -> None:
    """In every picture: the middle of a plain thing that nothing hides has its colour, read back from the JPEG."""
    scenes = [scene for planned in plan_scenes(SMALL).values() for scene in planned]
    checked = set()
    for number, scene in enumerate(scenes):
        with Image.open(root / "images" / f"{number:05d}.jpg") as image:
            pixels = np.asarray(image, float)
        for place, thing in enumerate(scene.things):
            hidden = any(np.hypot(t.x - thing.x, t.y - thing.y) < t.radius + 0.05 for t in scene.things[place + 1 :])
            if hidden or thing.texture != "plain" or thing.shape in ("ring", "crescent"):
                continue
            row, column = int(thing.y * 96), int(thing.x * 96)
            colour = pixels[row - 1 : row + 2, column - 1 : column + 2].mean(axis=(0, 1))
            nearest = max(COLOURS, key=lambda name: cosine(colour, np.array(COLOURS[name])))
            assert nearest == thing.colour, f"picture {number}: {thing} looks {nearest}"
            checked.add(f"{thing.colour} {thing.shape}")
    assert "red circle" in checked and len(checked) >= 10


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def lens(large: float, small: float, apart: float) -> float:
    """The area that two discs share."""
    x = (apart**2 + large**2 - small**2) / (2 * apart)
    half = np.sqrt(large**2 - x**2)
    return large**2 * np.arccos(x / large) + small**2 * np.arccos((apart - x) / small) - apart * half


AREAS = {  # in squares of the radius
    "circle": np.pi * 0.90**2,
    "ring": np.pi * (0.92**2 - 0.48**2),
    "square": 1.6**2,
    "triangle": 3 * np.sqrt(3) / 4,
    "star": 5 * 0.42 * np.sin(np.pi / 5),
    "cross": 0.92**2 * (2 * 2 * 0.66 - 0.66**2),
    "heart": 180 * np.pi / 17**2,
    "crescent": np.pi * 0.95**2 - lens(0.95, 0.7234, 0.3734),
}


@pytest.mark.parametrize("shape", demo.FAMILIES["shape"])
def test_a_shape_covers_the_area_that_geometry_gives_it(shape: str) -> None:
    picture = draw_scene(one_thing(shape), 160, np.random.default_rng(0)).astype(int)
    red = picture[..., 0] - picture[..., 1] > 100
    assert red.sum() / (0.25 * 160) ** 2 == pytest.approx(AREAS[shape], rel=0.06)


def test_textures_differ_inside_the_thing_only() -> None:
    plain = draw_scene(one_thing("square"), 160, np.random.default_rng(0)).astype(int)
    spread = {}
    for texture in demo.FAMILIES["texture"]:
        picture = draw_scene(one_thing("square", texture=texture), 160, np.random.default_rng(0)).astype(int)
        spread[texture] = picture[60:100, 60:100].std(axis=(0, 1)).max()
        assert np.abs(picture - plain)[:, :30].max() <= 12, "the background must not give the texture away"
    assert spread.pop("plain") * 3 < min(spread.values())


def test_the_default_data_set_is_unbalanced_and_leaves_no_class_without_test_pictures() -> None:
    for seed in range(3):
        plan = plan_scenes(DemoSpec(seed=seed))
        counts = {split: np.zeros(len(CLASSES), int) for split in plan}
        for split, scenes in plan.items():
            for scene in scenes:
                counts[split] += [name in labels_of(scene) for name in CLASSES]
        assert counts["test"].min() >= 7
        total = sum(counts.values())
        assert total.max() > 10 * total.min()
        assert 4 <= total.sum() / 1800 <= 8
        unseen = total[len(SEEN) :] / 1800
        assert 0.03 < unseen.mean() < 0.08 and unseen.max() < 0.15
        assert len({*plan["train"], *plan["val"], *plan["test"]}) == 1800, "no scene is drawn twice"


def test_things_stay_in_the_picture_and_sizes_keep_apart() -> None:
    bounds = sorted(SIZES.values())
    assert all(low[1] < high[0] * 0.8 for low, high in pairwise(bounds))
    for scene in plan_scenes(SMALL)["train"]:
        assert 1 <= len(scene.things) <= 4
        for thing in scene.things:
            assert thing.radius <= min(thing.x, thing.y, 1 - thing.x, 1 - thing.y)
            assert SIZES[thing.size][0] <= thing.radius <= SIZES[thing.size][1]


def test_a_second_call_does_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("drew again")

    monkeypatch.setattr(demo, "draw_scene", fail)
    write_demo(root, SMALL)
    with pytest.raises(AssertionError, match="drew again"):
        write_demo(root.parent / "new", SMALL)


def test_a_root_that_holds_something_else_is_refused_and_untouched(root: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(C3Error, match="not a demo data set"):
        write_demo(foreign, SMALL)
    assert contents(foreign) == {"holiday.jpg": b"mine"}
    (foreign / "demo.json").write_text("[]")
    with pytest.raises(C3Error, match="not a demo data set"):
        write_demo(foreign, SMALL)
    with pytest.raises(C3Error, match="not a demo data set"):
        write_demo(foreign / "holiday.jpg", SMALL)

    copy = tmp_path / "copy"
    shutil.copytree(root, copy)
    with pytest.raises(C3Error, match="side is 96, expected 128") as error:
        write_demo(copy, replace(SMALL, side=128))
    assert "\n" not in str(error.value)
    assert contents(copy) == contents(root)


def test_an_interrupted_draw_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, calls = demo.draw_scene, []

    def interrupted(*arguments: object) -> np.ndarray:
        calls.append(1)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(demo, "draw_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "demo", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(C3Error, match="cannot write the demo data set"):
        write_demo(tmp_path / "file" / "demo", SMALL)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"test": 0}, {"side": 8}, {"d_w": 1}, {"verified": (0.0, 0.3)}])
def test_a_spec_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(C3Error, match=next(iter(wrong))):
        replace(SMALL, **wrong)
