"""evaluate(): a real feature store and a stand-in model whose scores, and so whose metrics, are known."""

from __future__ import annotations

import csv
import json
import logging
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.evaluate.protocol import TABLE
from c3.evaluate.report.run import report
from c3.evaluate.run import EvaluateOptions, compare, evaluate
from c3.evaluate.score import score
from c3.extract.store.cache import FeatureCache, Status
from c3.extract.store.layout import FeatureArray, Layout
from c3.extract.store.tables import Classes, Rows, SparseLabels
from c3.train.run_folder import list_runs, open_run, write_json
from click.testing import CliRunner
from origins import PROVENANCE, origin_of
from run_files import run_json

LEVELS = (FeatureArray("p8", 4), FeatureArray("p16", 2))
SEEN = np.array([True, True, False, False])
# (positive classes, verified negative classes) of the test rows; chunks of two rows, shards of four
TEST = [([0, 2], [1]), ([1], [0, 2]), ([3], [2]), ([0], []), ([2, 3], [0]), ([1], [3])]
VAL = [([], [0]), ([], [1])]


def rows_of(labels: list[tuple[list[int], list[int]]]) -> Rows:
    count = len(labels)
    ids = np.array([f"image{index}" for index in range(count)])
    return Rows(ids, np.tile(np.float32([0, 0, 1, 1]), (count, 1)), SparseLabels.from_lists(labels), ids)


def score_table(labels: SparseLabels) -> np.ndarray:
    """(rows, 4): perfect, but for row 1 of test, where class 0 and class 1 are the wrong way round."""
    table = (labels.dense(4, absent=-1) == 1).astype(np.float32)
    if len(table) > 2:
        table[1, :2] = table[1, 1::-1]
    return table


class Workplace:
    """A store whose level p8 holds the scores to return, and a run that was trained on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.test: list[tuple[list[int], list[int]]] = TEST
        self.ids: list[str] | None = None
        self.store_path = root / "features.zarr"
        self.run_path = root / "runs/c3-demo-s0-00000001"

    def store(
        self,
        labelling: str = "complete",
        failed: tuple[int, ...] = (),
        pending: bool = False,
        weights: str = "random:0",
        name: str = "features.zarr",
        backbone: str = "vgg19",
        dataset: str = "demo",
    ) -> FeatureCache:
        origin = origin_of(dataset=dataset, labelling=labelling, backbone=backbone)
        names = ("sea", "sky", "night sea", "night sky")
        splits = {"test": rows_of(self.test), "val": rows_of(VAL)}
        if self.ids:
            splits["test"] = replace(splits["test"], image_id=np.array(self.ids))
        store = FeatureCache.create(
            self.root / name, origin=origin, provenance=PROVENANCE, levels=LEVELS, splits=splits,
            classes=Classes(names, SEEN, np.eye(4, dtype=np.float32)), layout=Layout(chunk_rows=2, shard_rows=4),
        )  # fmt: skip
        for split in splits:
            table = score_table(store.labels(split))
            for shard in range(store.shards(split)):
                if pending and (split, shard) == ("test", 1):
                    continue
                rows = store.shard_rows(split, shard)
                status = np.array([Status.MISSING if row in failed else Status.OK for row in rows], np.uint8)
                maps = {level.name: np.zeros((len(rows), level.channels, 7, 7), np.float16) for level in LEVELS}
                maps["p8"][:] = (table[rows.start : rows.stop] * (status == Status.OK)[:, None])[:, :, None, None]
                store.write_shard(split, shard, maps, status)
        return store

    def run(self, store: FeatureCache, status: str = "finished", digest: str | None = None) -> Path:
        self.run_path.mkdir(parents=True)
        cache = {"path": str(self.store_path), "dataset": "demo", "digest": digest or store.digest}
        cache |= {"labelling": store.origin.labelling}
        write_json(self.run_path / "run.json", run_json(self.run_path.name, status=status, cache=cache))
        return self.run_path


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Replaces the restored model by one that returns the mean of level p8; lists the batch sizes that it was given."""
    batches: list[int] = []

    class Scorer:
        arrays = ("p8",)

        def __call__(self, maps: dict[str, np.ndarray]) -> np.ndarray:
            assert set(maps) == {"p8"}
            batches.append(len(maps["p8"]))
            return maps["p8"].astype(np.float32).mean(axis=(2, 3))

        def gflops(self) -> float:
            return 0.25

    scorer = ModuleType("c3.train.scorer")
    scorer.restore = lambda run, cache, device: Scorer()
    monkeypatch.setitem(sys.modules, "c3.train.scorer", scorer)
    return batches


def measured(run_path: Path) -> dict:
    return json.loads((run_path / "metrics.json").read_text())


