"""Logistic regression: one linear classifier for every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .base import Inputs, MethodOptions, ObjectiveName, inner_products
from .picture_vector import PictureMethod


@dataclass(frozen=True)
class LogisticOptions(MethodOptions):
    """The loss alone: binary cross-entropy of a sigmoid for every class."""

    objective: ObjectiveName = "bce"


class Logistic(PictureMethod):
    """`logistic`: s = W x + b. It scores the classes it was trained on and no others.

    The offset of the objective starts at the log-odds of a rare label; b is how a class differs from that.
    """

    Options = LogisticOptions
    options: LogisticOptions
    zero_shot = False

    def __init__(self, inputs: Inputs, options: LogisticOptions) -> None:
        super().__init__(inputs, options)
        self.linear = nn.Linear(self.picture.width, inputs.classes)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the scores (batch, trained classes) themselves."""
        return inner_products(self.picture(arrays), self.linear.weight) + self.linear.bias

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return embedding
