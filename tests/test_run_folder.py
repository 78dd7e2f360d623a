"""Contract 2: the files of a run as types. What was written reads back, older files are read, others are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from c3.common.errors import C3Error
from c3.evaluate.report.run import report
from c3.train.run_folder import (
    METRICS_SCHEMA,
    SCHEMA,
    ChosenEpoch,
    ClassResult,
    LogLine,
    Run,
    Timings,
    TunedFrom,
    open_run,
    read_log,
    read_per_class,
    read_thresholds,
    write_json,
    write_per_class,
    write_record,
)
from run_files import metrics_json, run_json

Opened = Callable[[dict[str, Any]], Run]

# run.json of a demo run, as c3 0.1.0 wrote it in schema 2, with its settings cut short
SCHEMA_2: dict[str, Any] = {
    "schema": 2, "id": "c3-demo-s0-f20a14d9", "method": "c3", "status": "finished",
    "created": "2026-11-25T18:02:33.130671+00:00",
    "config": {"epochs": 12, "lr": 0.002, "compile": False, "vectors": "l2", "seed": 0, "groups": 7},
    "recipe": "recipe demo/c3: ours, not tuned; overridden: seed=0",
    "cache": {
        "path": "/data/features.zarr", "digest": "49e43ec1ef00a6c9", "dataset": "demo", "backbone": "squeezenet1_1",
        "weights": "random:0", "weights_asked": "random:0", "weights_sha256": "fb2f", "precision": "fp32",
        "crops": "whole", "labelling": "complete", "splits": {"train": 1200, "val": 200, "test": 400},
        "request": {"dataset": "demo", "catalog": None, "splits": []},
    },
    "inputs": {"channels": {"p4": 128, "p8": 256, "p16": 512}, "d_w": 64, "classes": 54, "regions": 0, "vector": 0},
    "rows": 1200, "parameters": 1741304, "zero_shot": True, "reads": ["p4", "p8", "p16"], "gflops": 0.17658368,
    "device": "cpu", "ranks": 1, "versions": {"python": "3.11.7"},
    "timings": {"seconds": 42.6, "wait_share": 0.001, "rows_per_s": 337.8},
}  # fmt: skip


@pytest.fixture
def opened(tmp_path: Path) -> Opened:
    def make(content: dict[str, Any]) -> Run:
        (tmp_path / "run.json").write_text(json.dumps(content))
        return open_run(tmp_path)

    return make


def without(content: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}


def test_a_run_of_schema_2_reads_as_it_was_written(opened: Opened) -> None:
    record = opened(SCHEMA_2).record
    inputs = without(SCHEMA_2["inputs"], "vector") | {"global_vector": 0}
    cache = SCHEMA_2["cache"] | {"tuned": False}
    assert record.record() == SCHEMA_2 | {"schema": SCHEMA, "inputs": inputs, "cache": cache}
    assert [type(record.settings[name]) for name in ("epochs", "lr", "compile")] == [int, float, bool]
    assert (record.seed, record.vectors, record.number("lr")) == (0, "l2", 0.002)
    with pytest.raises(C3Error, match=r"setting lambda_reg: expected a number in run\.json, found None"):
        record.number("lambda_reg")


def test_what_is_written_reads_back(opened: Opened, tmp_path: Path) -> None:
    record = replace(
        opened(SCHEMA_2).record,
        tuned_from=TunedFrom("other", "ab12", "49e4", backbone_parameters=7, extract="c3 extract"),
        validation=ChosenEpoch(0.25, 0.5, 1),
        timings=Timings(1.0, 2.0, 0.5),
    )
    for one in (
        record,
        replace(record, validation=None),
        replace(record, status="training", timings=None),
        replace(record, features=replace(record.features, tuned=True, request=None)),
        replace(record, features=replace(record.features, request=None, request_recorded=False)),
    ):
        write_record(tmp_path, one)
        assert open_run(tmp_path).record == one


def test_the_optional_vector_of_a_picture_has_its_name_of_today(opened: Opened) -> None:
    inputs = SCHEMA_2["inputs"] | {"vector": 512}
    record = opened(SCHEMA_2 | {"inputs": inputs, "reads": ["p16", "global"]}).record
    assert record.inputs.global_vector == 512
    assert record.inputs.names == ("p4", "p8", "p16", "global")
    assert record.reads == ("p16", "global")


def test_older_runs_say_behind_the_name_of_the_weights_that_they_tuned_them(opened: Opened) -> None:
    cache = SCHEMA_2["cache"] | {"weights": "imagenet, tuned end to end"}
    features = opened(SCHEMA_2 | {"cache": cache}).record.features
    assert (features.weights, features.tuned) == ("imagenet", True)
    assert features.weights_title == "imagenet, tuned end to end"
    assert replace(features, tuned=False).weights_title == "imagenet"


def test_a_run_of_schema_1_is_read_and_reported(tmp_path: Path) -> None:
    folder = tmp_path / "fast0tag-demo-s0-00000000"
    folder.mkdir()
    later = ("weights_asked", "weights_sha256", "precision", "crops", "request")
    content = without(SCHEMA_2, "zero_shot", "reads", "ranks") | {
        "schema": 1, "id": folder.name, "method": "fast0tag", "cache": without(SCHEMA_2["cache"], *later),
        "inputs": {"channels": {"p8": 256, "p16": 512}, "d_w": 64},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(content))
    record = open_run(folder).record
    assert (record.zero_shot, record.reads, record.ranks) == (True, ("p8", "p16"), 1)
    assert (record.features.weights_asked, record.features.weights_sha256) == ("random:0", None)
    assert not record.features.request_recorded
    assert f"Not counted: {folder.name}: evaluation failed" in report((1,), tmp_path, "markdown")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(
            lambda c: c | {"schema": 99}, "has schema 99, this c3 reads schema 3; install a newer c3", id="new"
        ),
        pytest.param(lambda c: c | {"schema": "2"}, "has schema 2, this c3 reads schema 3; train", id="text"),
        pytest.param(lambda c: without(c, "schema"), "has no schema", id="no schema"),
        pytest.param(lambda c: without(c, "rows"), "entry rows is missing; train the run again", id="missing"),
        pytest.param(lambda c: without(c, "cache"), "entry cache is missing", id="no store"),
        pytest.param(
            lambda c: c | {"cache": without(c["cache"], "digest")}, "entry cache.digest is missing", id="no digest"
        ),
        pytest.param(lambda c: c | {"mood": 1}, "entry mood is unknown to this c3", id="unknown"),
        pytest.param(
            lambda c: c | {"inputs": c["inputs"] | {"depth": 1}}, "entry inputs.depth is unknown", id="unknown inside"
        ),
        pytest.param(lambda c: c | {"rows": "1200"}, "entry rows: expected a whole number, found '1200'", id="type"),
        pytest.param(
            lambda c: c | {"cache": 7}, "entry cache: expected settings (name: value), found 7", id="no object"
        ),
        pytest.param(
            lambda c: c | {"status": "running"},
            "entry status: expected 'training' or 'finished', found 'running'",
            id="status",
        ),
    ],
)
def test_content_that_is_not_known_is_refused_in_one_line(
    opened: Opened, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], said: str
) -> None:
    with pytest.raises(C3Error) as refused:
        opened(change(SCHEMA_2))
    line = str(refused.value)
    assert line.startswith(f"{tmp_path / 'run.json'} ") and said in line and "\n" not in line


def test_metrics_read_back_byte_for_byte(opened: Opened, tmp_path: Path) -> None:
    opened(run_json("c3-demo-s0-00000000"))
    balance = {"seen": 1.0, "unseen": 2.0, "harmonic": 1.5, "f1": 3.0}
    task = {"mAP": 20.0, "F1@3": None, "classes": 4, "images": 7}
    tasks = {"zsl": task, "gzsl": None, "seen": task}
    content = metrics_json({"table": {
        "tasks": tasks, "intervals": {"zsl": {"mAP": [1.0, 2.5]}}, "random": tasks, "frequency": tasks,
        "calibrated": {"k": 3, "offset": 0.5, "plain": balance, "shifted": balance, "folds": 3},
    }})  # fmt: skip
    write_json(tmp_path / "metrics.json", content)
    metrics = open_run(tmp_path).metrics
    assert json.dumps(metrics.record()) == json.dumps(content)
    bins = {"labels": [2, 1], "predicted": [0.25, 0.5], "positive": [0.0, 1.0]}
    content["reliability"] = {"seen": {"before": bins, "after": bins}}
    write_json(tmp_path / "metrics.json", content)
    metrics = open_run(tmp_path).metrics
    assert json.dumps(metrics.record()) == json.dumps(content)
    assert metrics.first.value("zsl", "mAP") == 20.0
    assert metrics.first.value("gzsl", "mAP") is metrics.first.value("zsl", "F1@3") is None
    assert (metrics.first.interval("zsl", "mAP"), metrics.first.interval("seen", "mAP")) == ((1.0, 2.5), None)
    assert metrics.first.calibrated.shifted.f1 == 3.0


def test_older_metrics_count_as_not_measured_and_damaged_ones_are_refused(opened: Opened, tmp_path: Path) -> None:
    opened(run_json("c3-demo-s0-00000000"))
    write_json(tmp_path / "metrics.json", {"schema": METRICS_SCHEMA - 1, "anything": True})
    assert open_run(tmp_path).metrics is None
    write_json(tmp_path / "metrics.json", without(metrics_json({}), "images"))
    with pytest.raises(C3Error, match=r"entry images is missing; measure it again: c3 evaluate --run \S+$"):
        open_run(tmp_path)


def test_tables_read_back_and_damage_names_the_command(tmp_path: Path) -> None:
    classes = [ClassResult("sky, blue", True, 3, 4, 0, 97.8565, None), ClassResult("sea", False, 0, 0, 7, None, None)]
    write_per_class(tmp_path, classes)
    assert list(read_per_class(tmp_path)) == classes
    (tmp_path / "per_class.csv").write_text("class,seen\nsky,1\n")
    with pytest.raises(C3Error, match=r"per_class\.csv is damaged .*; measure the run again: c3 evaluate --run"):
        read_per_class(tmp_path)
    assert read_log(tmp_path) == ()
    (tmp_path / "log.csv").write_text("epoch,step,loss,val_mAP\n1,25,0.5,0.25\n2,50,0.25,0.5\n")
    assert read_log(tmp_path)[1] == LogLine(2, 50, {"loss": 0.25, "val_mAP": 0.5})
    (tmp_path / "log.csv").write_text("epoch,step,loss\n1,25,half\n")
    with pytest.raises(C3Error, match=r"log\.csv is damaged"):
        read_log(tmp_path)
    with pytest.raises(C3Error, match=r"thresholds\.csv is missing"):
        read_thresholds(tmp_path)
