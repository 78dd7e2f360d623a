"""LESA (Huynh, Elhamifar, CVPR 2020): a few attention maps that all labels share; a label takes the best one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, relu

from ..settings import Count, NotNegative
from .base import Inputs, Method, MethodOptions, ObjectiveName, inner_products
from .regions import Regions, as_cells, as_maps


@dataclass(frozen=True)
class LesaOptions(MethodOptions):
    """T attention maps, the width of convolution and attention, and the weights of the three other losses."""

    objective: ObjectiveName = "hinge"
    heads: Count = 10
    width: Count = 512
    lambda_dist: NotNegative = 0.1
    lambda_global: NotNegative = 0.001
    lambda_span: NotNegative = 0.01


class SharedAttention(nn.Module):
    """Compute f (batch, positions, width) and attention logits (batch, positions, heads).

    f = ReLU(BN(conv 2x2(F))); logits = W_2 tanh(W_1 f + b_1) (+ b_2). A class is scored by the sum over the positions
    of softmax(logits) f W v_c; W is linear, so it stands after the sum, where there are fewer rows.
    """

    def __init__(self, inputs: Inputs, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.regions = Regions(inputs)
        self.side = self.regions.side
        self.local = nn.Sequential(
            nn.ZeroPad2d((0, 1, 0, 1)),  # an even window keeps the size by one more row and column at the end
            nn.Conv2d(self.regions.channels, width, 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.attention = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, heads, bias=bias))
        self.project = nn.Linear(width, inputs.d_w, bias=False)

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        cells = as_cells(self.local(self.regions(arrays)))
        return cells, self.attention(cells)

    def attended(self, cells: Tensor, logits: Tensor) -> Tensor:
        """Return z_t W (batch, heads, d_w): the mean of the positions under each attention map."""
        found: Tensor = self.project(logits.softmax(dim=1).transpose(1, 2) @ cells)
        return found


class Lesa(Method[tuple[Tensor, Tensor, Tensor]]):
    """`lesa`: s_c = max over t of z_t W v_c, loss L_rank + 0.1 L_dist + 0.001 L_global + 0.01 L_span."""

    Options = LesaOptions
    options: LesaOptions
    reads = staticmethod(Regions.reads)

    def __init__(self, inputs: Inputs, options: LesaOptions) -> None:
        super().__init__(inputs, options)
        self.shared = SharedAttention(inputs, options.width, options.heads, bias=True)  # L_span sees b_2

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return z_t W (batch, T, d_w), the mean of f W (batch, d_w) and the attention logits (batch, positions, T)."""
        cells, logits = self.shared(arrays)
        return self.shared.attended(cells, logits), self.shared.project(cells.mean(dim=1)), logits

    def scores(self, embedding: tuple[Tensor, Tensor, Tensor], vectors: Tensor) -> Tensor:
        return self.compare(self.condense(embedding), vectors)

    def condense(self, embedding: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Return z_t W (batch, T, d_w)."""
        return embedding[0]

    def compare(self, condensed: Tensor, vectors: Tensor) -> Tensor:
        return inner_products(condensed, vectors).amax(dim=1)

    def loss(
        self, embedding: tuple[Tensor, Tensor, Tensor], scores: Tensor, labels: Tensor, vectors: Tensor
    ) -> dict[str, Tensor]:
        """Return `rank`, `dist`, `global` and `span`, each without its weight, and their weighted sum as `loss`."""
        heads, mean, logits = embedding
        parts = {
            "rank": self.objective(scores, labels),
            "dist": distribution_loss(heads, labels, vectors),
            "global": global_loss(scores, inner_products(mean, vectors), labels),
            "span": span_loss(logits),
        }
        weights = (1.0, self.options.lambda_dist, self.options.lambda_global, self.options.lambda_span)
        weighted = (weight * part for weight, part in zip(weights, parts.values(), strict=True))
        total = sum(weighted, start=scores.new_zeros(()))
        return {"loss": total} | {name: part.detach() for name, part in parts.items()}

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
        """Return the share of every position in the attention map that wins a class."""
        cells, logits = self.shared(arrays)
        winner = inner_products(self.shared.attended(cells, logits), vectors).argmax(dim=1)  # (batch, classes)
        attention = logits.softmax(dim=1).gather(2, winner[:, None].expand(-1, logits.shape[1], -1))
        return as_maps(attention * inner_products(self.shared.project(cells), vectors), self.shared.side)


def distribution_loss(heads: Tensor, labels: Tensor, vectors: Tensor) -> Tensor:
    """Return L_dist, the mean over images and heads of (sum over positives c of softmax over t of z_t W v_c) squared.

    heads (batch, T, d_w). It is smallest when the positives of an image are spread over the heads.
    """
    image, positive = (labels > 0).nonzero(as_tuple=True)
    shares = (heads[image] @ vectors[positive].unsqueeze(2)).squeeze(2).softmax(dim=1)
    return heads.new_zeros(heads.shape[:2]).index_add(0, image, shares).square().mean()


def global_loss(scores: Tensor, global_scores: Tensor, labels: Tensor) -> Tensor:
    """Return L_global, the sum of max(0, -(s_c - s_c of the mean of all positions) y_c) for labels y_c."""
    return relu((global_scores - scores) * labels).sum()


def span_loss(logits: Tensor) -> Tensor:
    """Return L_span, the Frobenius norm over the batch of cosines between the attention logits of different heads.

    logits (batch, positions, T). It is smallest when the heads look at different positions.
    """
    unit = normalize(logits, dim=1)
    cosines = unit.transpose(1, 2) @ unit
    norm: Tensor = torch.linalg.vector_norm(cosines - torch.diag_embed(cosines.diagonal(dim1=1, dim2=2)))
    return norm
