"""Fast0Tag (Zhang, Gong, Shah, CVPR 2016): a network maps a picture to the direction that ranks its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..losses import mean_ranknet
from .base import Inputs, Method


@dataclass(frozen=True)
class Fast0TagOptions:
    """Widths of the two hidden layers (8192 and 2048 in the paper) and dropout before the last layer."""

    hidden1: int = 8192
    hidden2: int = 2048
    dropout: float = 0.3


class Fast0Tag(Method):
    """`fast0tag` on pooled levels: mean and maximum over the positions of every level stand in for fc7."""

    Options = Fast0TagOptions

    def __init__(self, inputs: Inputs, options: Fast0TagOptions) -> None:
        super().__init__(inputs, options)
        width = 2 * sum(inputs.channels.values())
        self.standardise = nn.BatchNorm1d(width, affine=False)  # levels differ a thousandfold in scale
        self.network = nn.Sequential(
            nn.Linear(width, options.hidden1),
            nn.ReLU(),
            nn.Linear(options.hidden1, options.hidden2),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden2, inputs.d_w),
        )

    def forward(self, levels: Mapping[str, Tensor]) -> Tensor:
        """f(x) (batch, d_w)."""
        maps = [levels[name].flatten(start_dim=2) for name in self.inputs.channels]
        pooled = torch.cat([part for level in maps for part in (level.mean(dim=2), level.amax(dim=2))], dim=1)
        return self.network(self.standardise(pooled))

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return embedding @ vectors.T

    def loss(self, embedding: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        return mean_ranknet(self.scores(embedding, vectors), labels)
