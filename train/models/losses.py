"""Loss functions, one equation each.

Labels are +1 positive, -1 negative, 0 unknown and without influence. Every function of scores and labels, both (batch,
classes), returns the loss of every image, (batch,), and 0 for an image without a pair (or without a known label);
`across` returns that of every class. Pairs are indexed by their positive: the largest tensor is (positives in the
batch, classes), not (batch, classes, classes).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus

MARGIN = 1.0  # of every hinge
ASL_GAMMA, ASL_CLIP = 4.0, 0.05  # gamma- and the probability margin of Ridnik et al.; gamma+ is 0


def ranknet(scores: Tensor, labels: Tensor) -> Tensor:
    """Return L_rank (eq. 8-9), the mean over (positive, negative) pairs of log(1 + exp(s_n - s_p))."""
    return sdl(scores, labels) / _count(labels < 0)


def sdl(scores: Tensor, labels: Tensor) -> Tensor:
    """Return L_rank with 1 / |P| instead of 1 / (|P| |N|), as in the authors' earlier SDL code."""
    image, _, difference, negative = _pairs(scores, labels)
    return _per_image(labels, image, (softplus(difference) * negative).sum(dim=1)) / _count(labels > 0)


def across(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return RankNet between the images of a batch, (classes,): how well a class ranks them, as AP measures.

    For every class the mean over (image with it, image without it) pairs of log(1 + exp(s_without - s_with)). With
    `weight` (batch,), every pair counts as often as its image with the class weighs.
    """
    labels = labels.T
    name, image, difference, negative = _pairs(scores.T, labels)
    terms = (softplus(difference) * negative).sum(dim=1)
    summed = _per_image(labels, name, terms if weight is None else weight[image] * terms)
    return summed / _count(labels > 0) / _count(labels < 0)


def hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Return L_rank of LESA and BiAM, the mean of max(0, 1 + s_n - s_p) over the pairs that violate the margin."""
    image, _, difference, negative = _pairs(scores, labels)
    violation = relu(MARGIN + difference) * negative
    violated = _per_image(labels, image, (violation > 0).sum(dim=1).to(scores.dtype))
    return _per_image(labels, image, violation.sum(dim=1)) / violated.clamp(min=1)


def warp(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the weighted approximate rank (Weston et al. 2011; ALE) by exact ranks: no negative is sampled.

    rank_p is the number of negatives within the margin of positive p and L(k) = 1 + 1/2 + ... + 1/k; the loss is the
    mean over positives of L(rank_p) / rank_p times the sum of the violations. No gradient passes through the rank.
    """
    image, _, difference, negative = _pairs(scores, labels)
    violation = relu(MARGIN + difference) * negative
    rank = (violation > 0).sum(dim=1)
    harmonic = torch.cumsum(1 / torch.arange(1, scores.shape[1] + 1, device=scores.device, dtype=scores.dtype), dim=0)
    weight = harmonic[(rank - 1).clamp(min=0)] / rank.clamp(min=1)
    return _per_image(labels, image, weight * violation.sum(dim=1)) / _count(labels > 0)


def bce(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the binary cross-entropy summed over the known labels, divided by the number of positives."""
    target = (labels > 0).to(logits.dtype)
    terms = binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (terms * (labels != 0)).sum(dim=1) / _count(labels > 0)


def asl(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the asymmetric loss (Ridnik et al., ICCV 2021) with gamma+ 0, summed and divided as in `bce`.

    A negative of probability p is weighted by p_m^gamma-, p_m = max(p - clip, 0): easy negatives fade out.
    """
    shifted = (logits.sigmoid() - ASL_CLIP).clamp(min=0)
    negative = -torch.log1p(-shifted) * shifted**ASL_GAMMA
    terms = softplus(-logits) * (labels > 0) + negative * (labels < 0)
    return terms.sum(dim=1) / _count(labels > 0)


def squared_errors(scores: Tensor, labels: Tensor, frequency: Tensor) -> Tensor:
    """Return (s - (y - p) / sqrt(p (1 - p)))^2 / 2 of every label, (batch, classes), and 0 of an unknown one.

    y is 1 or 0 and p the `frequency` (classes,) of the label: a standardised label weighs rare and frequent classes
    alike, and its least squares rank the images of a class.
    """
    standardised = ((labels > 0).to(scores.dtype) - frequency) * (frequency * (1 - frequency)).rsqrt()
    return (scores - standardised).square() * (labels != 0) / 2


def has_pair(labels: Tensor) -> Tensor:
    """Return the images with a positive and a negative label, (batch,) bool."""
    return (labels > 0).any(dim=1) & (labels < 0).any(dim=1)


def mean_over(losses: Tensor, usable: Tensor) -> Tensor:
    """Return the mean of losses (batch,) over the images `usable` (batch,) bool, or 0 without any."""
    return (losses * usable).sum() / usable.sum().clamp(min=1)


def image_weight(labels: Tensor, vectors: Tensor) -> Tensor:
    """Return omega of every image (eq. 10): 1 + the sum over dimensions of the variance of its positives' vectors.

    This is the reading `between` of eq. 10; `inner_weight` is the other one.

    labels (batch, classes), vectors (classes, d_w) -> (batch,). Unbiased variance; fewer than two positives add 0.
    """
    positive = (labels > 0).to(vectors.dtype)
    count = positive.sum(dim=1, keepdim=True)
    mean = positive @ vectors / count.clamp(min=1)
    # sum_p |v_p - mean|^2 = sum_p |v_p|^2 - count |mean|^2
    squares = positive @ vectors.square().sum(dim=1, keepdim=True) - count * mean.square().sum(dim=1, keepdim=True)
    return 1 + (squares / (count - 1).clamp(min=1)).clamp(min=0).squeeze(1)


def inner_weight(labels: Tensor, vectors: Tensor) -> Tensor:
    """Return omega of every image by the reading `within` of eq. 10: 1 + the sum over its positives of var(v_p).

    var(v_p) is the unbiased variance over the d_w numbers of one vector. labels (batch, classes), vectors (classes,
    d_w) -> (batch,).
    """
    return 1 + (labels > 0).to(vectors.dtype) @ vectors.var(dim=1)


def group_spread(s: Tensor) -> Tensor:
    """Return L_reg of every image (eq. 11), (batch,): the L1 norm of the variance over the g rows of S.

    s is S, (batch, g, d_w).
    """
    if s.shape[1] == 1:
        return s.new_zeros(len(s))  # one group cannot differ from itself
    return s.var(dim=1).sum(dim=1)


def c3_loss(s: Tensor, rank: Tensor, lambda_reg: float, usable: Tensor) -> dict[str, Tensor]:
    """Return the loss of C3-MLZSL (eq. 12) and its parts, each a scalar: `loss`, `rank` and `reg`.

    rank is the mean of omega L_rank, a scalar; s is S, (batch, g, d_w). The mean of L_reg runs over the images
    `usable`, (batch,) bool.
    """
    reg = mean_over(group_spread(s), usable)
    return {"loss": (1 - lambda_reg) * rank + lambda_reg * reg, "rank": rank.detach(), "reg": reg.detach()}


def _pairs(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return for every positive: its image and class (n,), s_n - s_p of all classes (n, classes), the negatives."""
    image, positive = (labels > 0).nonzero(as_tuple=True)
    return image, positive, scores[image] - scores[image, positive].unsqueeze(1), (labels < 0)[image]


def _per_image(labels: Tensor, image: Tensor, values: Tensor) -> Tensor:
    """Sum values (n,) of positives into their images (batch,)."""
    return values.new_zeros(len(labels)).index_add(0, image, values)


def _count(chosen: Tensor) -> Tensor:
    return chosen.sum(dim=1).clamp(min=1)
