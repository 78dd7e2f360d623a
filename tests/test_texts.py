"""Columns of texts: what they hold, how they are read, and how little they take."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from c3.extract.catalog.catalog import Catalog
from c3.extract.datasets.read import ReadOptions, read_manifest
from c3.extract.store.tables import Rows, SparseLabels
from c3.extract.store.texts import TEXT, Texts
from official_trees import write_openimages

IDS = ["0a", "1b", "1c", "ü"]


def coded() -> Texts:
    return Texts.of(IDS).affixed(["train_0/", "train_1/"], np.array([0, 1, 1, 1], np.uint8), ".jpg")


def test_a_coded_column_reads_as_the_whole_texts() -> None:
    texts, plain = coded(), [f"train_{min(row, 1)}/{name}.jpg" for row, name in enumerate(IDS)]
    assert texts.tolist() == list(texts) == np.asarray(texts).tolist() == plain
    assert (texts[0], texts[-1]) == (plain[0], plain[-1])
    assert texts[1:3].tolist() == plain[1:3] and texts[np.array([3, 0])].tolist() == [plain[3], plain[0]]
    assert [block.tolist() for block in texts.blocks(3)] == [plain[:3], plain[3:]]
    assert (texts == plain[1]).tolist() == [False, True, False, False] == (~(texts != plain[1])).tolist()
    assert texts[:].dtype == TEXT


@pytest.mark.parametrize("rows", [[3, 0, 0, 2], [], [1] * 40], ids=["any order", "none", "many"])
def test_taken_and_joined_rows_are_those_of_the_whole_texts(rows: list[int]) -> None:
    whole = np.asarray(coded())
    taken = coded().take(np.array(rows, np.int64))
    assert taken.tolist() == whole[rows].tolist()
    assert Texts.join([coded(), taken]).tolist() == [*whole.tolist(), *whole[rows].tolist()]


def test_a_mask_takes_the_rows_that_it_names() -> None:
    many = Texts.of(np.char.mod("%016x", np.arange(20)))
    for count in (1, 15):  # few texts are copied, many are coded
        mask = np.arange(20) < count
        assert many.take(mask).tolist() == np.asarray(many)[mask].tolist()


def test_a_few_rows_do_not_keep_the_others() -> None:
    many = Texts.of(np.char.mod("%016x", np.arange(1000)))
    assert len(many.take(np.arange(10)).parts[0][0]) == 10
    crops = many.take(np.repeat(np.arange(1000), 5))
    assert crops.parts[0][0] is many.parts[0][0]  # five crops of an image share its text


def test_bytes_are_read_as_text() -> None:
    texts = Texts(((np.array([b"0a", b"1b"]), None),))
    assert texts.tolist() == ["0a", "1b"] and texts[1] == "1b" and texts[:].dtype == TEXT


def test_rows_take_arrays_of_text() -> None:
    labels = SparseLabels.from_lists([([0], [])] * 2)
    rows = Rows(np.array(["a", "b"]), np.zeros((2, 4), np.float32), labels, np.array(["a.png", "b.png"]))
    assert rows.path.tolist() == ["a.png", "b.png"] and rows.take(np.array([1])).image_id.tolist() == ["b"]


def test_an_image_of_open_images_takes_its_id_and_a_byte(tmp_path: Path) -> None:
    """16 bytes of hexadecimal digits once, the number of a folder, and no corner of a crop."""
    tree = write_openimages(tmp_path)
    rows = read_manifest(Catalog(tree.catalog).dataset("openimages"), ReadOptions()).splits["train"]
    folder, name, ending = rows.path.parts
    assert name[0] is rows.image_id.parts[0][0] and name[0].dtype == "S16"
    assert folder[1].itemsize == 1 and ending[1].strides == (0,) and rows.crop.strides[0] == 0