def test_metrics_of_a_known_answer(workplace: Workplace) -> None:
    run = evaluate(workplace.run(workplace.store()), device="cpu")
    found = measured(run.path)["protocols"]["table"]["tasks"]
    # ZSL is perfect. Class 0 ranks {row 0, row 1, row 3} first, two of them right: AP 2/3; class 1 finds row 5 at rank
    # 1 of 2 and row 1 among the rest: 1/2 x 1 + 1/2 x 2/6.
    assert found["zsl"]["mAP"] == pytest.approx(100.0)
    assert found["seen"]["mAP"] == pytest.approx(100 * (2 / 3 + (1 / 2 + 1 / 2 * 2 / 6)) / 2)
    assert found["gzsl"]["mAP"] == pytest.approx((found["zsl"]["mAP"] + found["seen"]["mAP"]) / 2)
    assert found["gzsl"]["classes"] == 4
    # 6 x 3 predictions find all 8 positives
    assert found["gzsl"]["F1@3"] == pytest.approx(100 * 2 * 8 / (18 + 8))
    assert run.metrics.protocols["table"].tasks == found


def test_metrics_record_where_they_come_from(workplace: Workplace) -> None:
    store = workplace.store(failed=(3,))
    content = measured(evaluate(workplace.run(store), device="cpu").path)
    assert (content["split"], content["cache"], content["device"]) == ("test", store.digest, "cpu")
    assert content["rows"] == {"used": 5, "masked": {"missing": 1}}
    assert content["seconds"] > 0
    assert (content["images"], content["gflops"], content["ties"]) == (5, 0.25, "grouped")
    assert content["ms_per_image"] > 0
    results = content["protocols"]["table"]
    assert set(results) == {"tasks", "intervals", "random", "frequency", "calibrated"}
    assert set(results["tasks"]) == set(results["random"]) == {"zsl", "gzsl", "seen"}
    assert open_run(workplace.run_path).metrics.record() == content


def test_random_scores_are_measured_beside(workplace: Workplace) -> None:
    floor = evaluate(workplace.run(workplace.store())).metrics.protocols["table"].random
    # three of four classes drawn: each positive is found with chance 3/4
    assert floor["gzsl"]["R@3"] == pytest.approx(75.0)
    assert floor["zsl"]["F1@3"] is None


def test_rows_that_failed_are_masked_everywhere(workplace: Workplace, model: list[int]) -> None:
    store = workplace.store(failed=(1, 4, 5))
    run = open_run(workplace.run(store))
    scored = score(run, store, "test", [TABLE], "cpu")
    assert scored.evidence.truth.ids.tolist() == ["image0", "image2", "image3"]
    listed = score_table(store.labels("test"))[[0, 2, 3]][[0, 0, 0, 1, 1, 2], [0, 1, 2, 2, 3, 0]]
    np.testing.assert_array_equal(scored.evidence.listed, listed)
    assert model == [1, 2]  # the third chunk has no usable row and is not read
    done = CliRunner().invoke(main, ["evaluate", "--run", str(run.path), "--device", "cpu"])
    assert "left out: 3 rows without features (3 missing)" in done.output
    assert f"Next: c3 report --runs {run.path.parent}" in done.output
    metrics = open_run(run.path).metrics.protocols["table"].tasks
    assert (metrics["seen"]["classes"], metrics["seen"]["mAP"]) == (1, pytest.approx(100.0))  # the wrong row 1 is gone
    assert metrics["gzsl"]["images"] == 3


def test_crops_of_an_image_count_once_by_their_best_score(workplace: Workplace) -> None:
    """Rows 1 and 2 become crops of one image, across the border of a chunk; the perfect crop mends the wrong one."""
    labels, wrong = list(TEST), ([1], [0, 2])
    labels[1] = labels[2] = wrong
    workplace.test, workplace.ids = labels, ["a", "b", "b", "c", "d", "e"]
    metrics = evaluate(workplace.run(workplace.store())).metrics
    assert (metrics.images, metrics.rows.used) == (5, 6)
    # class 1: image b has 1 of its second crop; class 0: 1 of its first one, tied with images a and c
    assert metrics.protocols["table"].tasks["seen"]["mAP"] == pytest.approx(100 * (2 / 3 + 1) / 2)


def test_crops_with_different_labels_are_refused(workplace: Workplace) -> None:
    workplace.ids = ["a", "b", "b", "c", "d", "e"]
    with pytest.raises(C3Error, match="crops of image b have different labels"):
        evaluate(workplace.run(workplace.store()))


