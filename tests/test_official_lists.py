"""The real class lists, pickles and vectors, where they lie beside the checkout: every count that is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from c3.common.safe_pickle import load_pickle
from c3.extract.catalog.catalog import Catalog
from c3.extract.catalog.specs import DatasetSpec, VectorSpec
from c3.extract.catalog_check import sha256
from c3.extract.datasets.nuswide import nuswide_classes
from c3.extract.datasets.openimages_classes import read_classes
from c3.extract.store.tables import Classes
from c3.extract.words.class_vectors import class_vectors
from c3.extract.words.near_duplicates import near_duplicates

REAL = Path(__file__).resolve().parents[2] / "shared/real/official"
pytestmark = pytest.mark.skipif(not REAL.exists(), reason="needs the official lists beside the checkout")
GLOVE = "NUS_WIDE_pretrained_w2v_glove-wiki-gigaword-300"


@pytest.fixture
def nuswide(tmp_path: Path) -> DatasetSpec:
    """The official lists in the official folders."""
    for folder, name in (("ConceptsList", "Concepts81.txt"), ("NUS_WID_Tags", "TagList1k.txt"), (".", GLOVE)):
        (tmp_path / "nuswide" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "nuswide" / folder / name).symlink_to(REAL / "nuswide" / name)
    return built_in(tmp_path, "nuswide")


def built_in(root: Path, name: str, folder: Path | None = None) -> DatasetSpec:
    """The built-in entry with its official counts, at another place."""
    catalog = yaml.safe_load(Catalog().dataset(name).catalog.read_text())
    entry = catalog["datasets"][name] | {"root": str(folder or root / name)}
    (root / "catalog.yaml").write_text(yaml.safe_dump({"version": 1, "datasets": {name: entry}}))
    return Catalog(root / "catalog.yaml").dataset(name)


def lesa_vectors(nuswide: DatasetSpec) -> VectorSpec:
    names = ("NUS_WID_Tags/TagList1k.txt", "ConceptsList/Concepts81.txt")
    return VectorSpec(
        name="lesa", kind="pickle", path=nuswide.root / GLOVE, names=tuple(nuswide.root / name for name in names)
    )


def test_nus_wide_has_925_seen_and_81_unseen_classes(nuswide: DatasetSpec) -> None:
    classes = nuswide_classes(nuswide)
    assert (classes.seen.sum(), (~classes.seen).sum()) == (925, 81)
    tags = (REAL / "nuswide/TagList1k.txt").read_text().split()
    concepts = (REAL / "nuswide/Concepts81.txt").read_text().split()
    assert len(tags) - 925 == 75
    assert [concept for concept in concepts if concept not in tags] == [
        "computer", "fire", "map", "swimmers", "tattoo", "whales",
    ]  # fmt: skip
    assert list(classes.names) == [tag for tag in tags if tag not in concepts] + concepts


def test_the_glove_pickle_of_lesa_joins_by_name(nuswide: DatasetSpec) -> None:
    classes = nuswide_classes(nuswide)
    vectors, coverage = class_vectors(classes.names, lesa_vectors(nuswide))
    assert vectors.shape == (1006, 300)
    assert coverage.whole == 1006
    assert ("interestingness", "interesting") in coverage.identical or (
        "interesting", "interestingness") in coverage.identical  # fmt: skip
    seen, unseen = load_pickle(REAL / "nuswide" / GLOVE)
    tags = (REAL / "nuswide/TagList1k.txt").read_text().split()
    for c in range(0, 925, 37):
        np.testing.assert_array_equal(vectors[c], seen[tags.index(classes.names[c])])
    np.testing.assert_array_equal(vectors[925:], unseen)


def test_near_duplicates_of_the_unseen_concepts_are_named(nuswide: DatasetSpec) -> None:
    classes = nuswide_classes(nuswide)
    vectors, _ = class_vectors(classes.names, lesa_vectors(nuswide))
    leaks = near_duplicates(Classes(classes.names, classes.seen, vectors), nuswide.leak_cosine or 0)
    for unseen, seen in (("boats", "boat"), ("plants", "plant"), ("tree", "trees"), ("animal", "animals"),
                         ("horses", "horse"), ("buildings", "building"), ("dog", "dogs"), ("cars", "car"),
                         ("birds", "bird"), ("plane", "airplane"), ("soccer", "football")):  # fmt: skip
        assert seen in leaks[unseen], unseen
    assert len(leaks) == 36
    assert not set(leaks) & set(np.array(classes.names)[classes.seen].tolist())


def test_open_images_has_7186_seen_and_400_unseen_classes(tmp_path: Path) -> None:
    classes = read_classes(built_in(tmp_path, "openimages", REAL / "openimages"))
    assert (len(classes.seen), len(classes.unseen), classes.test_only, classes.described) == (7186, 400, 2594, 19995)
    assert list(classes.seen) == (REAL / "openimages/classes-trainable.txt").read_text().split()
    assert len(set(classes.names)) == 7586
    plain = [name.split(" (/m/")[0] for name in classes.names]
    assert {"lamborghini", "snowshoe"} <= {name.lower() for name in plain[:7186]} & {n.lower() for n in plain[7186:]}
    test_only = load_pickle(REAL / "openimages/unseen_labels.pkl").tolist()
    assert test_only == sorted(test_only)
    first = [test_only.index(mid) for mid in classes.unseen[:4]]
    assert first == [991, 1039, 120, 1533]
    assert plain[7186:7190] == ["Fauna", "Flora", "Exercise", "Dirt track racing"]


@pytest.mark.parametrize("name", ["nuswide", "openimages"])
def test_the_checksums_in_the_catalog_are_those_of_the_real_files(name: str) -> None:
    known = [file for file in Catalog().dataset(name).files if file.sha256]
    assert known
    for file in known:
        path = REAL / name / Path(file.path).name
        assert (path.stat().st_size, sha256(path)) == (file.size, file.sha256)
