"""The table door, word vectors and the catalog: what is read, and what is refused in one line."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from c3.common.catalog_file import read_catalog
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.catalog_check import check
from c3.extract.datasets.manifest import Manifest
from c3.extract.datasets.read import read_manifest


def manifest(root: Path) -> Manifest:
    return read_manifest(Catalog(root / "catalog.yaml").dataset("tiny"))


def test_a_table_becomes_a_manifest(table_dataset: Path) -> None:
    tiny = manifest(table_dataset)
    assert {name: len(split) for name, split in tiny.splits.items()} == {"train": 6, "val": 3, "test": 3}
    assert tiny.classes.names == ("blue", "dark red", "red")
    assert tiny.classes.seen.tolist() == [True, False, True]
    np.testing.assert_allclose(tiny.classes.vectors, [[0, 1, 0, 0], [0.5, 0, 0.5, 0], [1, 0, 0, 0]])
    train = tiny.splits["train"]
    assert train.path.tolist() == [f"{number:02d}.png" for number in range(6)]
    assert train.labels.dense(3, absent=-1).tolist() == [[-1, -1, 1], [1, -1, -1], [-1, 1, -1]] * 2


def test_the_order_of_the_file_does_not_matter(table_dataset: Path) -> None:
    before = manifest(table_dataset).digest()
    header, *lines = (table_dataset / "labels.csv").read_text().splitlines()
    random.Random(0).shuffle(lines)
    (table_dataset / "labels.csv").write_text("\n".join([header, *lines]))
    assert manifest(table_dataset).digest() == before
    (table_dataset / "labels.csv").write_text("\n".join([header, *lines]).replace("blue", "red", 1))
    assert manifest(table_dataset).digest() != before


def test_negatives_and_a_class_list_are_read(table_dataset: Path) -> None:
    (table_dataset / "labels.csv").write_text(
        "image_path,labels,split,negatives\n00.png,red|dark red,train,blue\n01.png,,train, red \n02.png,blue,test,\n"
    )
    (table_dataset / "classes.txt").write_text("red\nblue\ngreen\ndark red\n")
    catalog = (
        (table_dataset / "catalog.yaml")
        .read_text()
        .replace("labels: complete", "labels: verified, classes: classes.txt")
    )
    (table_dataset / "catalog.yaml").write_text(catalog)
    tiny = manifest(table_dataset)
    assert tiny.labelling == "verified"
    assert tiny.classes.names == ("red", "blue", "green", "dark red")
    assert tiny.splits["train"].labels.dense(4, absent=0).tolist() == [[1, -1, 0, 1], [-1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("image_path,tags,split\n", "missing labels"),
        ("image_path,labels,split\n", "no rows"),
        ("", "cannot be read as csv"),
        ("image_path,labels,split\n../x.png,red,train\n", "line 2: image_path"),
        ("image_path,labels,split\n/etc/x.png,red,train\n", "line 2: image_path"),
        ("image_path,labels,split\na\\x.png,red,train\n", "line 2: image_path"),
        (
            "image_path,labels,split\n00.png,red,train\n01.png,red,dev\n",
            "line 3: split must be one of train, val, test, found 'dev'",
        ),
        ("image_path,labels,split\n00.png,red,train\n00.png,red,test\n", "line 3: 00.png is already in line 2"),
        ("image_path,labels,split,negatives\n00.png,red,train,red\n", "both in labels and in negatives"),
        ("image_path,labels,split\n00.png,red|umbrella|zebra|dark red,train\n", "no vector in .*: umbrella, zebra"),
        ("image_path,labels,split\n00.png,red,train\n", "unseen classes that .*: dark red"),
        ('image_path,labels,split\n00.png,"red,train\n', "cannot be read as csv"),
    ],
)
def test_a_bad_table_is_refused_with_its_line(table_dataset: Path, content: str, said: str) -> None:
    (table_dataset / "labels.csv").write_text(content)
    with pytest.raises(C3Error, match=said):
        manifest(table_dataset)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2\n", "expected `version: 1`"),
        ("- a\n", "found a list"),
        ("version: 1\ndatasets: [\n", "line 3 is not valid YAML"),
        ("version: 1\ndataset: {}\n", "unknown section in catalog .*: 'dataset'. Did you mean 'datasets'"),
        ("version: 1\ndatasets: {x: 3}\n", "datasets.x: expected settings"),
    ],
)
def test_an_unreadable_catalog_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(C3Error, match=said):
        Catalog(tmp_path / "c.yaml")
    with pytest.raises(C3Error, match="cannot be read"):
        Catalog(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: table", "kind: tables", "no reader for kind 'tables'"),
        (
            "unseen: unseen.txt",
            "unsen: unseen.txt",
            r"unknown setting of datasets.tiny: 'unsen'. Did you mean 'unseen'",
        ),
        ("labels: complete", "labels: all", "datasets.tiny.labels: expected 'complete' or 'verified', found 'all'"),
        ("table: labels.csv, ", "", "datasets.tiny: the setting 'table' is missing"),
        ("labels.csv", "other.csv", "table file not found"),
        ("vectors: words", "vectors: glove", "unknown vectors 'glove'"),
        ("vectors.txt", "none.txt", "vectors words not found"),
        ("images: images", "images: photos", "images folder"),
    ],
)
def test_a_bad_catalog_entry_is_refused(table_dataset: Path, old: str, new: str, said: str) -> None:
    path = table_dataset / "catalog.yaml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(C3Error, match=said):
        manifest(table_dataset)


def test_own_entries_replace_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("version: 1\ndatasets: {demo: {kind: table, root: here}}\n")
    catalog = Catalog(tmp_path / "c.yaml")
    assert catalog.dataset("demo").root == tmp_path / "here"
    assert {"nuswide", "openimages"} <= set(catalog.datasets)
    with pytest.raises(C3Error, match="Did you mean 'demo'"):
        catalog.dataset("dmeo")


def test_check_names_the_missing_files_and_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("C3_DATA", str(tmp_path))
    found = check(None, "nuswide")
    assert not found.complete
    assert f"missing (from ImageList.zip of the NUS-WIDE page): {tmp_path}/nuswide/ImageList/TrainImagelist.txt" in str(
        found
    )


def test_the_built_in_catalog_is_whole() -> None:
    catalog = Catalog()
    for name in catalog.datasets:
        assert catalog.dataset(name).title
    for recipes in read_catalog().recipes.values():
        assert all(recipe["source"] for recipe in recipes.values())


def test_unknown_splits_and_limits(table_dataset: Path) -> None:
    tiny = manifest(table_dataset)
    assert {name: len(split) for name, split in tiny.select(limit=2).splits.items()} == {
        "train": 2,
        "val": 2,
        "test": 2,
    }
    assert list(tiny.select(["test"]).splits) == ["test"]
    with pytest.raises(C3Error, match="no split 'dev'"):
        tiny.select(["dev"])


def test_check_counts_a_table_and_ends_with_what_to_do(table_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = table_dataset / "catalog.yaml"
    found = check(own, "tiny")
    assert found.complete and found.next == f"c3 --catalog {own} extract --dataset tiny"
    assert "train images: 6" in str(found) and "seen classes: 2" in str(found)
    monkeypatch.chdir(table_dataset)  # where no demo was drawn
    assert "no file is needed" in str(check(None, "demo"))
    own.write_text(own.read_text().replace("vectors.txt", "elsewhere.txt"))
    without = check(own, "tiny")
    assert without.faults == (f"the word vectors {table_dataset / 'elsewhere.txt'} are missing",)
    assert "name other vectors" in without.next and "place" not in without.next
    own.write_text(own.read_text().replace("vectors: words, ", ""))  # extract would refuse it
    assert check(own, "tiny").faults == ("no word vectors",)


def test_the_next_command_can_be_pasted(table_dataset: Path) -> None:
    own = table_dataset / "my catalog.yaml"
    own.write_text((table_dataset / "catalog.yaml").read_text().replace("tiny:", "my photos:"))
    assert check(own, "my photos").next == f"c3 --catalog '{own}' extract --dataset 'my photos'"
