"""Loss functions, one equation each. Labels are +1 positive, -1 negative, 0 unknown and without influence."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import softplus

NORMALISERS = ("paper", "positives")


def ranknet(scores: Tensor, labels: Tensor, normaliser: str = "paper") -> Tensor:
    """L_rank of every image (eq. 8-9): sum over (negative, positive) pairs of log(1 + exp(s_n - s_p)), normalised.

    scores (batch, classes) float, labels (batch, classes) in {-1, 0, +1} -> (batch,). `normaliser` is `paper`,
    1 / (|P| |N|), or `positives`, 1 / |P| (the authors' earlier SDL code). An image without a pair gives 0.
    The largest tensor is (positives in the batch, classes): pairs are indexed from their positive.
    """
    negative = labels < 0
    image, positive = (labels > 0).nonzero(as_tuple=True)
    violation = softplus(scores[image] - scores[image, positive].unsqueeze(1)) * negative[image]
    total = scores.new_zeros(len(scores)).index_add(0, image, violation.sum(dim=1))
    positives, negatives = (labels > 0).sum(dim=1), negative.sum(dim=1)
    count = positives * negatives if normaliser == "paper" else positives
    return total / count.clamp(min=1)


def image_weight(labels: Tensor, vectors: Tensor) -> Tensor:
    """omega of every image (eq. 10): 1 + the sum over dimensions of the variance of the positives' word vectors.

    labels (batch, classes), vectors (classes, d_w) -> (batch,). Unbiased variance; fewer than two positives add 0.
    """
    positive = (labels > 0).to(vectors.dtype)
    count = positive.sum(dim=1, keepdim=True)
    mean = positive @ vectors / count.clamp(min=1)
    # sum_p |v_p - mean|^2 = sum_p |v_p|^2 - count |mean|^2
    squares = positive @ vectors.square().sum(dim=1, keepdim=True) - count * mean.square().sum(dim=1, keepdim=True)
    return 1 + (squares / (count - 1).clamp(min=1)).clamp(min=0).squeeze(1)


def group_spread(s: Tensor) -> Tensor:
    """L_reg of every image (eq. 11): L1 norm of the variance over the g rows of S. s (batch, g, d_w) -> (batch,)."""
    if s.shape[1] == 1:
        return s.new_zeros(len(s))  # one group cannot differ from itself
    return s.var(dim=1).sum(dim=1)


def c3_loss(
    s: Tensor, scores: Tensor, labels: Tensor, vectors: Tensor, lambda_reg: float, normaliser: str
) -> dict[str, Tensor]:
    """The loss of C3-MLZSL (eq. 12) and its parts, each a scalar: `loss`, `rank` (omega-weighted) and `reg`.

    The mean runs over the images that have at least one positive and one negative; without any the loss is 0.
    """
    usable = ((labels > 0).any(dim=1) & (labels < 0).any(dim=1)).to(scores.dtype)
    count = usable.sum().clamp(min=1)
    rank = (image_weight(labels, vectors) * ranknet(scores, labels, normaliser) * usable).sum() / count
    reg = (group_spread(s) * usable).sum() / count
    return {"loss": (1 - lambda_reg) * rank + lambda_reg * reg, "rank": rank.detach(), "reg": reg.detach()}


def mean_ranknet(scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The loss of Fast0Tag: RankNet with 1 / (|P| |N|), averaged over the images that have a pair."""
    usable = ((labels > 0).any(dim=1) & (labels < 0).any(dim=1)).to(scores.dtype)
    return {"loss": (ranknet(scores, labels) * usable).sum() / usable.sum().clamp(min=1)}
