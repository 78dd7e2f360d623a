"""Every method that a table of the paper shows has a recipe with a source for the data set of that table."""

from __future__ import annotations

from pathlib import Path

import pytest
from c3.common.catalog_file import read_catalog
from c3.train.names import ABLATED, GROUPS, METHODS
from c3.train.recipes import FALLBACK, Recipe, _found, resolve_recipe
from c3.train.registry import method_class
from c3.train.settings import Settings

MATRIX = [
    *((dataset, method) for dataset in ("nuswide", "openimages") for method in GROUPS["table1"]),
    *(("nuswide", method) for method in GROUPS["table3"]),
    *(("nuswide-81", method) for method in GROUPS["table5"]),
    *((dataset, method) for dataset in ("demo", "some data of mine") for method in METHODS),
]


def recipe_of(method: str, dataset: str, catalog: Path | None = None) -> Recipe[Settings]:
    return resolve_recipe(method, method_class(method).Options, dataset, {}, catalog)


@pytest.mark.parametrize(("dataset", "method"), dict.fromkeys(MATRIX), ids=lambda value: value.replace(" ", "-"))
def test_every_cell_of_every_table_has_a_recipe_with_a_source(dataset: str, method: str) -> None:
    named = dataset if dataset in read_catalog().recipes else FALLBACK
    source = recipe_of(method, dataset).source
    assert source.startswith(f"recipe {named}/{ABLATED.get(method, method)}")
    assert "no source given" not in source
    assert ("(some data of mine has none)" in source) == (named == FALLBACK)


@pytest.mark.parametrize("dataset", ["nuswide", "openimages", "demo", "some data of mine"])
@pytest.mark.parametrize("method", ABLATED)
def test_an_ablation_is_trained_by_the_recipe_of_the_whole(dataset: str, method: str) -> None:
    assert recipe_of(method, dataset).as_dict() == recipe_of("c3", dataset).as_dict()


def test_an_ablation_may_have_a_recipe_of_its_own(tmp_path: Path) -> None:
    own = tmp_path / "catalog.yaml"
    own.write_text("version: 1\nrecipes: {mine: {c3: {epochs: 3}, c3-a: {epochs: 2, source: here}}}\n")
    assert recipe_of("c3-a", "mine", own).loop.epochs == 2
    assert recipe_of("c3-b", "mine", own).loop.epochs == 3
    assert recipe_of("c3-b", "mine", own).source == "recipe mine/c3: no source given"


def test_a_method_without_any_recipe_says_so() -> None:
    assert _found({}, "lesa", "mine") == ({}, "", "no recipe for lesa on mine: the defaults of the settings")


def test_the_recipes_of_the_paper_drop_the_learning_rate_at_the_7th_epoch() -> None:
    for dataset, epochs in (("nuswide", 20), ("nuswide-81", 20), ("openimages", 7)):
        loop = recipe_of("c3", dataset).loop
        assert (loop.epochs, loop.lr, loop.schedule, loop.drop_epoch) == (epochs, 5e-5, "step", 6)


def test_the_multi_label_recipe_of_lesa_has_the_weight_of_its_script() -> None:
    assert recipe_of("lesa", "nuswide-81").as_dict()["lambda_dist"] == 1e-4
    assert recipe_of("lesa", "nuswide").as_dict()["lambda_dist"] == 0.1
