"""Every loss against double loops written from its equation, and what must have no influence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from c3.common.errors import C3Error
from c3.train.models.losses import (
    ASL_CLIP,
    ASL_GAMMA,
    across,
    c3_loss,
    group_spread,
    has_pair,
    image_weight,
    inner_weight,
    mean_over,
    ranknet,
)
from c3.train.models.objectives import IMAGE_LOSSES, LOGITS, OBJECTIVES, Objective
from reference_methods import Largest
from torch import Tensor

LABELS = torch.tensor(
    [
        [1, 1, -1, -1, 0],
        [1, -1, -1, 0, -1],  # one positive
        [-1, -1, 0, -1, -1],  # none
        [1, 1, 1, 1, 1],  # no negative
        [0, 0, 0, 0, 0],
    ],
    dtype=torch.int8,
)
CLASSES = LABELS.shape[1]
WIDTH = 3  # of word vectors
RANKINGS = [name for name in IMAGE_LOSSES if name not in LOGITS]


@pytest.fixture
def scores() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(5, 5, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def vectors() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(5, 3, dtype=torch.float64)


def pairs(scores: Tensor, labels: Tensor) -> Iterator[tuple[int, list[float]]]:
    """Every positive with its s_n - s_p over the negatives."""
    for p, label in enumerate(labels):
        if label == 1:
            yield p, [float(scores[n] - scores[p]) for n, other in enumerate(labels) if other == -1]


def ranknet_by_hand(scores: Tensor, labels: Tensor) -> float:
    terms = [math.log(1 + math.exp(d)) for _, differences in pairs(scores, labels) for d in differences]
    return sum(terms) / len(terms) if terms else 0.0


def sdl_by_hand(scores: Tensor, labels: Tensor) -> float:
    rows = [sum(math.log(1 + math.exp(d)) for d in differences) for _, differences in pairs(scores, labels)]
    return sum(rows) / len(rows) if rows else 0.0


def hinge_by_hand(scores: Tensor, labels: Tensor) -> float:
    violations = [1 + d for _, differences in pairs(scores, labels) for d in differences if 1 + d > 0]
    return sum(violations) / len(violations) if violations else 0.0


def warp_by_hand(scores: Tensor, labels: Tensor) -> float:
    rows = []
    for _, differences in pairs(scores, labels):
        violations = [1 + d for d in differences if 1 + d > 0]
        rank = len(violations)
        rows.append(sum(1 / k for k in range(1, rank + 1)) / rank * sum(violations) if rank else 0.0)
    return sum(rows) / len(rows) if rows else 0.0


def _over_known(labels: Tensor, positive: Callable[[int], float], negative: Callable[[int], float]) -> float:
    total = sum(positive(c) if label == 1 else negative(c) for c, label in enumerate(labels) if label != 0)
    return total / max(int((labels == 1).sum()), 1)


def bce_by_hand(scores: Tensor, labels: Tensor) -> float:
    p = [1 / (1 + math.exp(-float(score))) for score in scores]
    return _over_known(labels, lambda c: -math.log(p[c]), lambda c: -math.log(1 - p[c]))


def asl_by_hand(scores: Tensor, labels: Tensor) -> float:
    p = [1 / (1 + math.exp(-float(score))) for score in scores]
    m = [max(value - ASL_CLIP, 0) for value in p]
    return _over_known(labels, lambda c: -math.log(p[c]), lambda c: -(m[c] ** ASL_GAMMA) * math.log(1 - m[c]))


BY_HAND = {
    "ranknet": ranknet_by_hand,
    "sdl": sdl_by_hand,
    "hinge": hinge_by_hand,
    "warp": warp_by_hand,
    "bce": bce_by_hand,
    "asl": asl_by_hand,
}


def weight_by_hand(labels: Tensor, vectors: Tensor) -> float:
    positives = [vectors[c] for c, label in enumerate(labels) if label == 1]
    if len(positives) < 2:
        return 1.0
    total = 1.0
    for dimension in range(vectors.shape[1]):
        values = [float(vector[dimension]) for vector in positives]
        mean = sum(values) / len(values)
        total += sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return total


def spread_by_hand(s: Tensor) -> float:
    g, d_w = s.shape
    total = 0.0
    for dimension in range(d_w):
        mean = sum(float(row[dimension]) for row in s) / g
        total += abs(sum((float(row[dimension]) - mean) ** 2 for row in s) / (g - 1))
    return total


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_a_loss_equals_loops_over_its_pairs_or_labels(scores: Tensor, name: str) -> None:
    scores = scores.detach()
    expected = [BY_HAND[name](scores[i], LABELS[i]) for i in range(5)]
    assert IMAGE_LOSSES[name](scores, LABELS).tolist() == pytest.approx(expected, rel=1e-12)
    assert sum(value > 0 for value in expected) >= 2


def test_across_is_ranknet_of_the_images_by_a_class(scores: Tensor) -> None:
    scores = scores.detach()
    expected = [ranknet_by_hand(scores[:, c], LABELS[:, c]) for c in range(5)]
    assert across(scores, LABELS).tolist() == pytest.approx(expected, rel=1e-12)
    assert sum(value > 0 for value in expected) >= 4


def test_across_weighs_every_pair_by_its_image_with_the_class(scores: Tensor) -> None:
    scores, weight = scores.detach(), torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0], dtype=torch.float64)
    expected = []
    for c in range(5):
        terms = [
            float(weight[p]) * math.log(1 + math.exp(difference))
            for p, differences in pairs(scores[:, c], LABELS[:, c])
            for difference in differences
        ]
        expected.append(sum(terms) / len(terms) if terms else 0.0)
    assert across(scores, LABELS, weight).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2.0, 3.0, 5.0, 7.0], dtype=torch.float64)],
                         ids=["plain", "weighted"])  # fmt: skip
def test_both_is_the_mean_of_ranknet_over_images_and_over_classes(scores: Tensor, weight: Tensor | None) -> None:
    scores = scores.detach()
    names = ("ranknet", "across", "both")
    images, classes, both = (Objective(name, CLASSES, WIDTH)(scores, LABELS, weight) for name in names)
    assert both.item() == pytest.approx((images + classes).item() / 2, rel=1e-12)
    expected = [ranknet_by_hand(scores[:, c], LABELS[:, c]) for c in range(5)]
    if weight is None:
        assert classes.item() == pytest.approx(sum(expected) / int(has_pair(LABELS.T).sum()), rel=1e-12)


def test_image_weight_equals_equation_10(vectors: Tensor) -> None:
    expected = [weight_by_hand(LABELS[i], vectors) for i in range(5)]
    assert image_weight(LABELS, vectors).tolist() == pytest.approx(expected, rel=1e-12)
    assert expected[1] == expected[2] == 1.0


def test_the_other_reading_of_equation_10_takes_the_variance_inside_each_vector(vectors: Tensor) -> None:
    expected = []
    for labels in LABELS:
        total = 1.0
        for c, label in enumerate(labels):
            if label == 1:
                values = vectors[c].tolist()
                mean = sum(values) / len(values)
                total += sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        expected.append(total)
    assert inner_weight(LABELS, vectors).tolist() == pytest.approx(expected, rel=1e-12)


def test_group_spread_equals_equation_11() -> None:
    s = torch.randn(3, 4, 6, dtype=torch.float64)
    assert group_spread(s).tolist() == pytest.approx([spread_by_hand(image) for image in s], rel=1e-12)
    assert group_spread(s[:, :1]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ["ranknet", "sdl"])
def test_c3_loss_equals_equation_12_over_the_images_with_a_pair(scores: Tensor, vectors: Tensor, name: str) -> None:
    s = torch.randn(5, 4, 3, dtype=torch.float64)
    scores = scores.detach()
    omega = image_weight(LABELS, vectors)
    parts = c3_loss(s, Objective(name, CLASSES, WIDTH)(scores, LABELS, omega), 0.4, has_pair(LABELS))
    usable = (0, 1)
    rank = sum(weight_by_hand(LABELS[i], vectors) * BY_HAND[name](scores[i], LABELS[i]) for i in usable) / 2
    reg = sum(spread_by_hand(s[i]) for i in usable) / 2
    assert parts["rank"].item() == pytest.approx(rank, rel=1e-12)
    assert parts["reg"].item() == pytest.approx(reg, rel=1e-12)
    assert parts["loss"].item() == pytest.approx(0.6 * rank + 0.4 * reg, rel=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_unknown_labels_have_no_influence(scores: Tensor, name: str) -> None:
    objective = Objective(name, CLASSES, WIDTH).double().eval()  # in training, squares counts labels
    loss = objective(scores, LABELS)
    loss.backward()
    assert torch.equal(scores.grad[LABELS == 0], torch.zeros((LABELS == 0).sum(), dtype=torch.float64))
    assert (scores.grad[:2] != 0).any()
    moved = scores.detach() + 100.0 * (LABELS == 0)
    torch.testing.assert_close(objective(moved, LABELS), loss)


@pytest.mark.parametrize("name", RANKINGS)
def test_a_batch_without_a_pair_gives_zero_and_no_nan(name: str) -> None:
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    objective = Objective(name, CLASSES, WIDTH)
    loss = objective(scores, LABELS[2:])
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(scores.grad).all()


@pytest.mark.parametrize("name", LOGITS)
def test_log_odds_learn_from_images_with_one_sign_and_skip_those_without_labels(name: str) -> None:
    assert Objective(name, CLASSES, WIDTH).usable(LABELS).tolist() == [True, True, True, True, False]
    for ranking in ("ranknet", "both"):
        assert Objective(ranking, CLASSES, WIDTH).usable(LABELS).tolist() == [True, True, False, False, False]


def test_squares_fit_labels_standardised_by_how_often_they_were_positive(scores: Tensor) -> None:
    objective = Objective("squares", CLASSES, WIDTH).double()
    assert objective.asks_all
    for seen in (1, 2):
        loss = objective(scores, LABELS).item()
        expected = []
        for row, known in zip(scores.tolist(), LABELS.tolist(), strict=True):
            errors = []
            for c, (score, label) in enumerate(zip(row, known, strict=True)):
                p = (1 + seen * int((LABELS[:, c] > 0).sum())) / (50 + seen * int((LABELS[:, c] != 0).sum()))
                if label:
                    errors.append((score - ((label > 0) - p) / math.sqrt(p * (1 - p))) ** 2 / 2)
            if errors:
                expected.append(sum(errors) / len(errors))
        assert loss == pytest.approx(sum(expected) / len(expected), rel=1e-9)
    objective.eval()
    assert objective(scores, LABELS).item() == pytest.approx(loss, rel=1e-9)


def test_scores_of_squares_compare_within_an_image_when_the_standardisation_is_undone() -> None:
    vectors = torch.eye(CLASSES, dtype=torch.float64)
    objective = Objective("squares", CLASSES, CLASSES).double()
    objective.prepare(vectors)
    for _ in range(200):
        objective.count_labels(LABELS)
    p = objective.eval().frequency()
    scores = torch.rand(3, CLASSES, dtype=torch.float64)
    undone = p + (p * (1 - p)).sqrt() * scores
    torch.testing.assert_close(objective.comparable(scores, None), undone)
    torch.testing.assert_close(objective.comparable(scores, vectors), undone, rtol=0.05, atol=0.0)  # nearly p of each
    between = (vectors[:1] + vectors[1:2]) / 2
    mean = (p[0] * p[1]).sqrt()
    expected = mean + (mean * (1 - mean)).sqrt() * scores[:, :1]
    torch.testing.assert_close(objective.comparable(scores[:, :1], between), expected, rtol=0.05, atol=0.0)
    far = objective.comparable(torch.zeros(1, 2, dtype=torch.float64), 1e3 * torch.stack([vectors[0], -vectors[0]]))
    assert p.min() <= far.min() and far.max() <= p.max()
    other = Objective("ranknet", CLASSES, CLASSES)
    assert other.comparable(scores, vectors) is scores


@pytest.mark.parametrize("loss", [*IMAGE_LOSSES.values(), across])
def test_gradients_agree_with_finite_differences(scores: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(lambda s: loss(s, LABELS).sum(), (scores,))


def test_gradients_of_equation_12_agree_with_finite_differences(vectors: Tensor) -> None:
    torch.manual_seed(2)
    s = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)

    def loss(s: Tensor) -> Tensor:
        rank = mean_over(ranknet((s @ vectors.T).amax(dim=1), LABELS), has_pair(LABELS))
        return c3_loss(s, rank, 0.4, has_pair(LABELS))["loss"]

    assert torch.autograd.gradcheck(loss, (s,))


@pytest.mark.parametrize("name", IMAGE_LOSSES)
def test_huge_margins_stay_finite(name: str) -> None:
    scores = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    IMAGE_LOSSES[name](scores, torch.tensor([[1, -1]], dtype=torch.int8)).sum().backward()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 0] < 0
    assert scores.grad[0, 1] > 0 or name == "asl"  # whose sigmoid is flat there


def test_the_largest_tensor_of_a_ranking_has_a_row_for_every_positive() -> None:
    labels = torch.full((4, 300), -1, dtype=torch.int8)
    labels[:, :2] = 1
    for name in RANKINGS:
        with Largest() as largest:
            IMAGE_LOSSES[name](torch.randn(4, 300, requires_grad=True), labels).sum().backward()
        assert largest.size == 8 * 300, name


def test_an_unknown_objective_lists_the_known_ones() -> None:
    with pytest.raises(
        C3Error, match="expected one of ranknet, sdl, hinge, warp, bce, asl, across, both, squares, found 'mse'"
    ):
        Objective("mse", CLASSES, WIDTH)
