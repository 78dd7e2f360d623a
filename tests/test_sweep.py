"""c3 sweep: every combination is a run folder, done once; and the options that take many values."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.train.names import default_method
from c3.train.run import TrainOptions
from c3.train.run_folder import Run, list_runs
from c3.train.sweep import combinations, sweep
from click.testing import CliRunner, Result
from run_files import run_json


def c3(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def grid(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> list[object]:
    cache = make_cache()
    return ["sweep", "--cache", cache.path, "--runs", tmp_path / "runs", "--method", "c3", "--groups", 1, 2,
            "--lambda", 0, "0.5", "--epochs", 1, "--set", "batch_size=8", "--device", "cpu"]  # fmt: skip


def test_every_combination_is_a_measured_run_and_is_done_once(grid: list[object], tmp_path: Path) -> None:
    done = c3(*grid)
    assert done.exit_code == 0, done.output
    runs = list_runs(tmp_path / "runs")
    found = [(run.record.settings["groups"], run.record.settings["lambda_reg"]) for run in runs]
    assert found == [(1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5)]
    assert all(run.metrics and (run.path / "metrics-val.json").exists() for run in runs)
    table = done.stdout.splitlines()
    heads = [word for task in ("SEEN", "ZSL", "GZSL") for word in ("val", task, "mAP")]
    assert table[0].split() == ["groups", "lambda_reg", *heads, "run"]
    tasks = json.loads((runs[3].path / "metrics-val.json").read_text())["protocols"]["table"]["tasks"]
    shown = [f"{tasks[task]['mAP']:.2f}" for task in ("seen", "zsl", "gzsl")]
    assert table[4].split() == ["2", "0.5", *shown, str(runs[3].path)]
    assert table[5] == "val ZSL and GZSL mAP: reads labels of unseen classes, not for choosing settings."

    assert table[-1].endswith(f"and c3 report --runs {tmp_path / 'runs'} --figures 4 draws them.")

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/*")}
    assert c3(*grid, "--seeds", 0, 1).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list_runs(tmp_path / "runs")) == 8


def test_the_default_method_is_that_of_training(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    done = c3("sweep", "--cache", make_cache().path, "--runs", tmp_path / "runs", "--epochs", 1, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert [run.record.method for run in list_runs(tmp_path / "runs")] == [default_method("demo")] == ["c3-plus"]


def test_a_combination_that_fails_is_named_and_the_rest_goes_on(
    make_cache: Callable[..., FeatureCache], tmp_path: Path
) -> None:
    base = TrainOptions(make_cache().path, "c3", tmp_path / "runs", {"epochs": 1, "batch_size": 8}, device="cpu")
    done = sweep(base, combinations({"groups": (1, 0, 2)}), lambda run: run)
    assert [run.record.settings["groups"] for run in done.runs] == [1, 2]
    assert done.failures == (({"groups": 0}, "setting groups: expected at least 1, found 0"),)
    assert done.first_failure() == "groups 0: setting groups: expected at least 1, found 0"


def test_a_mistake_in_the_request_stops_the_sweep(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> None:
    base = TrainOptions(make_cache().path, "c3", tmp_path / "runs", {}, device="cpu")

    def never(run: Run) -> Run:
        raise AssertionError("nothing was to be trained")

    with pytest.raises(C3Error, match="Did you mean 'groups'"):
        sweep(base, combinations({"group": (1, 2)}), never)


def test_a_list_goes_with_every_combination_of_the_rest(
    make_cache: Callable[..., FeatureCache], tmp_path: Path
) -> None:
    listed = tmp_path / "settings.yaml"
    listed.write_text("- {groups: 2, lambda_reg: 0}\n- {groups: 1, lr: 1e-4}\n- {lr: 0.0001, groups: 1}\n")
    done = c3("sweep", "--cache", make_cache().path, "--runs", tmp_path / "runs", "--method", "c3", "--list", listed,
              "--seeds", 0, 1, "--epochs", 1, "--set", "batch_size=8", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    found = [tuple(run.record.settings[name] for name in ("groups", "lambda_reg", "lr", "seed"))
             for run in list_runs(tmp_path / "runs")]  # fmt: skip
    (_, _, lr, _), (_, regulariser, _, _) = found[0], found[2]  # of the recipe
    assert found == [(2, 0.0, lr, 0), (2, 0.0, lr, 1), (1, regulariser, 1e-4, 0), (1, regulariser, 1e-4, 1)]
    assert done.stdout.splitlines()[0].split()[:4] == ["groups", "lambda_reg", "seed", "lr"]
    assert done.stderr.count("is requested twice and trained once") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected entries such as `- {groups: 5, lr: 1e-4}`, found nothing"),
        ("groups: 5", "expected entries such as `- {groups: 5, lr: 1e-4}`, found dict"),
        ("- groups: 5\n  lr: [", "line 2 is not valid YAML"),
        ("- groups: 5\n- groups 7", "entry 2: expected names and values of settings, found 'groups 7'"),
        ("- groups: 5\n- group: 7", "entry 2: unknown setting of method c3 'group'. Did you mean 'groups'?"),
        ("- groups: 5\n- 7: 7", "entry 2: unknown setting of method c3 '7'"),
        ("- groups: [5, 7]", "entry 1: setting groups: expected one value, found [5, 7]"),
        ("- {groups: 5, lr:}", "entry 1: setting lr: expected one value, found None"),
        ("- {groups: 5, seed: 1}", "entry 1: seed is given on the command line too; give it in one place"),
    ],
)
def test_a_bad_list_is_one_line_with_the_entry(text: str, said: str, grid: list[object], tmp_path: Path) -> None:
    listed = tmp_path / "settings.yaml"
    listed.write_text(text)
    done = c3(*grid[:7], "--list", listed, "--seeds", 0)
    assert done.exit_code == 2
    assert done.stderr.startswith(f"c3: list {listed}")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_failures_end_with_exit_code_2_after_the_table(grid: list[object]) -> None:
    done = c3(*grid[:8], 1, 0, *grid[10:])
    assert done.exit_code == 2
    assert "2 of 4 failed" in done.stderr
    assert done.stdout.count("c3-tiny-s0") == 2


def test_many_values_follow_an_option_and_other_options_end_them(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps(run_json("run", status="training")))
    report = ["report", "--runs", tmp_path, "--published", "--format", "json", "--tables", 3]
    shown = c3(*report, 5)
    numbers = [table["title"].split()[1].rstrip(":") for table in json.loads(shown.stdout)]
    assert list(dict.fromkeys(numbers)) == ["3", "5"]
    repeated = c3(*report, "--tables", 5)
    assert repeated.stdout == shown.stdout
