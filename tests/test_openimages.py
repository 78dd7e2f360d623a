"""Open Images from a tree in the official layout: rows, three-valued labels, boxes, traps and refusals."""

from __future__ import annotations

import csv
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.datasets import boxes, openimages_csv
from c3.extract.datasets.manifest import Manifest, ReadOptions
from c3.extract.datasets.read import read_manifest
from official_trees import Tree, labels_of, write_openimages

HUMAN = "{}-annotations-human-imagelabels.csv"
BOXES = "{}-annotations-bbox.csv"


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return write_openimages(tmp_path)


def manifest(tree: Tree, **options: object) -> Manifest:
    return read_manifest(Catalog(tree.catalog).dataset("openimages"), ReadOptions(**options))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_classes_are_in_the_official_order_and_names_identify(tree: Tree) -> None:
    classes = manifest(tree).classes
    assert classes.names == ("Dark", "Red", "Tree (/m/0tree)", "Boat", "Blue", "Sky, night",
                             "Boats", "Green", "Tree (/m/0tr2)")  # fmt: skip
    assert classes.seen.tolist() == [True] * 6 + [False] * 3
    np.testing.assert_array_equal(classes.vectors[2], classes.vectors[8])  # one word, one vector: only the MID differs


def test_labels_are_present_absent_or_unknown(tree: Tree) -> None:
    found = manifest(tree)
    assert found.labelling == "verified"
    for name, split in found.splits.items():
        assert labels_of(split, found.classes.names) == tree.truth[name]
        assert split.image_id.tolist() == sorted({image for image, _ in tree.truth[name]})
        assert (found.root / split.path[0]).is_file()


def test_a_thousand_random_pairs_equal_those_of_a_slow_reader(tree: Tree) -> None:
    """Go through the rows of the csv for every random (image, class) pair; +1 where any row says so."""
    found, rng = manifest(tree), random.Random(0)
    mids = dict(zip(found.classes.names, found.class_keys, strict=True))
    tables = {s: rows_of(tree.root / "openimages" / HUMAN.format(w))
              for s, w in (("train", "train"), ("val", "validation"), ("test", "test"))}  # fmt: skip
    for _ in range(1000):
        name = rng.choice(list(tables))
        split = found.splits[name]
        row, column = rng.randrange(len(split)), rng.randrange(len(found.classes))
        said = [
            line["Confidence"]
            for line in tables[name]
            if line["ImageID"] == split.image_id[row] and line["LabelName"] == mids[found.classes.names[column]]
        ]
        dense = split.labels.take(np.array([row])).dense(len(found.classes), absent=0)
        assert dense[0, column] == (1 if "1" in said else -1 if said else 0)


def test_train_keeps_images_with_a_seen_label_and_test_keeps_all(tree: Tree) -> None:
    path = tree.root / "openimages" / HUMAN.format("test")
    path.write_text(path.read_text() + "00000000000000aa,verification,/m/0rare,0\n")
    found = manifest(tree)
    assert "ffffffffffffffff" not in found.splits["train"].image_id.tolist()
    assert "00000000000000aa" in found.splits["test"].image_id.tolist()


def test_images_that_nobody_labelled_have_a_row_when_the_image_list_is_there(
    tree: Tree, caplog: pytest.LogCaptureFixture
) -> None:
    before = manifest(tree).splits["test"].image_id.tolist()
    assert (
        "test-images-with-rotation.csv does not exist: the rows of test are the images of its label file" in caplog.text
    )
    path = tree.root / "openimages/test-images-with-rotation.csv"
    lines = [f'{image},test,http://h/{image}.jpg,"a, ""b""",0.0\n' for image in (*before[::-1], "00000000000000aa")]
    path.write_text("".join(["ImageID,Subset,OriginalURL,Title,Rotation\n", *lines]))
    catalog = yaml.safe_load(tree.catalog.read_text())
    catalog["datasets"]["openimages"]["counts"] = {"test_images": len(before) + 1}
    tree.catalog.write_text(yaml.safe_dump(catalog))
    split = manifest(tree).splits["test"]
    assert split.image_id.tolist() == sorted([*before, "00000000000000aa"])
    assert split.labels.indptr[1] == 0  # the first row, without a label
    path.write_text(path.read_text() + lines[-1].replace("aa,", "ab,"))
    with pytest.raises(C3Error, match=rf"test images: expected {len(before) + 1} .*found {len(before) + 2}"):
        manifest(tree)
    path.write_text("ImageID,Subset\n../x,test\n")
    with pytest.raises(C3Error, match=r"test-images-with-rotation\.csv line 2: an image id has 16"):
        manifest(tree)


