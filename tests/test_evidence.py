"""Streaming: blocks, crops and the two ways of keeping scores do not change a number; intervals and calibration."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.evaluate import evidence as module
from c3.evaluate.bootstrap import Resampling, bootstrap, interval, intervals
from c3.evaluate.calibrate import FoldOffset, balance, calibrated, choose_offset, of_fold
from c3.evaluate.compare import differences
from c3.evaluate.evidence import collect
from c3.evaluate.measure import measure
from c3.evaluate.protocol import NUSWIDE, OPENIMAGES_BIAM, OPENIMAGES_LESA, TABLE, Protocol, pools_of
from c3.evaluate.record import training_frequency
from c3.evaluate.truth import Truth, read_truth
from c3.extract.store.cache import FeatureCache
from c3.extract.store.tables import SparseLabels
from reference_metrics import evidence_of, lesa, per_class_ap, truth_of
from sklearn.metrics import average_precision_score

Toy = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels, scores, which classes are seen


@pytest.fixture
def toy() -> Toy:
    """Labels, tied scores and seen classes of 43 images and 24 classes."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random((43, 24)) < 0.25, 1, -1).astype(np.int8)
    return labels, rng.integers(0, 9, labels.shape).astype(np.float32), np.arange(24) < 14


@pytest.mark.parametrize("block", [1, 5, 43, 100])
@pytest.mark.parametrize("protocol", [NUSWIDE, OPENIMAGES_LESA], ids=lambda protocol: protocol.name)
def test_blocks_do_not_change_a_number(
    toy: Toy, block: int, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GATHERED", 4)
    labels, scores, seen = toy
    truth = truth_of(labels, seen, -1 if protocol.unknown == "negative" else 0)
    found = measure(evidence_of(truth, scores, protocol, block=block), protocol)
    whole = measure(evidence_of(truth, scores, protocol, block=11), protocol)
    assert found.tasks == whole.tasks
    np.testing.assert_array_equal(found.average_precision, whole.average_precision)


def test_an_image_scores_the_maximum_over_its_crops_across_blocks(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GATHERED", 1)
    labels, scores, seen = toy
    rng = np.random.default_rng(1)
    crops = rng.integers(1, 5, len(labels))
    of_row = np.repeat(np.arange(len(labels)), crops)
    rows = scores[of_row] - rng.integers(0, 4, (len(of_row), 24))  # every crop scores at most the image's score,
    first = np.searchsorted(of_row, np.arange(len(labels))) + rng.integers(0, crops)
    rows[first] = scores  # and one of them scores it
    whole = truth_of(labels, seen, -1)
    for block in (1, 3, 8, 200):
        evidence = evidence_of(replace(whole, of_row=of_row), rows, TABLE, block=block)
        assert measure(evidence, TABLE).tasks == measure(evidence_of(whole, scores, TABLE), TABLE).tasks


def test_listed_scores_alone_give_the_same_as_all_of_them(toy: Toy) -> None:
    """A store that lists every negative is measured alike, whether unlisted labels are unknown or negative."""
    labels, scores, seen = toy
    everything = replace(TABLE, unknown="masked")
    sparse = measure(evidence_of(truth_of(labels, seen, 0), scores, everything), everything)
    dense = measure(evidence_of(truth_of(labels, seen, -1), scores, everything), everything)
    assert sparse.tasks == dense.tasks


def test_a_score_that_is_not_finite_is_named_by_image_and_class(toy: Toy) -> None:
    labels, scores, seen = toy
    for bad in (np.nan, np.inf, -np.inf):
        scores[30, 5] = bad
        with pytest.raises(C3Error, match=f"score of image image30 for class 'class5' is {bad}"):
            evidence_of(truth_of(labels, seen, -1), scores, TABLE)


def test_scores_of_other_rows_are_refused(toy: Toy) -> None:
    labels, scores, seen = toy
    with pytest.raises(ValueError, match="expected scores of 43 rows, found 40"):
        evidence_of(truth_of(labels, seen, -1), scores[:40], TABLE)


def test_a_full_disk_is_one_clear_error(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores, seen = toy

    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "HELD", 0)
    monkeypatch.setattr(module.os, "posix_fallocate", full)
    with pytest.raises(C3Error, match=r"GB for the scores do not fit into .* \(No space left on device\).*TMPDIR"):
        evidence_of(truth_of(labels, seen, -1), scores, TABLE)


def test_a_file_of_scores_gives_the_same_numbers(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, scores, seen = toy
    truth = truth_of(labels, seen, -1)
    held = measure(evidence_of(truth, scores, NUSWIDE), NUSWIDE)
    monkeypatch.setattr(module, "HELD", 0)
    evidence = evidence_of(truth, scores, NUSWIDE)
    assert isinstance(evidence.every, np.memmap)
    filed = measure(evidence, NUSWIDE)
    assert filed.tasks == held.tasks
    np.testing.assert_array_equal(filed.average_precision, held.average_precision)


def test_rows_times_classes_is_never_in_memory_and_the_result_is_sklearns(monkeypatch: pytest.MonkeyPatch) -> None:
    """4,000 images x 3,000 classes, 20 verified labels an image: 48 MB of scores, measured in a fraction of it."""
    monkeypatch.setattr(module, "GATHERED", 100)
    images, classes, each = 4000, 3000, 20
    rng = np.random.default_rng(2)
    indices = np.sort(np.argsort(rng.random((images, 200)), axis=1)[:, :each] * 15, axis=1).astype(np.int32)
    value = np.where(rng.random(images * each) < 0.6, 1, -1).astype(np.int8)
    labels = SparseLabels(np.arange(images + 1, dtype=np.int64) * each, indices.ravel(), value)
    ids, names = np.arange(images).astype(str), tuple(map(str, range(classes)))
    truth = Truth(ids, labels, 0, names, np.arange(classes) < 2800, np.zeros(classes, bool), np.arange(images))

    def block(start: int) -> np.ndarray:
        return np.random.default_rng(start).normal(size=(50, classes)).astype(np.float32).round(1)

    pools = pools_of([OPENIMAGES_LESA, OPENIMAGES_BIAM], truth)
    tracemalloc.start()
    evidence = collect(truth, (block(start) for start in range(0, images, 50)), pools, 20, every=False)
    found = measure(evidence, OPENIMAGES_LESA)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * images * classes / 3
    whole = np.concatenate([block(start) for start in range(0, images, 50)])
    for index in range(0, classes, 15 * 7):
        rows = np.flatnonzero((indices == index).any(axis=1))
        positive = value.reshape(images, each)[indices == index] == 1
        expected = average_precision_score(positive, whole[rows, index])
        assert found.average_precision[index] == pytest.approx(expected, abs=1e-9)


def test_an_empty_split_is_refused_and_says_so() -> None:
    store = SimpleNamespace(location="store.zarr", rows=lambda split: 0, status=lambda split: np.empty(0, np.uint8))
    with pytest.raises(C3Error, match=r"store\.zarr: split test is empty; see: c3 inspect store\.zarr"):
        read_truth(store, "test")


def test_label_frequency_counts_no_label_that_training_may_not_use(make_cache: Callable[..., FeatureCache]) -> None:
    """40 training rows with classes row % 5 and row % 5 + 1; a and b are unseen."""
    np.testing.assert_array_equal(training_frequency(make_cache()), [0, 0, 16, 16, 16])


# -- intervals -----------------------------------------------------------------------------------------------------


def test_resampled_metrics_are_the_metrics_of_the_repeated_images(toy: Toy) -> None:
    labels, scores, seen = toy
    resampling = Resampling(resamples=4, seed=3)
    drawn = bootstrap(evidence_of(truth_of(labels, seen, -1), scores, NUSWIDE), NUSWIDE, resampling)
    (weights,) = resampling.weights(len(labels))
    for number in range(4):
        times = weights[:, number].astype(int)
        assert times.sum() == len(labels)
        again, again_scores = np.repeat(labels, times, axis=0), np.repeat(scores, times, axis=0)
        for task, classes in (("zsl", ~seen), ("gzsl", seen | True), ("seen", seen)):
            expected = lesa(again, again_scores, np.flatnonzero(classes), 3)
            found = drawn[task]["mAP"][number], drawn[task]["F1@3"][number]
            assert found == pytest.approx(expected), task


def test_a_resample_without_a_positive_leaves_the_class_out_where_the_protocol_does(toy: Toy) -> None:
    labels, scores, seen = toy
    labels[1:, 2] = -1  # one positive: gone from a third of the resamples
    labels[0, 2] = 1
    resampling = Resampling(resamples=40, seed=0)
    drawn = bootstrap(evidence_of(truth_of(labels, seen, -1), scores, TABLE), TABLE, resampling)
    weights = np.concatenate(list(resampling.weights(len(labels))), axis=1)
    without = np.flatnonzero(weights[0] == 0)[0]
    times = weights[:, without].astype(int)
    ap = per_class_ap(np.repeat(labels, times, axis=0), np.repeat(scores, times, axis=0))
    kept = seen & (np.arange(24) != 2)
    assert drawn["seen"]["mAP"][without] == pytest.approx(100 * ap[kept].mean())


def test_blocks_of_resamples_are_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(Resampling(30, 5).weights(17)), axis=1)
    monkeypatch.setattr("c3.evaluate.bootstrap.BLOCK_CELLS", 17 * 4)
    blocks = list(Resampling(30, 5).weights(17))
    assert len(blocks) == 8
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)


def test_the_interval_has_the_width_that_fresh_images_would_show() -> None:
    """The bootstrap estimates the spread over fresh samples of images; here 60 of them can be drawn."""
    rng = np.random.default_rng(7)

    def sample() -> tuple[np.ndarray, np.ndarray]:
        labels = np.where(rng.random((250, 6)) < 0.3, 1, -1).astype(np.int8)
        return labels, labels + rng.normal(scale=2.0, size=labels.shape)

    seen = np.arange(6) < 3
    values = [lesa(*sample(), np.arange(6), 3)[0] for _ in range(60)]
    labels, scores = sample()
    evidence = evidence_of(truth_of(labels, seen, -1), scores, NUSWIDE)
    tasks = measure(evidence, NUSWIDE).tasks
    low, high = intervals(tasks, bootstrap(evidence, NUSWIDE, Resampling(400)), 0.95)["gzsl"]["mAP"]
    assert low < tasks["gzsl"]["mAP"] < high
    assert (high - low) == pytest.approx(2 * 1.96 * np.std(values, ddof=1), rel=0.35)


def test_an_interval_is_centred_on_the_measured_value() -> None:
    assert interval(10.0, np.array([20.0, 21.0, 22.0]), 1.0) == (9.0, 11.0)


def test_differences_of_paired_runs(toy: Toy) -> None:
    labels, scores, seen = toy
    truth = truth_of(labels, seen, -1)
    better = scores + 3.0 * (labels == 1)
    first, second = (evidence_of(truth, values, TABLE) for values in (scores, better))
    found = {(item.task, item.metric): item for item in differences(first, second, TABLE, Resampling(200))}
    item = found["zsl", "mAP"]
    expected = [lesa(labels, values, np.flatnonzero(~seen), 3)[0] for values in (scores, better)]
    assert (item.first, item.second) == (pytest.approx(expected[0]), pytest.approx(expected[1]))
    assert 0 < item.low < item.second - item.first < item.high
    same = {(item.task, item.metric): item for item in differences(first, first, TABLE, Resampling(200))}
    assert {(item.low, item.high) for item in same.values()} == {(0.0, 0.0)}


def test_runs_on_other_images_are_not_compared(toy: Toy) -> None:
    labels, scores, seen = toy
    first = evidence_of(truth_of(labels, seen, -1), scores, TABLE)
    fewer = evidence_of(truth_of(labels[:40], seen, -1), scores[:40], TABLE)
    with pytest.raises(C3Error, match=r"different images or labels \(43 and 40 images\)"):
        list(differences(first, fewer, TABLE, Resampling(100)))
    with pytest.raises(C3Error, match="different classes"):
        list(differences(first, evidence_of(truth_of(labels, ~seen, -1), scores, TABLE), TABLE, Resampling(100)))


# -- calibrated GZSL -----------------------------------------------------------------------------------------------


def test_calibration_holds_back_seen_classes_that_always_win(toy: Toy) -> None:
    labels, _, seen = toy
    scores = (labels + np.random.default_rng(8).normal(size=labels.shape)).astype(np.float32)
    scores[:, seen] += 50
    evidence = evidence_of(truth_of(labels, seen, -1), scores, TABLE)
    assert balance(evidence, 3, 0.0).unseen == 0.0
    offset = choose_offset(evidence, 3)
    assert 45 < offset < 55
    found = balance(evidence, 3, offset)
    shifted = scores - offset * seen
    best = np.argsort(-shifted, axis=1, kind="stable")[:, :3]
    hit = np.take_along_axis(labels, best, axis=1) == 1
    unseen = 100 * (hit & ~seen[best]).sum() / (labels[:, ~seen] == 1).sum()
    assert found.unseen == pytest.approx(unseen)
    assert found.f1 == pytest.approx(200 * hit.sum() / (hit.size + (labels == 1).sum()))
    report = calibrated(evidence, FoldOffset(offset, 3), 3)
    assert report == of_fold(evidence, 3, 3)
    assert report.shifted.harmonic > report.plain.harmonic == 0.0


def test_calibration_needs_an_offset_and_both_kinds_of_labels(toy: Toy) -> None:
    labels, scores, seen = toy
    evidence = evidence_of(truth_of(labels, seen, -1), scores, TABLE)
    assert calibrated(evidence, None, 3) is None
    labels[:, ~seen] = -1
    without = evidence_of(truth_of(labels, seen, -1), scores, TABLE)
    assert calibrated(without, FoldOffset(1.0, 3), 3) is None
    assert of_fold(without, 3, 3) is None
