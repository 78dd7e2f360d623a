"""The names on the command line are those of the code behind them, and a wrong one is refused in one line."""

from __future__ import annotations

import pytest
from c3.cli import main
from c3.common.average_precision import TIES
from c3.common.catalog_file import read_catalog
from c3.evaluate import names as evaluation
from c3.evaluate.protocol import PROTOCOLS
from c3.evaluate.report.render import PAGES, WHOLE
from c3.train import names as training
from c3.train.models.objectives import OBJECTIVES
from c3.train.registry import METHODS
from click.testing import CliRunner


def test_names_are_those_of_the_code_behind_them() -> None:
    assert tuple(METHODS) == training.METHODS
    assert tuple(OBJECTIVES) == training.OBJECTIVES
    assert set(METHODS) >= {name for group in training.GROUPS.values() for name in group}
    assert tuple(PROTOCOLS) == evaluation.PROTOCOLS
    assert evaluation.TIES == TIES
    assert set(evaluation.FORMATS) == {*PAGES, *WHOLE}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--cache", "x.zarr", "--method", "biamm"), "unknown method 'biamm'. Did you mean 'biam'?"),
        (("train", "--cache", "x.zarr", "--method", "table2"), "Did you mean 'table5'?"),
        (("train", "--cache", "x.zarr", "--objective", "ranknets"), "Did you mean 'ranknet'?"),
        (("sweep", "--cache", "x.zarr", "--method", "table2"), "unknown method 'table2'."),
        (("finetune", "--dataset", "demo", "--method", "c33"), "unknown method 'c33'. Did you mean 'c3'?"),
        (("demo", "--method", "c33"), "unknown method 'c33'. Did you mean 'c3'?"),
        (("evaluate", "--run", "x", "--ties", "group"), "unknown rule of ties 'group'. Did you mean 'grouped'?"),
        (("evaluate", "--run", "x", "--protocol", "cocoa"), "unknown protocol 'cocoa'. Did you mean 'coco'?"),
        (("report", "--format", "latx"), "unknown report format 'latx'. Did you mean 'latex'?"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line_with_the_nearest(arguments: tuple[str, ...], said: str) -> None:
    shown = CliRunner().invoke(main, arguments)
    assert (shown.exit_code, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
    assert said in shown.stderr


def test_the_papers_data_sets_are_trained_with_the_papers_method() -> None:
    assert set(training.PAPER_DATASETS) <= set(read_catalog(None).datasets)
    assert {training.default_method(name) for name in training.PAPER_DATASETS} == {"c3"}
    assert training.default_method("holiday-photos") == "c3-plus"


def test_help_is_found_behind_an_option_of_many_values() -> None:
    shown = CliRunner().invoke(main, ["train", "--cache", "a.zarr", "-h"])
    assert shown.exit_code == 0 and "Train a method on a feature store" in shown.output
