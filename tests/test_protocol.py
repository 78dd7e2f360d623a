"""Protocols: which classes and images enter a number, on toys whose answer is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from c3.evaluate.protocol import NUSWIDE, OPENIMAGES_BIAM, OPENIMAGES_LESA, TABLE, measure, protocols_for, random_floor

ALL = (NUSWIDE, OPENIMAGES_LESA, OPENIMAGES_BIAM, TABLE)


@pytest.fixture
def verified() -> tuple[np.ndarray, np.ndarray]:
    """Six images, ten classes (0..6 seen): 0, 1, 7, 8 have a positive, 2 is negative only, the others unknown."""
    labels = np.zeros((6, 10), np.int8)
    labels[0, 0] = labels[1, 1] = labels[2, 7] = labels[3, 8] = 1
    labels[4, [0, 1, 2, 7, 8]] = labels[0, 2] = -1
    return labels, np.arange(10) < 7


def random_labels(rows: int, classes: int, unknown: bool) -> np.ndarray:
    rng = np.random.default_rng(1)
    labels = np.where(rng.random((rows, classes)) < 0.3, 1, -1).astype(np.int8)
    if unknown:
        labels[rng.random((rows, classes)) < 0.5] = 0
    return labels


def test_data_sets_choose_their_protocols():
    assert [protocol.name for protocol in protocols_for("nuswide")] == ["nuswide"]
    assert [protocol.name for protocol in protocols_for("openimages")] == ["openimages-lesa", "openimages-biam"]
    assert [protocol.name for protocol in protocols_for("corel5k")] == ["table"]


@pytest.mark.parametrize(
    ("protocol", "perfect", "classes", "images"),
    [(OPENIMAGES_LESA, 40.0, 10, 6), (OPENIMAGES_BIAM, 80.0, 5, 4), (TABLE, 100.0, 4, 6), (NUSWIDE, 40.0, 10, 6)],
)
def test_perfect_scores_reach_the_cap_of_the_protocol(verified, protocol, perfect, classes, images):
    labels, seen = verified
    gzsl = measure(protocol, labels, labels.astype(np.float32), seen).tasks["gzsl"]
    assert gzsl["mAP"] == pytest.approx(perfect)
    assert (gzsl["classes"], gzsl["images"]) == (classes, images)


def test_biam_filters_images_for_each_task_and_keeps_all_candidates(verified):
    labels, seen = verified
    tasks = measure(OPENIMAGES_BIAM, labels, labels.astype(np.float32), seen).tasks
    assert [tasks[task]["images"] for task in ("zsl", "gzsl", "seen")] == [2, 4, 2]
    # four images, one positive each, ten predictions each out of all ten classes
    assert (tasks["gzsl"]["P@10"], tasks["gzsl"]["R@10"]) == (pytest.approx(10.0), pytest.approx(100.0))
    assert tasks["zsl"]["classes"] == 2


def test_biam_leaves_unannotated_classes_out_of_f1_on_seen_classes_but_not_in_gzsl(verified):
    labels, seen = verified
    scores = np.zeros(labels.shape, np.float32)
    scores[:, 3:6] = 1  # nobody ever labelled classes 3, 4, 5
    tasks = measure(replace(OPENIMAGES_BIAM, ks=(3,)), labels, scores, seen).tasks
    assert (tasks["seen"]["R@3"], tasks["gzsl"]["R@3"]) == (pytest.approx(100.0), pytest.approx(0.0))
    assert measure(replace(OPENIMAGES_LESA, ks=(3,)), labels, scores, seen).tasks["seen"]["R@3"] == pytest.approx(0.0)


def test_biam_drops_the_negatives_of_images_without_positive(verified):
    labels, seen = verified
    scores = np.zeros(labels.shape, np.float32)
    # class 0: one positive (row 0) and one verified negative (row 4, an image without a positive)
    assert measure(OPENIMAGES_LESA, labels, scores, seen).average_precision[0] == pytest.approx(0.5)
    assert measure(OPENIMAGES_BIAM, labels, scores, seen).average_precision[0] == pytest.approx(1.0)


def test_gzsl_is_the_weighted_mean_of_seen_and_unseen():
    labels, seen = random_labels(40, 11, unknown=False), np.arange(11) % 3 > 0
    scores = np.random.default_rng(2).random(labels.shape, np.float32)
    tasks = measure(NUSWIDE, labels, scores, seen).tasks
    unseen, known = (~seen).sum(), seen.sum()
    expected = (known * tasks["seen"]["mAP"] + unseen * tasks["zsl"]["mAP"]) / (known + unseen)
    assert tasks["gzsl"]["mAP"] == pytest.approx(expected)
    assert tasks["seen"]["mAP"] != pytest.approx(tasks["zsl"]["mAP"])


def test_zsl_ranks_the_unseen_classes_only():
    labels = np.array([[1, -1, 1, -1, -1, -1]], np.int8)
    seen = np.array([True, True, True, False, False, False])
    labels[0, 3] = 1
    scores = np.array([[9, 8, 7, 3, 2, 1]], np.float32)
    tasks = measure(TABLE, labels, scores, seen).tasks
    assert tasks["zsl"]["R@3"] == pytest.approx(100.0)
    assert tasks["gzsl"]["R@3"] == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize("seen", [True, False])
def test_a_task_without_classes_is_none(seen):
    labels = random_labels(9, 6, unknown=False)
    tasks = measure(TABLE, labels, labels.astype(np.float32), np.full(6, seen)).tasks
    assert tasks["gzsl"] is None
    assert (tasks["zsl"] is None, tasks["seen"] is None) == (seen, not seen)


def test_a_task_without_a_positive_label_is_none_and_its_classes_have_no_precision():
    labels = random_labels(9, 6, unknown=False)
    labels[:, :2], labels[0, 2:] = -1, 1
    seen = np.arange(6) >= 2
    result = measure(NUSWIDE, labels, labels.astype(np.float32), seen)
    assert (result.tasks["zsl"], result.tasks["gzsl"]) == (None, None)
    assert result.tasks["seen"]["mAP"] == pytest.approx(100.0)
    np.testing.assert_array_equal(np.isnan(result.average_precision), ~seen)


def test_f1_is_none_where_a_task_has_fewer_classes_than_k():
    labels = random_labels(9, 8, unknown=False)
    zsl = measure(TABLE, labels, labels.astype(np.float32), np.arange(8) >= 4).tasks["zsl"]
    assert zsl["F1@3"] is not None
    assert (zsl["F1@5"], zsl["P@5"], zsl["R@5"]) == (None, None, None)


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_the_floor_is_the_mean_of_random_scores(protocol):
    labels, seen = random_labels(60, 44, unknown=protocol is not NUSWIDE), np.arange(44) % 2 == 0
    rng = np.random.default_rng(3)
    draws = [measure(protocol, labels, rng.random(labels.shape, np.float32), seen).tasks for _ in range(30)]
    floor = random_floor(protocol, labels, seen)
    for task, values in floor.items():
        for name, value in values.items():
            drawn = [draw[task][name] for draw in draws]
            error = np.std(drawn, ddof=1) / np.sqrt(len(drawn))
            assert value == pytest.approx(np.mean(drawn), abs=4 * error + 1e-9), (task, name)
            assert error < 1, (task, name)


def test_the_floor_of_average_precision_is_near_the_share_of_positives():
    labels, seen = random_labels(2000, 12, unknown=True), np.arange(12) < 6
    share = 100 * np.mean((labels == 1).sum(axis=0) / (labels != 0).sum(axis=0))
    assert random_floor(OPENIMAGES_LESA, labels, seen)["gzsl"]["mAP"] == pytest.approx(share, abs=0.6)