def test_the_order_of_lines_does_not_matter_nor_does_the_size_of_pieces(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {crops: manifest(tree, crops=crops).digest() for crops in ("whole", "boxes")}
    for number, path in enumerate(sorted((tree.root / "openimages").glob("*-annotations-*.csv"))):
        header, *lines = path.read_text().splitlines()
        random.Random(number).shuffle(lines)
        path.write_text("\n".join([header, *lines]) + "\n")
    descriptions = tree.root / "openimages/class-descriptions.csv"
    descriptions.write_text("".join(descriptions.read_text().splitlines(True)[::-1]))
    monkeypatch.setattr(openimages_csv, "STEP", 7)
    monkeypatch.setattr(boxes, "STEP", 5)
    assert {crops: manifest(tree, crops=crops).digest() for crops in ("whole", "boxes")} == before


def test_machine_labels_join_train_as_positives_where_people_said_nothing(tree: Tree) -> None:
    images = manifest(tree).splits["train"].image_id.tolist()
    absent = next(pair for pair, value in tree.truth["train"].items() if value < 0 and pair[1] == "Red")
    unknown = next((image, "Boat") for image in images if (image, "Boat") not in tree.truth["train"])
    (tree.root / "openimages/train-annotations-machine-imagelabels.csv").write_text(
        "ImageID,Source,LabelName,Confidence\n"
        f"{absent[0]},machine,/m/01red,0.9\n{unknown[0]},machine,/m/0boat,0.6\n00000000000000ab,machine,/m/0boat,0.5\n"
    )
    assert manifest(tree).digest() == manifest(tree, label_source="human").digest()
    found = manifest(tree, label_source="human+machine")
    labels = labels_of(found.splits["train"], found.classes.names)
    assert labels == tree.truth["train"] | {unknown: 1, ("00000000000000ab", "Boat"): 1}
    assert labels_of(found.splits["test"], found.classes.names) == tree.truth["test"]
    assert found.notes.label_source == "human+machine"
    with pytest.raises(C3Error, match=r"label source must be one of human, human\+machine, found 'machine'"):
        manifest(tree, label_source="machine")


def test_a_box_is_a_row_with_its_own_label_and_what_the_image_is_known_to_lack(tree: Tree) -> None:
    found = manifest(tree, crops="boxes")
    names = dict(zip(found.class_keys, found.classes.names, strict=True))
    split = found.splits["test"]
    listed = [line for line in rows_of(tree.root / "openimages" / BOXES.format("test")) if line["LabelName"] in names]
    assert len(split) == len({(line["ImageID"], line["LabelName"]) for line in listed})
    ids = split.image_id.tolist()
    assert ids == sorted(ids)
    # 0.1..0.6 wide and 0.2..0.9 high, a tenth of it more on every side
    np.testing.assert_allclose(split.crop, np.tile([0.05, 0.13, 0.65, 0.97], (len(split), 1)), atol=1e-6)
    for row, image in enumerate(ids):
        dense = split.labels.take(np.array([row])).dense(len(found.classes), absent=0)[0]
        assert (dense == 1).sum() == 1
        lacking = {name for (i, name), value in tree.truth["test"].items() if i == image and value < 0}
        assert {found.classes.names[c] for c in np.flatnonzero(dense == -1)} == lacking
    assert found.crops == "boxes"


def test_box_settings_are_margin_and_smallest_side(tree: Tree) -> None:
    catalog = yaml.safe_load(tree.catalog.read_text())
    catalog["datasets"]["openimages"] |= {"box_margin": 0.5, "box_min_side": 0.55}
    tree.catalog.write_text(yaml.safe_dump(catalog))
    path = tree.root / "openimages" / BOXES.format("test")
    path.write_text(path.read_text().replace(",0.1,0.6,", ",0.1,0.7,", 1))
    box = manifest(tree, crops="boxes", splits=("test",)).splits["test"].crop
    np.testing.assert_allclose(box, [[0, 0, 1, 1]])  # the one box that is wide enough, clipped at the edges
    catalog["datasets"]["openimages"] |= {"box_margin": "wide"}
    tree.catalog.write_text(yaml.safe_dump(catalog))
    with pytest.raises(C3Error, match=r"openimages\.box_margin: expected a number, found 'wide'"):
        manifest(tree, crops="boxes")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("train_0", "train_a", "test"), "train_{0}/{id}.jpg"),
        (("train/train_0",), "train/train_{0}/{id}.jpg"),
        (("train", "test"), "train/{id}.jpg"),
        ((), "{id}.jpg"),
    ],
)
def test_image_folders_may_have_any_common_layout(tree: Tree, folders: tuple[str, ...], expected: str) -> None:
    (tree.root / "openimages/images").rename(tree.root / "elsewhere")
    for folder in (".", *folders):
        (tree.root / "openimages/images" / folder).mkdir(parents=True, exist_ok=True)
    split = manifest(tree, splits=("train",)).splits["train"]
    for path, image in zip(split.path.tolist(), split.image_id.tolist(), strict=True):
        assert path == expected.format(image[0], id=image)


