"""CONSE (Norouzi et al., ICLR 2014): the mean word vector of the most probable classes of a classifier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..settings import Count
from .base import Inputs, MethodOptions, ObjectiveName, inner_products
from .picture_vector import PictureMethod


@dataclass(frozen=True)
class ConseOptions(MethodOptions):
    """`top`: how many of the trained classes are averaged (T in the paper, 10 there)."""

    objective: ObjectiveName = "bce"
    top: Count = 10


class ConvexCombination(nn.Module):
    """A classifier of x over the trained classes, and f = sum p_c v_c / sum p_c over its `top` most probable ones."""

    trained: Tensor

    def __init__(self, width: int, inputs: Inputs, top: int) -> None:
        super().__init__()
        self.top = min(top, inputs.classes)
        self.classifier = nn.Linear(width, inputs.classes)
        self.register_buffer("trained", torch.zeros(inputs.classes, inputs.d_w))

    def forward(self, probability: Tensor) -> Tensor:
        """Return f (batch, d_w) of probabilities (batch, trained classes)."""
        largest, which = probability.topk(self.top, dim=1)
        return (largest.unsqueeze(1) @ self.trained[which]).squeeze(1) / largest.sum(dim=1, keepdim=True)


class Conse(PictureMethod):
    """`conse`: p = sigmoid(A x + b) over the trained classes; f(x) = sum p_c v_c / sum p_c over the T largest p_c.

    The score of any class is cos(f(x), v_c). Only the classifier is trained, on its logits.
    """

    Options = ConseOptions
    options: ConseOptions
    asks_all = True  # the classifier has an output for every trained class

    def __init__(self, inputs: Inputs, options: ConseOptions) -> None:
        super().__init__(inputs, options)
        self.combination = ConvexCombination(self.picture.width, inputs, options.top)

    def prepare(self, vectors: Tensor) -> None:
        """Keep the vectors of the trained classes, of which f is the mean."""
        super().prepare(vectors)
        self.combination.trained.copy_(vectors)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return logits (batch, trained classes)."""
        logits: Tensor = self.combination.classifier(self.picture(arrays))
        return logits

    def training_scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """Return the logits themselves."""
        return embedding

    def comparable(self, scores: Tensor, vectors: Tensor) -> Tensor:
        """Return the cosines: no loss fits them."""
        return scores

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return self.compare(self.condense(embedding), vectors)

    def condense(self, embedding: Tensor) -> Tensor:
        """Return f / |f| (batch, d_w)."""
        return normalize(self.combination(self.objective.as_read(embedding).sigmoid()), dim=1)

    def compare(self, condensed: Tensor, vectors: Tensor) -> Tensor:
        return inner_products(condensed, normalize(vectors, dim=1))
