"""Protocols: which classes and images enter a number, against literal transcriptions and toys with known answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.evaluate.measure import Measured, frequency_floor, measure, random_floor
from c3.evaluate.protocol import (
    COCO,
    NUSWIDE,
    NUSWIDE_81,
    OPENIMAGES_BIAM,
    OPENIMAGES_LESA,
    PROTOCOLS,
    TABLE,
    Protocol,
    protocols_for,
)
from reference_metrics import biam, evidence_of, lesa, per_class_ap, truth_of

ALL = tuple(PROTOCOLS.values())


def measured(
    protocol: Protocol, labels: np.ndarray, scores: np.ndarray, seen: np.ndarray, leaky: Sequence[int] = ()
) -> Measured:
    truth = truth_of(labels, seen, protocol_absent(protocol), leaky)
    return measure(evidence_of(truth, scores, protocol), protocol)


def protocol_absent(protocol: Protocol) -> int:
    return -1 if protocol.unknown == "negative" else 0


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


def test_data_sets_choose_their_protocols() -> None:
    assert [protocol.name for protocol in protocols_for("nuswide")] == ["nuswide"]
    assert [protocol.name for protocol in protocols_for("openimages")] == ["openimages-lesa", "openimages-biam"]
    assert [protocol.name for protocol in protocols_for("corel5k")] == ["table"]
    assert protocols_for("corel5k", ["nuswide", "table"]) == (NUSWIDE, TABLE)
    with pytest.raises(C3Error, match=r"Did you mean .nuswide."):
        protocols_for("corel5k", ["nuswid"])


@pytest.mark.parametrize(
    ("protocol", "reference"),
    [(NUSWIDE, lesa), (NUSWIDE_81, lesa), (COCO, lesa), (OPENIMAGES_LESA, lesa), (OPENIMAGES_BIAM, biam)],
    ids=lambda value: getattr(value, "name", None) or value.__name__,
)
@pytest.mark.parametrize("seed", range(3))
def test_a_protocol_is_what_its_authors_script_computes(
    protocol: Protocol, reference: Callable[..., tuple[float, float]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    labels = random_labels(60, 44, unknown=protocol.unknown == "masked")
    labels[:, 3] = np.minimum(labels[:, 3], 0)  # a class without a positive
    if protocol.unknown == "masked":
        labels[:, 5] = 0  # and one without any label
        labels[7] = np.minimum(labels[7], 0)  # an image without a positive
    else:
        labels[labels == 0] = -1
        labels[7] = -1
    scores, seen = rng.integers(0, 12, labels.shape).astype(np.float32), np.arange(44) < 30
    tasks = measured(protocol, labels, scores, seen).tasks
    for task, classes in (
        ("zsl", ~seen),
        ("gzsl", np.ones(44, bool)),
        *([("seen", seen)] if reference is lesa else []),
    ):
        for k in protocol.ks:
            if k <= classes.sum():
                expected = reference(labels, scores, np.flatnonzero(classes), k)
                assert (tasks[task]["mAP"], tasks[task][f"F1@{k}"]) == pytest.approx(expected, abs=1e-9), (task, k)


@pytest.mark.parametrize(
    ("protocol", "perfect", "classes", "images"),
    [(OPENIMAGES_LESA, 40.0, 10, 6), (OPENIMAGES_BIAM, 80.0, 5, 4), (TABLE, 100.0, 4, 6), (NUSWIDE, 40.0, 10, 6)],
)
def test_perfect_scores_reach_the_cap_of_the_protocol(
    verified: tuple[np.ndarray, np.ndarray], protocol: Protocol, perfect: float, classes: int, images: int
) -> None:
    labels, seen = verified
    gzsl = measured(protocol, labels, labels, seen).tasks["gzsl"]
    assert gzsl["mAP"] == pytest.approx(perfect)
    assert (gzsl["classes"], gzsl["images"]) == (classes, images)


def test_unknown_is_negative_only_where_the_protocol_says_so(verified: tuple[np.ndarray, np.ndarray]) -> None:
    labels, seen = verified
    truth = truth_of(labels, seen, absent=0)
    scores = np.zeros(labels.shape, np.float32)
    evidence = evidence_of(truth, scores, NUSWIDE, OPENIMAGES_LESA)
    # class 0 has one positive and one verified negative among six images
    assert measure(evidence, OPENIMAGES_LESA).average_precision[0] == pytest.approx(1 / 2)
    assert measure(evidence, NUSWIDE).average_precision[0] == pytest.approx(1 / 6)


def test_biam_filters_images_for_each_task_and_keeps_all_candidates(verified: tuple[np.ndarray, np.ndarray]) -> None:
    labels, seen = verified
    tasks = measured(OPENIMAGES_BIAM, labels, labels, seen).tasks
    assert [tasks[task]["images"] for task in ("zsl", "gzsl", "seen")] == [2, 4, 2]
    # four images, one positive each, ten predictions each out of all ten classes
    assert (tasks["gzsl"]["P@10"], tasks["gzsl"]["R@10"]) == (pytest.approx(10.0), pytest.approx(100.0))
    assert tasks["zsl"]["classes"] == 2


def test_biam_leaves_unannotated_classes_out_of_f1_on_seen_classes_but_not_in_gzsl(
    verified: tuple[np.ndarray, np.ndarray],
) -> None:
    labels, seen = verified
    scores = np.zeros(labels.shape, np.float32)
    scores[:, 3:6] = 1  # classes 3, 4, 5 have no label
    tasks = measured(replace(OPENIMAGES_BIAM, ks=(3,)), labels, scores, seen).tasks
    assert (tasks["seen"]["R@3"], tasks["gzsl"]["R@3"]) == (pytest.approx(100.0), pytest.approx(0.0))
    assert measured(replace(OPENIMAGES_LESA, ks=(3,)), labels, scores, seen).tasks["seen"]["R@3"] == pytest.approx(0.0)


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_gzsl_is_the_weighted_mean_of_seen_and_unseen_and_h_their_harmonic_mean(protocol: Protocol) -> None:
    labels, seen = random_labels(40, 33, unknown=False), np.arange(33) % 3 > 0
    scores = np.random.default_rng(2).random(labels.shape)
    tasks = measured(replace(protocol, images="all"), labels, scores, seen).tasks
    unseen, known = (~seen).sum(), seen.sum()
    expected = (known * tasks["seen"]["mAP"] + unseen * tasks["zsl"]["mAP"]) / (known + unseen)
    assert tasks["gzsl"]["mAP"] == pytest.approx(expected)
    assert tasks["gzsl"]["H"] == pytest.approx(2 / (1 / tasks["seen"]["mAP"] + 1 / tasks["zsl"]["mAP"]))
    assert tasks["seen"]["mAP"] != pytest.approx(tasks["zsl"]["mAP"])


def test_weighted_map_weighs_classes_by_their_positives() -> None:
    labels, seen = random_labels(50, 6, unknown=False), np.arange(6) < 3
    labels[10:, 0] = -1
    scores = np.random.default_rng(4).random(labels.shape)
    positives = (labels == 1).sum(axis=0)
    expected = 100 * np.average(per_class_ap(labels, scores), weights=positives)
    assert measured(TABLE, labels, scores, seen).tasks["gzsl"]["weighted mAP"] == pytest.approx(expected)
    assert measured(replace(TABLE, average="weighted"), labels, scores, seen).tasks["gzsl"]["mAP"] == pytest.approx(
        expected
    )


def test_the_leak_free_task_leaves_out_the_classes_that_leak() -> None:
    labels, seen = random_labels(40, 12, unknown=False), np.arange(12) < 4
    scores = np.random.default_rng(5).random(labels.shape)
    tasks = measured(TABLE, labels, scores, seen, leaky=(5, 6)).tasks
    kept = np.array([4, 7, 8, 9, 10, 11])
    expected = lesa(labels, scores, kept, 3)
    found = tasks["zsl-leak-free"]
    assert (found["mAP"], found["F1@3"], found["classes"]) == (
        pytest.approx(expected[0]),
        pytest.approx(expected[1]),
        6,
    )
    assert "zsl-leak-free" not in measured(TABLE, labels, scores, seen).tasks


def test_zsl_ranks_the_unseen_classes_only() -> None:
    labels = np.array([[1, -1, 1, 1, -1, -1]], np.int8)
    seen = np.array([True, True, True, False, False, False])
    tasks = measured(TABLE, labels, np.array([[9, 8, 7, 3, 2, 1]]), seen).tasks
    assert tasks["zsl"]["R@3"] == pytest.approx(100.0)
    assert tasks["gzsl"]["R@3"] == pytest.approx(100 * 2 / 3)


@pytest.mark.parametrize("seen", [True, False])
def test_a_task_without_classes_is_none(seen: bool) -> None:
    labels = random_labels(9, 6, unknown=False)
    tasks = measured(TABLE, labels, labels, np.full(6, seen)).tasks
    assert tasks["gzsl"] is None
    assert (tasks["zsl"] is None, tasks["seen"] is None) == (seen, not seen)


def test_a_task_without_a_positive_label_is_none_and_its_classes_have_no_precision() -> None:
    labels = random_labels(9, 6, unknown=False)
    labels[:, :2], labels[0, 2:] = -1, 1
    seen = np.arange(6) >= 2
    result = measured(NUSWIDE, labels, labels, seen)
    assert (result.tasks["zsl"], result.tasks["gzsl"]) == (None, None)
    assert result.tasks["seen"]["mAP"] == pytest.approx(100.0)
    np.testing.assert_array_equal(np.isnan(result.average_precision), ~seen)


def test_f1_is_none_where_a_task_has_fewer_classes_than_k() -> None:
    labels = random_labels(9, 8, unknown=False)
    zsl = measured(TABLE, labels, labels, np.arange(8) >= 4).tasks["zsl"]
    assert zsl["F1@3"] is not None
    assert (zsl["F1@5"], zsl["P@5"], zsl["R@5"]) == (None, None, None)


@pytest.mark.parametrize("protocol", ALL, ids=lambda protocol: protocol.name)
def test_the_floor_is_the_mean_of_random_scores(protocol: Protocol) -> None:
    labels, seen = random_labels(60, 44, unknown=protocol.unknown == "masked"), np.arange(44) % 2 == 0
    rng = np.random.default_rng(3)
    draws = [measured(protocol, labels, rng.random(labels.shape), seen).tasks for _ in range(30)]
    floor = random_floor(protocol, truth_of(labels, seen, protocol_absent(protocol)))
    for task, values in floor.items():
        for name, value in values.items():
            drawn = [draw[task][name] for draw in draws]
            error = np.std(drawn, ddof=1) / np.sqrt(len(drawn))
            assert value == pytest.approx(np.mean(drawn), abs=4 * error + 1e-9), (task, name)
            assert error < 1, (task, name)


def test_h_of_the_floor_is_the_mean_of_harmonic_means_where_classes_are_rare() -> None:
    labels, seen = np.where(np.arange(60)[:, None] < np.arange(12) % 4 + 2, 1, -1), np.arange(12) < 6
    floor = random_floor(TABLE, truth_of(labels, seen, -1))
    hits = np.random.default_rng(5).permuted(np.broadcast_to(labels == 1, (8000, 60, 12)), axis=1)
    precision = np.cumsum(hits, axis=1) / np.arange(1, 61)[:, None]
    ap = 100 * (precision * hits).sum(axis=1) / hits.sum(axis=1)
    means = ap[:, seen].mean(axis=1), ap[:, ~seen].mean(axis=1)
    drawn = 2 * means[0] * means[1] / (means[0] + means[1])
    of_means = 2 / (1 / means[0].mean() + 1 / means[1].mean())
    assert floor["gzsl"]["H"] == pytest.approx(drawn.mean(), abs=0.1)
    assert of_means - drawn.mean() > 0.3  # what the floor would be too high by


def test_label_frequency_is_the_same_ranking_for_every_image_with_ties_in_random_order() -> None:
    labels, seen = random_labels(50, 14, unknown=False), np.arange(14) < 8
    frequency = np.where(seen, [9, 3, 3, 3, 7, 1, 0, 5, 0, 0, 0, 0, 0, 0], 0)
    floor = frequency_floor(TABLE, truth_of(labels, seen, -1), frequency)
    rng = np.random.default_rng(6)
    for k, name in ((3, "F1@3"), (5, "F1@5")):
        for task, classes in (("zsl", ~seen), ("gzsl", np.ones(14, bool))):
            index = np.flatnonzero(classes)
            draws = []
            for _ in range(2000):
                order = index[np.lexsort((rng.random(len(index)), -frequency[index]))][:k]
                found = (labels[:, order] == 1).sum()
                draws.append(200 * found / (50 * k + (labels[:, index] == 1).sum()))
            assert floor[task][name] == pytest.approx(np.mean(draws), abs=5 * np.std(draws) / 2000**0.5 + 1e-9)
    share = (labels == 1).mean(axis=0)
    assert floor["gzsl"]["mAP"] == pytest.approx(100 * share[(labels == 1).any(axis=0)].mean())


def test_the_floor_of_average_precision_is_near_the_share_of_positives() -> None:
    labels, seen = random_labels(2000, 12, unknown=True), np.arange(12) < 6
    share = 100 * np.mean((labels == 1).sum(axis=0) / (labels != 0).sum(axis=0))
    floor = random_floor(OPENIMAGES_LESA, truth_of(labels, seen, 0))
    assert floor["gzsl"]["mAP"] == pytest.approx(share, abs=0.6)
