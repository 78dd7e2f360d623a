"""c3 sweep: every combination is a run folder, done once; and the options that take many values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from c3.cli import main
from c3.errors import C3Error
from c3.extract.cache import FeatureCache
from c3.train.run import TrainOptions
from c3.train.runs import Run, list_runs
from c3.train.sweep import combinations, sweep
from click.testing import CliRunner, Result


def c3(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def grid(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> list[object]:
    cache = make_cache()
    return ["sweep", "--cache", cache.path, "--runs", tmp_path / "runs", "--groups", 1, 2, "--lambda", 0, "0.5",
            "--epochs", 1, "--set", "batch_size=8", "--device", "cpu"]  # fmt: skip


def test_every_combination_is_a_measured_run_and_is_done_once(grid, tmp_path):
    done = c3(*grid)
    assert done.exit_code == 0, done.output
    runs = list_runs(tmp_path / "runs")
    found = [(run.record["config"]["groups"], run.record["config"]["lambda_reg"]) for run in runs]
    assert found == [(1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5)]
    assert all(run.metrics and (run.path / "metrics-val.json").exists() for run in runs)
    table = done.stdout.splitlines()
    assert table[0].split() == ["groups", "lambda_reg", "val", "ZSL", "mAP", "val", "GZSL", "mAP", "run"]
    val = json.loads((runs[3].path / "metrics-val.json").read_text())["protocols"]["table"]["tasks"]["zsl"]["mAP"]
    assert table[4].split() == ["2", "0.5", f"{val:.2f}", *table[4].split()[3:4], str(runs[3].path)]

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*")}
    assert c3(*grid, "--seeds", 0, 1).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list_runs(tmp_path / "runs")) == 8


def test_a_combination_that_fails_is_named_and_the_rest_goes_on(make_cache, tmp_path):
    base = TrainOptions(make_cache().path, "c3", tmp_path / "runs", {"epochs": 1, "batch_size": 8}, device="cpu")
    done = sweep(base, combinations({"groups": (1, 0, 2)}), lambda run: run)
    assert [run.record["config"]["groups"] for run in done.runs] == [1, 2]
    assert done.failures == (({"groups": 0}, "setting groups: expected at least 1, found 0"),)
    assert done.first_failure() == "groups 0: setting groups: expected at least 1, found 0"


def test_a_mistake_in_the_request_stops_the_sweep(make_cache, tmp_path):
    base = TrainOptions(make_cache().path, "c3", tmp_path / "runs", {}, device="cpu")

    def never(run: Run) -> Run:
        raise AssertionError("nothing was to be trained")

    with pytest.raises(C3Error, match="Did you mean 'groups'"):
        sweep(base, combinations({"group": (1, 2)}), never)


def test_failures_end_with_exit_code_2_after_the_table(grid):
    done = c3(*grid[:6], 1, 0, *grid[8:])
    assert done.exit_code == 2
    assert "2 of 4 failed" in done.stderr
    assert done.stdout.count("c3-tiny-s0") == 2


def test_many_values_follow_an_option_and_other_options_end_them(tmp_path):
    shown = c3("report", "--runs", tmp_path / "none", "--tables", 3, 5, "--format", "json")
    titles = [table["title"] for table in json.loads(shown.stdout)]
    assert [title.split(":")[0] for title in titles] == ["Table 3", "Table 5"]
    repeated = c3("report", "--runs", tmp_path / "none", "--tables", 3, "--tables", 5, "--format", "json")
    assert repeated.stdout == shown.stdout
