"""Run folders in odd states, and outputs in odd places: one line that helps, and nothing is lost."""

from __future__ import annotations

import errno
import fcntl
import shlex
from pathlib import Path

import pytest
from c3.common.errors import C3Error
from c3.train.run import TrainOptions, train
from c3.train.run_folder import METRICS, RECORD, WEIGHTS, claimed, open_run
from tagging_place import QUICK, SIZES, Placement, c3


def test_a_damaged_metrics_file_is_replaced_by_the_command_that_its_error_names(run_copy: Path) -> None:
    (run_copy / METRICS).write_text("{}")
    with pytest.raises(C3Error, match=r"metrics\.json has no schema.*measure it again: c3 ") as refused:
        open_run(run_copy)
    command = shlex.split(str(refused.value).partition("measure it again: c3 ")[2])
    assert c3(*command, "--resamples", 0, "--device", "cpu").exit_code == 0
    assert open_run(run_copy).metrics


def test_the_command_that_trains_a_run_again_makes_the_same_run(place: Placement, run_copy: Path) -> None:
    run = open_run(run_copy)
    command = shlex.split(run.train_with().removeprefix("c3 "))
    command[command.index("--runs") + 1] = str(place.runs["c3"].parent)
    done = c3(*command, "--device", "cpu")
    assert f"{place.runs['c3']} is trained already; nothing to do" in done.stderr
    (run_copy / WEIGHTS).unlink()
    refused = c3("evaluate", "--run", run_copy, "--device", "cpu").stderr
    assert "is missing or damaged (FileNotFoundError); train the run again: c3 train --cache" in refused
    assert refused.endswith(" --overwrite\n") and "--set groups=2" in refused


def test_settings_of_a_class_split_and_changed_ones_stand_once_in_the_command(run_copy: Path) -> None:
    record = (run_copy / RECORD).read_text()
    (run_copy / RECORD).write_text(record.replace('"epochs": 1,', '"epochs": 1, "hide_seed": 3,'))
    command = open_run(run_copy).train_with(groups=5)
    assert [command.count(f"--set {setting}") for setting in ("hide_seed=3", "groups=5", "groups=2")] == [1, 1, 0]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            ("evaluate", "--run", "{runs}"),
            "is not a run folder (it has no run.json); it holds 2 runs; name one, such as",
        ),
        (("evaluate", "--run", "{run}/run.json"), "(it has no run.json); give the folder itself: {run}"),
        (("report", "--runs", "{run}"), "{run} is a run, and --runs takes the folder that holds it: c3 report --runs"),
        (("evaluate", "--run", "{run}", "--resamples", "7"), "7 is not 0 (no intervals) or at least 100"),
        (("export", "{run}", "--safetensors", "{run}/weights.safetensors"), "is a file of a run, which would be lost"),
        (("export", "{run}", "--card", "{run}/run.json"), "is a file of a run, which would be lost"),
        (("export", "{run}", "--onnx", "{run}"), "--onnx {run} is a folder; give the name of a file"),
        (("export", "{run}", "--card", "{run}/no/card.md"), "cannot be written: the folder {run}/no does not exist"),
        (("export", "{run}", "--onnx", "m", "--safetensors", "m"), "--onnx and --safetensors name the same file"),
        (("report", "--runs", "{runs}", "--html", "{run}/metrics.json"), "is a file of a run, which would be lost"),
        (("report", "--runs", "{runs}", "--figures", "5", "--out", "{run}/run.json"), "run.json is a file, expected a"),
    ],
    ids=lambda value: "-".join(value[:1] + value[2:3]) if isinstance(value, tuple) else "",
)
def test_odd_paths_are_refused_before_any_work(place: Placement, command: tuple[str, ...], said: str) -> None:
    run = place.runs["c3"]
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    done = c3(*(word.format(run=run, runs=run.parent) for word in command))
    assert done.exit_code == 2, done.output
    assert said.format(run=run) in done.stderr
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_a_run_that_another_process_trains_is_left_to_it(place: Placement, tmp_path: Path) -> None:
    path = tmp_path / "run"
    with claimed(path), pytest.raises(C3Error, match="is being trained by another process; wait"), claimed(path):
        pass
    with claimed(path):
        assert [file.name for file in tmp_path.iterdir()] == [".run.lock"]
    assert list(tmp_path.iterdir()) == []
    options = TrainOptions(place.store, "c3", tmp_path, QUICK | SIZES["c3"], device="cpu")
    with claimed(tmp_path / place.runs["c3"].name), pytest.raises(C3Error, match="is being trained by another process"):
        train(options)


def test_a_file_system_without_locks_gets_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with claimed(tmp_path / "run"):
        assert "file system without locks" in caplog.text
    assert list(tmp_path.iterdir()) == []
