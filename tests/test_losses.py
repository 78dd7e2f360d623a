"""Equations 8-12 against double loops, and what must have no influence."""

from __future__ import annotations

import math

import pytest
import torch
from c3.train.losses import c3_loss, group_spread, image_weight, mean_ranknet, ranknet
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


@pytest.fixture
def scores() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(5, 5, dtype=torch.float64, requires_grad=True)


@pytest.fixture
def vectors() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(5, 3, dtype=torch.float64)


def rank_by_hand(scores: Tensor, labels: Tensor, normaliser: str) -> float:
    scores = scores.detach()
    positives = [c for c, label in enumerate(labels) if label == 1]
    negatives = [c for c, label in enumerate(labels) if label == -1]
    total = sum(math.log(1 + math.exp(float(scores[n] - scores[p]))) for p in positives for n in negatives)
    pairs = len(positives) * len(negatives)
    return total / (pairs if normaliser == "paper" else len(positives)) if pairs else 0.0


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


@pytest.mark.parametrize("normaliser", ["paper", "positives"])
def test_ranknet_equals_a_double_loop(scores: Tensor, normaliser: str) -> None:
    expected = [rank_by_hand(scores[i], LABELS[i], normaliser) for i in range(5)]
    assert ranknet(scores, LABELS, normaliser).tolist() == pytest.approx(expected, rel=1e-12)


def test_image_weight_equals_equation_10(vectors: Tensor) -> None:
    expected = [weight_by_hand(LABELS[i], vectors) for i in range(5)]
    assert image_weight(LABELS, vectors).tolist() == pytest.approx(expected, rel=1e-12)
    assert expected[1] == expected[2] == 1.0


def test_group_spread_equals_equation_11() -> None:
    s = torch.randn(3, 4, 6, dtype=torch.float64)
    assert group_spread(s).tolist() == pytest.approx([spread_by_hand(image) for image in s], rel=1e-12)
    assert group_spread(s[:, :1]).tolist() == [0, 0, 0]


@pytest.mark.parametrize("normaliser", ["paper", "positives"])
def test_c3_loss_equals_equation_12_over_the_images_with_a_pair(
    scores: Tensor, vectors: Tensor, normaliser: str
) -> None:
    s = torch.randn(5, 4, 3, dtype=torch.float64)
    parts = c3_loss(s, scores, LABELS, vectors, 0.4, normaliser)
    usable = (0, 1)
    rank = sum(weight_by_hand(LABELS[i], vectors) * rank_by_hand(scores[i], LABELS[i], normaliser) for i in usable) / 2
    reg = sum(spread_by_hand(s[i]) for i in usable) / 2
    assert parts["rank"].item() == pytest.approx(rank, rel=1e-12)
    assert parts["reg"].item() == pytest.approx(reg, rel=1e-12)
    assert parts["loss"].item() == pytest.approx(0.6 * rank + 0.4 * reg, rel=1e-12)


def test_unknown_labels_have_no_influence(scores: Tensor) -> None:
    parts = mean_ranknet(scores, LABELS)
    parts["loss"].backward()
    assert torch.equal(scores.grad[LABELS == 0], torch.zeros((LABELS == 0).sum(), dtype=torch.float64))
    assert (scores.grad[:2][LABELS[:2] != 0] != 0).all()
    moved = scores.detach() + 100.0 * (LABELS == 0)
    assert torch.equal(mean_ranknet(moved, LABELS)["loss"], parts["loss"])


def test_a_batch_without_a_pair_gives_zero_and_no_nan(vectors: Tensor) -> None:
    scores = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    s = torch.randn(3, 4, 3, dtype=torch.float64, requires_grad=True)
    loss = c3_loss(s, scores, LABELS[2:], vectors, 0.4, "paper")["loss"]
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(scores.grad).all()
    assert torch.isfinite(s.grad).all()


def test_gradients_agree_with_finite_differences(vectors: Tensor) -> None:
    torch.manual_seed(2)
    s = torch.randn(5, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s: c3_loss(s, (s @ vectors.T).amax(dim=1), LABELS, vectors, 0.4, "paper")["loss"], (s,)
    )


def test_huge_margins_stay_finite() -> None:
    scores = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    loss = mean_ranknet(scores, torch.tensor([[1, -1]], dtype=torch.int8))["loss"]
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert torch.isfinite(scores.grad).all()
