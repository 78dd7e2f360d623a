"""From the official files to a line of a table: extract, train, evaluate, report; and `c3 catalog check` on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from c3.cli import main
from c3.extract.store.cache import FeatureCache, Status
from click.testing import CliRunner, Result
from official_trees import Tree, write_nuswide, write_openimages

LEAKS = {"nuswide": {"boat": ["boats"]}, "openimages": {"Boats": ["Boat"], "Tree (/m/0tr2)": ["Tree (/m/0tree)"]}}


def c3(tree: Tree, *arguments: object) -> Result:
    return CliRunner().invoke(main, ["--catalog", str(tree.catalog), *map(str, arguments)])


@pytest.mark.parametrize(
    ("write", "dataset", "table", "counts"),
    [(write_nuswide, "nuswide", 1, (36, 20)), (write_openimages, "openimages", 2, (32, 8, 24))],
)
def test_the_walk_from_official_files_to_a_table(
    tmp_path: Path, write: Callable[[Path], Tree], dataset: str, table: int, counts: tuple[int, ...]
) -> None:
    tree = write(tmp_path)
    store, runs = tmp_path / "features.zarr", tmp_path / "runs"
    done = c3(tree, "extract", "--dataset", dataset, "--backbone", "squeezenet1_1", "--weights", "random:0",
              "--out", store, "--device", "cpu", "--batch-size", 8)  # fmt: skip
    assert done.exit_code == 0, done.output
    cache = FeatureCache.open(store)
    assert tuple(cache.rows(split) for split in cache.splits) == counts
    assert cache.notes.leaks == LEAKS[dataset]
    lost = 1 if dataset == "nuswide" else 3  # an image of every split of Open Images is not there
    assert f"{lost} missing" in done.stdout
    done = c3(tree, "train", "--cache", store, "--method", "fast0tag", "--runs", runs, "--epochs", 2, "--batch-size", 8,
              "--set", "hidden1=16", "--set", "hidden2=16", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    (run,) = runs.iterdir()
    assert c3(tree, "evaluate", "--run", run, "--device", "cpu").exit_code == 0
    metrics = json.loads((run / "metrics.json").read_text())
    lost_in_test = 0 if dataset == "nuswide" else 1
    assert metrics["rows"]["used"] == counts[-1] - lost_in_test
    for tasks in (results["tasks"] for results in metrics["protocols"].values()):
        assert 0 < tasks["zsl"]["mAP"] <= 100
        assert 0 < tasks["gzsl"]["mAP"] <= 100
    shown = c3(tree, "report", "--tables", table, "--runs", runs)
    assert shown.exit_code == 0, shown.output
    assert run.name in shown.stdout


def test_boxes_are_extracted_as_rows_of_their_images(tmp_path: Path) -> None:
    tree = write_openimages(tmp_path)
    done = c3(tree, "extract", "--dataset", "openimages", "--backbone", "squeezenet1_1", "--weights", "random:0",
              "--out", tmp_path / "boxes.zarr", "--device", "cpu", "--splits", "test", "--crops", "boxes")  # fmt: skip
    assert done.exit_code == 0, done.output
    cache = FeatureCache.open(tmp_path / "boxes.zarr")
    assert cache.origin.crops == "boxes"
    ids = cache.image_ids("test")
    maps = cache.read("test", "p16", 0, len(ids))
    lost = cache.status("test") == Status.MISSING
    assert len(set(ids[lost].tolist())) == 1
    assert (np.abs(maps[~lost]).max(axis=(1, 2, 3)) > 0).all()
    positives = cache.labels("test").dense(len(cache.classes), cache.absent_label) == 1
    assert (positives.sum(axis=1) == 1).all()


def declare(tree: Tree, dataset: str, **changes: object) -> None:
    catalog = yaml.safe_load(tree.catalog.read_text())
    catalog["datasets"][dataset] |= changes
    tree.catalog.write_text(yaml.safe_dump(catalog))


def test_check_says_what_is_there_what_is_missing_and_what_is_in_it(tmp_path: Path) -> None:
    tree = write_nuswide(tmp_path)
    tags = "NUS_WID_Tags/AllTags1k.txt"
    concepts = tree.root / "nuswide/ConceptsList/Concepts81.txt"
    files = [
        {"path": "ConceptsList/Concepts81.txt", "url": "http://h/c", "size": concepts.stat().st_size},
        {
            "path": tags,
            "source": "the page",
            "instead": ["NUS_WID_Tags/Train_Tags1k.dat", "NUS_WID_Tags/Test_Tags1k.dat"],
        },
        {"path": "Groundtruth", "source": "the page"},
        {"path": "urls.txt", "source": "the page", "optional": True},
    ]
    declare(tree, "nuswide", files=files, counts={"train_images": 36, "overlap": 3, "unseen": 6})
    found = c3(tree, "catalog", "check", "nuswide")
    assert found.exit_code == 0, found.output
    for part in ("ok       train images: 36, as stated officially", "ok       overlap: 3, as stated officially",
                 "ok       label files: 12", f"ok       {tree.root / 'nuswide' / tags}",
                 f"not there, optional (from the page): {tree.root / 'nuswide/urls.txt'}",
                 "  13 of 13 classes have a vector"):  # fmt: skip
        assert part in found.stdout

    (tree.root / "nuswide" / tags).unlink()  # the two other files serve as well
    found = c3(tree, "catalog", "check", "nuswide")
    assert found.exit_code == 0
    assert "ok (instead: NUS_WID_Tags/Train_Tags1k.dat, NUS_WID_Tags/Test_Tags1k.dat)" in found.stdout

    declare(tree, "nuswide", counts={"overlap": 75})
    found = c3(tree, "catalog", "check", "nuswide")
    assert found.exit_code == 2
    assert "wrong    overlap: 3, expected 75" in found.stdout
    declare(tree, "nuswide", counts={"train_images": 40})
    found = c3(tree, "catalog", "check", "nuswide")
    assert found.exit_code == 2
    assert "train images: expected 40 (the official count), found 36" in found.stdout
    concepts.write_text("boat\n")
    (tree.root / "nuswide/NUS_WID_Tags/Test_Tags1k.dat").unlink()
    found = c3(tree, "catalog", "check", "nuswide")
    assert "5 bytes, expected" in found.stdout
    assert "missing (from the page; or in its place NUS_WID_Tags/Train_Tags1k.dat" in found.stdout
    concepts.unlink()
    assert "missing (from http://h/c, " in c3(tree, "catalog", "check", "nuswide").stdout
    assert "missing or not as expected" in c3(tree, "catalog", "check", "nuswide").stderr


def test_check_compares_checksums_and_counts_labels(tmp_path: Path) -> None:
    tree = write_openimages(tmp_path)
    (tree.root / "openimages/test-images-with-rotation.csv").write_text("ImageID\n00000000000000aa\n")
    declare(tree, "openimages", counts={"test_images": 1, "unseen": 3, "seen": 6},
            files=[{"path": "classes-trainable.txt", "source": "the page", "sha256": "0" * 64}])  # fmt: skip
    found = c3(tree, "catalog", "check", "openimages")
    assert found.exit_code == 2
    assert "expected 0000000000000000... (from the page):" in found.stdout
    declare(tree, "openimages", files=[{"path": "images", "source": "the page"}])
    found = c3(tree, "catalog", "check", "openimages")
    assert found.exit_code == 0, found.output
    assert "ok       test images: 1, as stated officially" in found.stdout
    assert "Tree (/m/0tree) = Tree (/m/0tr2)" in found.stdout
    (tree.root / "vectors.txt").unlink()
    found = c3(tree, "catalog", "check", "openimages")
    assert found.exit_code == 2
    assert "vectors\n  missing: " in found.stdout and "word vectors" in found.stderr


def test_bad_entries_of_the_list_of_files_are_refused(tmp_path: Path) -> None:
    tree = write_nuswide(tmp_path, 4, 4)
    for files, said in (
        ([{"path": "a", "adress": "b"}], "unknown setting of datasets.nuswide.files.0: 'adress'"),
        ([{"url": "b"}], "'path' is missing"),
    ):
        declare(tree, "nuswide", files=files)
        found = c3(tree, "catalog", "check", "nuswide")
        assert found.exit_code == 2
        assert said in found.stderr
