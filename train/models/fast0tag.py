"""Fast0Tag (Zhang, Gong, Shah, CVPR 2016): a network maps a picture to the direction that ranks its tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..settings import BelowOne, Count
from .base import Inputs, MethodOptions, inner_products
from .picture_vector import PictureMethod


@dataclass(frozen=True)
class Fast0TagOptions(MethodOptions):
    """Widths of the two hidden layers (8192 and 2048 in the paper) and dropout before the last layer."""

    hidden1: Count = 8192
    hidden2: Count = 2048
    dropout: BelowOne = 0.3


class Fast0Tag(PictureMethod):
    """`fast0tag`: f(x) by three layers, score f(x) v_c, RankNet with 1 / (|P| |N|)."""

    Options = Fast0TagOptions
    options: Fast0TagOptions

    def __init__(self, inputs: Inputs, options: Fast0TagOptions) -> None:
        super().__init__(inputs, options)
        self.network = nn.Sequential(
            nn.Linear(self.picture.width, options.hidden1),
            nn.ReLU(),
            nn.Linear(options.hidden1, options.hidden2),
            nn.ReLU(),
            nn.Dropout(options.dropout),
            nn.Linear(options.hidden2, inputs.d_w),
        )

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return f(x) (batch, d_w)."""
        direction: Tensor = self.network(self.picture(arrays))
        return direction

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return inner_products(embedding, vectors)
