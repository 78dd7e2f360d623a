"""NUS-WIDE from a tree in the official layout: rows, labels by an independent reader, traps and refusals."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.datasets.manifest import Manifest, ReadOptions
from c3.extract.datasets.read import read_manifest
from official_trees import Tree, labels_of, write_nuswide


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return write_nuswide(tmp_path)


def manifest(tree: Tree, name: str = "nuswide", options: ReadOptions = ReadOptions()) -> Manifest:
    return read_manifest(Catalog(tree.catalog).dataset(name), options)


def setting(tree: Tree, **changes: object) -> None:
    catalog = yaml.safe_load(tree.catalog.read_text())
    catalog["datasets"]["nuswide"] |= changes
    tree.catalog.write_text(yaml.safe_dump(catalog))


def test_rows_classes_and_labels_are_as_the_files_say(tree: Tree) -> None:
    nus = manifest(tree)
    assert {name: len(split) for name, split in nus.splits.items()} == {"train": 36, "test": 20}
    # tags without the overlap, in the order of TagList1k, then the concepts in theirs
    assert nus.classes.names == ("red", "boats", "night", "blue", "dark", "ice", "interestingness",
                                 "boat", "cat", "dog", "green", "tree", "sky")  # fmt: skip
    assert nus.classes.seen.tolist() == [True] * 7 + [False] * 6
    for name, split in nus.splits.items():
        assert split.image_id.tolist() == sorted(split.image_id.tolist())
        assert labels_of(split, nus.classes.names) == tree.truth[name]
    assert nus.labelling == "complete"
    assert (nus.root / nus.splits["test"].path[0]).is_file()


def test_a_thousand_random_pairs_equal_those_of_a_slow_reader(tree: Tree) -> None:
    """Read single characters of the official files, by line and column number, for random (image, class) pairs."""
    nus, folder, rng = manifest(tree), tree.root / "nuswide", random.Random(0)
    tags = (folder / "NUS_WID_Tags/TagList1k.txt").read_bytes().decode("utf-8-sig").split()
    lists = {s: (folder / f"ImageList/{s}Imagelist.txt").read_text().split() for s in ("Train", "Test")}
    for _ in range(1000):
        name, part = rng.choice([("train", "Train"), ("test", "Test")])
        split = nus.splits[name]
        row, column = rng.randrange(len(split)), rng.randrange(len(nus.classes))
        line = lists[part].index(split.image_id[row].replace("/", "\\"))
        class_name = nus.classes.names[column]
        if nus.classes.seen[column]:
            text = (folder / f"NUS_WID_Tags/{part}_Tags1k.dat").read_text().splitlines()[line]
            expected = text.split("\t")[tags.index(class_name)]
        else:
            path = folder / f"Groundtruth/TrainTestLabels/Labels_{class_name}_{part}.txt"
            expected = path.read_text().splitlines()[line]
        dense = split.labels.take(np.array([row])).dense(len(nus.classes), absent=-1)
        assert dense[0, column] == (1 if expected == "1" else -1)


def test_eighty_one_human_labels_in_train_and_test(tree: Tree) -> None:
    nus = manifest(tree, "nuswide-81")
    assert nus.classes.names == ("boat", "cat", "dog", "green", "tree", "sky")
    assert nus.classes.seen.all()
    for name, split in nus.splits.items():
        human = {pair: value for pair, value in tree.truth[name].items() if pair[1] in nus.classes.names}
        assert labels_of(split, nus.classes.names) == human


@pytest.mark.parametrize("absent", ["AllTags1k.txt", "Train_Tags1k.dat", "TrainTestLabels", "AllLabels"])
def test_either_form_of_the_label_files_gives_the_same_manifest(tree: Tree, absent: str) -> None:
    before = manifest(tree).digest()
    (path,) = (tree.root / "nuswide").rglob(absent)
    path.rename(path.with_name("elsewhere"))
    assert manifest(tree).digest() == before


def shuffle_lines(path: Path, order: list[int]) -> None:
    end = "\r\n" if b"\r\n" in path.read_bytes() else "\n"
    lines = path.read_bytes().decode("utf-8-sig").split(end)[:-1]
    path.write_bytes((end.join(lines[i] for i in order) + end).encode())


def test_the_order_of_lines_and_files_does_not_matter(tree: Tree) -> None:
    before, folder, rng = manifest(tree).digest(), tree.root / "nuswide", random.Random(1)
    for part, count in (("Train", 36), ("Test", 20), ("", 56)):
        order = rng.sample(range(count), count)
        tags = folder / "NUS_WID_Tags" / (f"{part}_Tags1k.dat" if part else "AllTags1k.txt")
        labels = (folder / "Groundtruth" / ("TrainTestLabels" if part else "AllLabels")).glob(f"Labels_*{part}.txt")
        for path in (folder / f"ImageList/{part}Imagelist.txt", tags, *labels):
            shuffle_lines(path, order)
    for path in sorted((folder / "Flickr").rglob("*.jpg"), reverse=True):  # another directory order
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    assert manifest(tree).digest() == before


def test_validation_images_are_taken_from_train(tree: Tree) -> None:
    whole = set(manifest(tree).splits["train"].image_id.tolist())
    setting(tree, validation=10)
    nus = manifest(tree)
    train, val = (set(nus.splits[name].image_id.tolist()) for name in ("train", "val"))
    assert (len(train), len(val)) == (26, 10)
    assert train | val == whole
    names = nus.classes.names
    assert labels_of(nus.splits["train"], names) | labels_of(nus.splits["val"], names) == tree.truth["train"]
    setting(tree, validation=36)
    with pytest.raises(C3Error, match="validation must be less than the 36 images of train, found 36"):
        manifest(tree)


def test_near_duplicates_are_named_for_the_evaluator(tree: Tree) -> None:
    assert manifest(tree).notes.leaks == {"boat": ["boats"]}
    assert manifest(tree, "nuswide-81").notes.leaks is None


def replace(name: str, old: str, new: str, count: int = 1) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, count).encode())

    return change


def drop_last_line(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text("".join((folder / name).read_text().splitlines(True)[:-1]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_last_line("Groundtruth/TrainTestLabels/Labels_cat_Train.txt"),
         r"Labels_cat_Train.txt has 35 lines, expected 36, one for every image of TrainImagelist.txt"),
        (drop_last_line("NUS_WID_Tags/AllTags1k.txt"), "AllTags1k.txt has 55 lines, expected 56"),
        (drop_last_line("ImageList/Imagelist.txt"), "Imagelist.txt has 55 images, TrainImagelist.txt and .* 56"),
        (replace("ImageList/TestImagelist.txt", "zoo\\", "..\\zoo\\"), r"TestImagelist.txt line \d+: expected a path"),
        (replace("ImageList/TestImagelist.txt", "zoo\\", "/etc/"), r"TestImagelist.txt line \d+: expected a path"),
        (replace("ImageList/TestImagelist.txt", "zoo\\", "C:\\zoo\\"), r"TestImagelist.txt line \d+: expected a path"),
        (replace("ImageList/TestImagelist.txt", "\r\n", "\r\nactor\\0000_2124494179.jpg\r\n"),
         "actor/0000_2124494179.jpg is also an image of TrainImagelist.txt"),
        (replace("ImageList/TrainImagelist.txt", "\r\n", "\r\nactor\\0000_2124494179.jpg\r\n"),
         "TrainImagelist.txt line 2: 'actor/0000_2124494179.jpg' is already in line 1"),
        (replace("NUS_WID_Tags/TagList1k.txt", "night", "red"), "TagList1k.txt line 4: 'red' is already in line"),
        (replace("Groundtruth/TrainTestLabels/Labels_boat_Test.txt", "0", "2"), r"boat_Test.txt line \d+: .* '2'"),
        (replace("NUS_WID_Tags/AllTags1k.txt", "\t", "\t1\t"), "AllTags1k.txt line 1: expected 10 values .* found 11"),
        (replace("NUS_WID_Tags/AllTags1k.txt", "\t", "\t\t"), "AllTags1k.txt line 1: expected values separated by one"),
        (replace("Groundtruth/AllLabels/Labels_dog.txt", "1", "0"), "disagree on 1 images of .*out of order"),
        (lambda folder: (folder / "Groundtruth/TrainTestLabels/Labels_dog_Test.txt").unlink(),
         "label file not found: .*Labels_dog_Test.txt; see: c3 .*catalog check nuswide"),
        (lambda folder: (folder / "Groundtruth").rename(folder / "gt"), "neither TrainTestLabels nor AllLabels"),
        (lambda folder: (folder / "ConceptsList/Concepts81.txt").write_bytes(b"\xe9"), "not a text file in UTF-8"),
        (lambda folder: (folder / "ConceptsList/Concepts81.txt").write_bytes(b"\xff\xfe"), "Concepts81.txt is empty"),
        (lambda folder: (folder / "NUS_WID_Tags/AllTags1k.txt").write_bytes(b""), "AllTags1k.txt is empty"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_their_line(tree: Tree, change: Callable[[Path], None], said: str) -> None:
    change(tree.root / "nuswide")
    with pytest.raises(C3Error, match=said):
        manifest(tree)


def test_a_count_that_differs_from_the_official_one_is_refused(tree: Tree) -> None:
    setting(tree, counts={"train_images": 161789})
    with pytest.raises(C3Error, match=r"train images: expected 161,789 \(the official count\), found 36"):
        manifest(tree)
