"""Model cards: what the records say, and nothing where they say nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from c3.common.errors import C3Error
from c3.extract.store.tables import Classes
from c3.predict import card
from c3.predict.card import model_card, training_command
from c3.train.run_folder import (
    METRICS,
    RECORD,
    ClassMap,
    OtherMap,
    ProbabilityMaps,
    SharedMap,
    open_run,
    write_classes,
    write_json,
    write_probabilities,
)
from run_files import metrics_json, run_json

NAMES = ("sea", "dark | red", "Été")


def folder(path: Path, **entries: Any) -> Path:
    """A run folder with two seen classes and an unseen one."""
    path.mkdir()
    write_json(path / RECORD, run_json(path.name, **entries))
    write_classes(path, Classes(NAMES, np.array([True, False, True]), np.ones((3, 4), np.float32)))
    return path


def front_matter(text: str) -> dict[str, Any]:
    start, front, _ = text.split("---\n", 2)
    assert start == ""
    return dict(yaml.safe_load(front))


def test_what_was_not_recorded_is_unknown(tmp_path: Path) -> None:
    text = model_card(open_run(folder(tmp_path / "run-a")))
    assert front_matter(text) == {
        "license": "unknown",
        "library_name": "c3-mlzsl",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["multi-label", "image-tagging", "zero-shot-learning", "c3"],
    }
    assert "Not measured. `c3 evaluate --run run-a` measures it." in text
    assert "how much less is not measured" in text
    assert "weights of the backbone, `random:0`: unknown: the run does not record it" in text
    assert "sha256 of the layers of the backbone that run: `unknown`" in text
    assert "Versions: unknown." in text
    assert "Seen in training (2): sea, Été." in text and "Unseen (1): dark | red." in text


def test_what_was_recorded_is_said(tmp_path: Path) -> None:
    tasks = {
        "zsl": {"mAP": 12.34, "F1@3": 5.0, "P@3": 4.0, "classes": 1, "images": 7},
        "gzsl": {"mAP": 20.0, "F1@3": None, "classes": 1234, "images": 7},
        "seen": {"mAP": 30.05, "F1@3": 9.0, "classes": 2, "images": 7},
    }
    metrics = {
        "tasks": tasks, "intervals": {"zsl": {"mAP": [10.0, 14.56]}}, "random": {"zsl": {"mAP": 3.0}},
        "frequency": {"zsl": None}, "calibrated": None,
    }  # fmt: skip
    tower = {"tower": "open_clip:ViT-B-32", "sha256": "abc" * 9, "templates": ["a {}"]}
    cache = {
        "path": "s3://bucket/of/me/f.zarr", "licence": "cc-by-nc-4.0", "vectors": tower, "labelling": "verified",
        "weights_asked": "/home/me/w.pth", "splits": {"train": 1000, "test": 7},
    }  # fmt: skip
    maps = ProbabilityMaps(500, 900, {"platt": 0.01}, "logistic", SharedMap("platt", (0.0, 1.0), (-1.0, 1.0)),
                           OtherMap(), tuple(ClassMap(name, 9, 1.0, 0.0) for name in NAMES[::2]))  # fmt: skip
    run = folder(tmp_path / "run-b", cache=cache, rows=990, versions={"c3-mlzsl": "0.1.0"}, parameters=1234)
    before, after = ({"labels": [9, 1], "predicted": [0.0, p], "positive": [0.0, 1.0]} for p in (0.5, 0.75))
    reliability = {"seen": {"before": before, "after": after}}
    write_json(run / METRICS, metrics_json({"table": metrics}) | {"reliability": reliability})
    write_probabilities(run, maps)
    text = model_card(open_run(run))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows == [
        "| task | classes | mAP | F1@3 | random mAP | constant mAP |",
        "| --- | --- | --- | --- | --- | --- |",
        "| ZSL: unseen classes | 1 | 12.3 [10.0, 14.6] | 5.0 | 3.0 | unknown |",
        "| GZSL: all classes | 1,234 | 20.0 | unknown | unknown | unknown |",
        "| seen classes | 2 | 30.1 | 9.0 | unknown | unknown |",
    ]
    (index,) = front_matter(text)["model-index"]
    zsl = index["results"][0]
    assert zsl["dataset"] == {"name": "demo", "type": "demo", "split": "test"}
    assert [(metric["type"], metric["value"]) for metric in zsl["metrics"]] == [("mAP", 12.34), ("F1@3", 5.0)]
    assert [metric["type"] for metric in index["results"][1]["metrics"]] == ["mAP"]
    for said in (
        "intervals of 95%, 1,000 bootstrap resamples of the images (seed 0)", "`random:0`: cc-by-nc-4.0",
        "by open_clip:ViT-B-32 (sha256 abcabcabcabc), templates 'a {}'", "a label that is absent is unknown",
        "train 1,000, test 7. 990 rows", "weights as `w.pth`", "store `f.zarr`", "With c3 0.1.0 or later",
        "mAP was 12.3 among the unseen and 30.1 among the seen classes", "1,234 parameters",
        "Expected calibration error of the probabilities, 0 to 1: 0.0250 for seen classes (0.0500 of scores",
        "by maps fitted on 500 images of `val`",
    ):  # fmt: skip
        assert said in text
    assert "/home/me" not in text and "bucket" not in text


def test_a_method_for_its_own_classes_promises_no_others(tmp_path: Path) -> None:
    text = model_card(open_run(folder(tmp_path / "run-c", method="logistic", zero_shot=False)))
    assert front_matter(text)["pipeline_tag"] == "image-classification"
    assert "zero-shot-learning" not in front_matter(text)["tags"]
    assert "It scores the 2 classes that it was trained on, and no others." in text


def test_the_command_has_every_setting_in_the_words_of_the_command_line(tmp_path: Path) -> None:
    settings = {"seed": 3, "compile": False, "hide_seed": 7, "lr": 1e-05, "groups": 2}
    drawn = folder(tmp_path / "run-d", config=settings, cache={"path": "/data/my f.zarr"})
    assert training_command(open_run(drawn)) == (
        "c3 train --cache 'my f.zarr' --method c3 --seed 3 --set vectors=l2 --set epochs=20 --set compile=false "
        "--set hide_seed=7 --set lr=1e-05 --set groups=2"
    )
    assert "they were drawn for this run (hide_seed 7)" in model_card(open_run(drawn))
    began = {"run": "run-d", "weights_sha256": "0", "features": "1"}
    tuned = folder(tmp_path / "run-e", config={"groups": 2, "lr": 0.1, "backbone_lr": 0.2}, end_to_end=began)
    (tuned / "backbone.safetensors").write_bytes(b"")
    assert training_command(open_run(tuned)) == (
        "c3 finetune run-d --dataset demo --seed 0 --set epochs=20 --set lr=0.1 --set backbone_lr=0.2"
    )
    assert "The run folder has the weights of head and backbone." in model_card(open_run(tuned))


def test_long_lists_of_classes_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "LISTED", 1)
    text = model_card(open_run(folder(tmp_path / "run-f")))
    assert "Seen in training (2): sea and 1 more, in classes.npz." in text
    (tmp_path / "run-f" / "classes.npz").unlink()
    with pytest.raises(C3Error, match=r"classes\.npz is missing"):
        model_card(open_run(tmp_path / "run-f"))