def test_only_the_files_of_the_wanted_splits_are_needed(tree: Tree) -> None:
    (tree.root / "openimages" / HUMAN.format("train")).unlink()
    assert list(manifest(tree, splits=("val", "test")).splits) == ["val", "test"]
    with pytest.raises(C3Error, match="no split 'dev'; it has train, val, test"):
        manifest(tree, splits=("dev",))
    with pytest.raises(C3Error, match=r"not found: expected .*train-annotations.*; see: c3 .*catalog check openimages"):
        manifest(tree)


def first_line(name: str, line: str) -> Callable[[Path], None]:
    """Put a line below the header of a csv: it is line 2."""

    def change(folder: Path) -> None:
        header, *lines = (folder / name).read_text().splitlines(True)
        (folder / name).write_text("".join([header, line + "\n", *lines]))

    return change


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


GOOD = "00000000000000aa"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (first_line(HUMAN.format("train"), "../../etc/passwd,verification,/m/01red,1"),
         r"train-.*labels.csv line 2: an image id has 16 hexadecimal digits \(0-9, a-f\), found '../../etc/passwd'"),
        (first_line(HUMAN.format("test"), "00000000000000AA,verification,/m/01red,1"), "line 2: an image id has 16"),
        (first_line(HUMAN.format("test"), "00000000000000aa0,verification,/m/01red,1"), "line 2: an image id has 16"),
        (first_line(HUMAN.format("test"), ",verification,/m/01red,1"), "line 2: an image id has 16"),
        (first_line(HUMAN.format("test"), f"{GOOD},verification,/m/01red,0.5"),
         r"line 2: Confidence must be 0 or 1, found '0.5'"),
        (first_line(HUMAN.format("test"), f"{GOOD},verification,/m/01red"), "line 2: Confidence must be 0 or 1, found"),
        (first_line(HUMAN.format("test"), f"{GOOD},verification,/m/01red,yes"), "line 2: Confidence .* found 'yes'"),
        (first_line(HUMAN.format("test"), f"{GOOD},verification,/m/01red,1,1"), "line 2: expected 4 values, found 5"),
        (write(HUMAN.format("test"), "image,label\n"),
         "line 1: expected the header ImageID,Source,LabelName,Confidence, found image,label"),
        (write(HUMAN.format("test"), "ImageID,Source,LabelName,Confidence\n"), "has no rows below its header"),
        (write(HUMAN.format("test"), ""), "line 1: expected the header .* found nothing"),
        (write("classes-trainable.txt", "/m/01red\n\n/m/0boat\n/m/01red\n"), "line 4: '/m/01red' is already in line"),
        (write("classes-trainable.txt", "/m/01red\n/m/zzz\n"), "class-descriptions.csv has no line for /m/zzz"),
        (write("classes-trainable.txt", "/m/09bt\n"), "/m/09bt is also an unseen class"),
        (write("top_400_unseen.csv", "\ufeff1\r\n5"), "line 2: expected a position in unseen_.* 0 to 4, found '5'"),
        (write("top_400_unseen.csv", "1\n1"), "line 2: position 1 is repeated"),
        (write("class-descriptions.csv", "/m/01red,Red\n/m/01red,Red\n"), "line 2: /m/01red is repeated"),
        (write("class-descriptions.csv", "/m/01red\n"), "line 1: expected MID,name"),
        (write("unseen_labels.pkl", b"garbage"), "unseen_labels.pkl is"),
        (write("unseen_labels.pkl", pickle.dumps(print)), "is refused: it asks for builtins.print"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_their_line(tree: Tree, change: Callable[[Path], None], said: str) -> None:
    change(tree.root / "openimages")
    with pytest.raises(C3Error, match=said):
        manifest(tree)


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ("0.1,1.2,0.1,0.2", "line 2: a box needs 0 <= min < max <= 1, found XMin 0.1, XMax 1.2"),
        ("-0.1,0.2,0.1,0.2", "line 2: a box needs"),
        ("0.3,0.3,0.1,0.2", "line 2: a box needs .* XMin 0.3, XMax 0.3"),
        ("0.3,0.4,0.5,0.2", "line 2: a box needs"),
        ("nan,0.4,0.1,0.2", "line 2: XMin must be a number, found 'nan'"),
        ("0.3,wide,0.1,0.2", "line 2: XMax must be a number, found 'wide'"),
    ],
)
def test_bad_boxes_are_refused_with_their_line(tree: Tree, box: str, said: str) -> None:
    first_line(BOXES.format("test"), f"{GOOD},xclick,/m/01red,1,{box},0,0,0,0,0")(tree.root / "openimages")
    with pytest.raises(C3Error, match=said):
        manifest(tree, crops="boxes")


def test_counts_that_differ_from_the_official_ones_are_refused(tree: Tree) -> None:
    for name, said in (("test_labels", "test labels: expected 7"), ("seen", "classes-trainable.txt: seen: expected 7")):
        catalog = yaml.safe_load(tree.catalog.read_text())
        catalog["datasets"]["openimages"]["counts"] = {name: 7}
        tree.catalog.write_text(yaml.safe_dump(catalog))
        with pytest.raises(C3Error, match=said):
            manifest(tree)