def test_per_class_lists_counts_and_precision(workplace: Workplace) -> None:
    run = evaluate(workplace.run(workplace.store(labelling="verified")))
    with (run.path / "per_class.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["class"] for line in lines] == ["sea", "sky", "night sea", "night sky"]
    assert [line["seen"] for line in lines] == ["1", "1", "0", "0"]
    assert [tuple(int(line[key]) for key in ("positives", "negatives", "unknown")) for line in lines] == [
        (2, 2, 2), (2, 1, 3), (2, 2, 2), (2, 1, 3),
    ]  # fmt: skip
    # random scores over 2 positives of 4: (H_4 + (4 - H_4) / 3) / 4
    assert float(lines[0]["random AP"]) == pytest.approx(100 * (25 / 12 + (4 - 25 / 12) / 3) / 4, abs=1e-4)
    # verified only: class 0 ranks rows 0, 1, 3 (one of them a verified negative) before row 4
    assert [line["AP"] for line in lines] == ["66.6667", "83.3333", "100.0000", "100.0000"]


def test_a_class_without_a_positive_has_an_empty_precision(workplace: Workplace) -> None:
    run = evaluate(workplace.run(workplace.store(failed=(0, 3))))
    with (run.path / "per_class.csv").open() as file:
        assert next(csv.DictReader(file))["AP"] == ""


def test_another_split_is_written_beside_and_leaves_the_test_metrics(workplace: Workplace) -> None:
    path = workplace.run(workplace.store())
    evaluate(path)
    before = (path / "metrics.json").read_bytes()
    with pytest.raises(C3Error, match="none of 2 usable rows of val has a positive label"):
        evaluate(path, split="val")
    assert (path / "metrics.json").read_bytes() == before
    assert not (path / "metrics-val.json").exists()


def test_the_files_of_another_split_carry_its_name(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "VAL", [([0, 2], []), ([1], [3])])
    run = evaluate(workplace.run(workplace.store()), split="val")
    written = ["metrics-val.json", "per_class-val.csv", "run.json", "thresholds.csv"]
    assert sorted(path.name for path in run.path.iterdir()) == written
    assert run.metrics.split == "val"
    assert open_run(run.path).metrics is None


def test_a_device_that_does_not_exist_is_refused(workplace: Workplace) -> None:
    with pytest.raises(C3Error, match="'abacus' is not a device"):
        evaluate(workplace.run(workplace.store()), device="abacus")


def test_a_split_that_the_store_lacks_is_refused(workplace: Workplace) -> None:
    with pytest.raises(C3Error, match="no split 'train'; it has test, val"):
        evaluate(workplace.run(workplace.store()), split="train")


def test_a_store_that_has_gone_is_named_and_can_be_given_again(workplace: Workplace) -> None:
    path = workplace.run(workplace.store())
    moved = workplace.store_path.rename(workplace.root / "moved.zarr")
    with pytest.raises(C3Error, match=rf"{workplace.store_path} is missing.*c3 evaluate --run {path} --cache PATH"):
        evaluate(path)
    assert evaluate(path, cache=moved).metrics.rows.used == 6


def test_another_store_is_refused_with_both_digests(workplace: Workplace) -> None:
    store = workplace.store()
    path = workplace.run(store, digest="feedfeedfeedfeed")
    with pytest.raises(C3Error, match=f"expected digest feedfeedfeedfeed, found {store.digest}"):
        evaluate(path)


def test_another_store_is_scored_on_purpose_and_written_beside(workplace: Workplace) -> None:
    path = workplace.run(workplace.store())
    evaluate(path)
    before = (path / "metrics.json").read_bytes()
    workplace.test = TEST[:4]
    other = workplace.store(name="other.zarr", dataset="elsewhere")
    found = evaluate(path, cache=other.path).metrics
    assert (found.dataset, found.images, found.store_digest) == ("elsewhere", 4, other.digest)
    assert (path / f"metrics-on-elsewhere-{other.digest[:8]}.json").exists()
    assert (path / f"per_class-on-elsewhere-{other.digest[:8]}.csv").exists()
    assert (path / "metrics.json").read_bytes() == before


def test_classes_that_another_store_calls_unseen_but_were_trained_on_are_named(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = workplace.run(workplace.store())
    monkeypatch.setattr(sys.modules[__name__], "SEEN", np.array([False, True, False, False]))
    other = workplace.store(name="other.zarr", dataset="elsewhere")
    with caplog.at_level(logging.WARNING, logger="c3"):
        evaluate(path, cache=other.path)
    assert f"was trained on 1 classes that {other.path} calls unseen: sea" in caplog.text
    caplog.clear()
    evaluate(path)
    assert "calls unseen" not in caplog.text
    workplace.store_path.rename(workplace.root / "gone")
    evaluate(path, cache=other.path)
    assert "cannot be told" in caplog.text


def test_a_store_of_another_backbone_is_refused_with_both_names(workplace: Workplace) -> None:
    path = workplace.run(workplace.store())
    other = workplace.store(name="other.zarr", backbone="resnet50")
    with pytest.raises(C3Error, match="expected backbone vgg19, found resnet50"):
        evaluate(path, cache=other.path)


def test_named_protocols_and_ties_are_used_and_recorded(workplace: Workplace) -> None:
    options = EvaluateOptions(("nuswide", "openimages-biam"), ties="stable", resamples=0)
    metrics = evaluate(workplace.run(workplace.store()), options=options).metrics
    assert list(metrics.protocols) == ["nuswide", "openimages-biam"]
    assert metrics.ties == "stable"
    assert metrics.protocols["nuswide"].intervals == {}
    with pytest.raises(C3Error, match="expected grouped or stable, found 'best'"):
        evaluate(workplace.run_path, options=EvaluateOptions(ties="best"))


def test_intervals_are_written_around_the_values(workplace: Workplace) -> None:
    results = evaluate(workplace.run(workplace.store())).metrics.protocols["table"]
    low, high = results.interval("gzsl", "mAP")
    assert low <= results.value("gzsl", "mAP") <= high
    assert low < high


def test_two_runs_are_compared_on_the_same_images(workplace: Workplace) -> None:
    path = workplace.run(workplace.store())
    text = compare(path, path)
    assert f"first:  {path}" in text
    assert re.search(r"table +ZSL +mAP +100\.00 +100\.00 +\+0\.00 +\[\+0\.00, \+0\.00\]", text)


def test_metrics_of_an_older_schema_are_measured_again(workplace: Workplace, caplog: pytest.LogCaptureFixture) -> None:
    path = workplace.run(workplace.store())
    (path / "metrics.json").write_text(json.dumps({"schema": 1, "protocols": {"table": {"zsl": {"mAP": 99.0}}}}))
    assert open_run(path).metrics is None
    with caplog.at_level(logging.WARNING, logger="c3"):
        assert "100.0 (1)" in report((1,), path.parent)
    assert f"{path} has no metrics.json of this version yet" in caplog.text


def test_metrics_of_a_newer_schema_are_refused(workplace: Workplace) -> None:
    path = workplace.run(workplace.store())
    (path / "metrics.json").write_text(json.dumps({"schema": 99}))
    with pytest.raises(C3Error, match=r"metrics\.json has schema 99, this c3 reads schema 2"):
        open_run(path)


def test_an_incomplete_store_is_refused(workplace: Workplace) -> None:
    path = workplace.run(workplace.store(pending=True))
    with pytest.raises(C3Error, match="shards pending: 1 of 2 in test"):
        evaluate(path)


def test_an_unfinished_run_is_refused(workplace: Workplace) -> None:
    path = workplace.run(workplace.store(), status="training")
    with pytest.raises(C3Error, match=r"not finished \(status training\)"):
        evaluate(path)


def test_a_split_whose_rows_all_failed_is_refused(workplace: Workplace) -> None:
    path = workplace.run(workplace.store(failed=tuple(range(6))))
    with pytest.raises(C3Error, match="none of 6 rows of test is usable"):
        evaluate(path)


def test_scores_that_are_not_numbers_leave_no_metrics(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    class Diverged:
        arrays = ("p16",)

        def __call__(self, maps: dict[str, np.ndarray]) -> np.ndarray:
            values = np.zeros((len(maps["p16"]), 4), np.float32)
            values[-1, 2] = np.nan
            return values

        def gflops(self) -> float:
            return 0.25

    path = workplace.run(workplace.store())
    monkeypatch.setattr(sys.modules["c3.train.scorer"], "restore", lambda run, cache, device: Diverged())
    with pytest.raises(C3Error, match="score of image image1 for class 'night sea' is nan"):
        evaluate(path)
    assert [file.name for file in path.iterdir()] == ["run.json"]


def test_a_report_evaluates_what_was_not_yet_and_says_so(
    workplace: Workplace, caplog: pytest.LogCaptureFixture
) -> None:
    path = workplace.run(workplace.store())
    with caplog.at_level(logging.WARNING, logger="c3"):
        text = report((1,), path.parent)
    assert f"{path} has no metrics.json of this version yet" in caplog.text
    assert "100.0 (1)" in text
    assert list_runs(path.parent)[0].metrics is not None
    caplog.clear()
    assert report((1,), path.parent) == text
    assert not caplog.text


def test_a_report_does_not_evaluate_runs_that_no_table_asked_for(workplace: Workplace) -> None:
    path = workplace.run(workplace.store())
    with pytest.raises(C3Error, match=r"none of the 1 runs .* is part of table 2"):
        report((2,), path.parent)
    assert open_run(path).metrics is None
