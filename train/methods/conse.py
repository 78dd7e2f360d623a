"""CONSE (Norouzi et al., ICLR 2014): a classifier's most probable classes, averaged in the space of word vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .base import Inputs, Method, MethodOptions, inner_products, require_at_least
from .pooling import PictureVector


@dataclass(frozen=True)
class ConseOptions(MethodOptions):
    """T, how many of the trained classes are averaged (10 in the paper)."""

    objective: str = "bce"
    top: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, top=1)


class Conse(Method):
    """`conse`: p = sigmoid(A x + b) over the trained classes; f(x) = sum p_c v_c / sum p_c over the T largest p_c.

    The score of any class is cos(f(x), v_c). Only the classifier is trained, on its logits.
    """

    Options = ConseOptions
    asks_all = True  # the classifier has an output for every trained class

    def __init__(self, inputs: Inputs, options: ConseOptions) -> None:
        super().__init__(inputs, options)
        self.picture = PictureVector(inputs)
        self.classifier = nn.Linear(self.picture.width, inputs.classes)
        self.register_buffer("trained", torch.zeros(inputs.classes, inputs.d_w))

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        return PictureVector.reads(inputs)

    def prepare(self, vectors: Tensor) -> None:
        """Keep the vectors of the trained classes: every f(x) is made of them."""
        self.trained.copy_(vectors)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Logits (batch, trained classes)."""
        return self.classifier(self.picture(arrays))

    def training_scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """The logits themselves."""
        return embedding

    def convex_combination(self, logits: Tensor) -> Tensor:
        """f(x) (batch, d_w) of logits (batch, trained classes)."""
        probability = self.objective.log_odds(logits).sigmoid()
        top, which = probability.topk(min(self.options.top, probability.shape[1]), dim=1)
        return (top.unsqueeze(1) @ self.trained[which]).squeeze(1) / top.sum(dim=1, keepdim=True)

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        combined = self.convex_combination(embedding)
        return inner_products(normalize(combined, dim=1), normalize(vectors, dim=1))
