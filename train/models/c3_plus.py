"""C3+, ours: groups of channels with a word-vector head each, a second opinion, and a ranking for each question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ..settings import Count, NotNegative, one_of
from .attention import GroupAttention, linear
from .base import Inputs, Method, MethodOptions, inner_products
from .conse import ConvexCombination
from .losses import across, has_pair, mean_over
from .objectives import IMAGE_LOSSES, Objective
from .picture_vector import pooled

RATE = 10.0  # how much faster the calibration learns than the rest: a step of Adam is the same for every weight
MOMENTUM = 0.1  # of the running spreads, as in batch norm


@dataclass(frozen=True)
class C3PlusOptions(MethodOptions):
    """`objective` ranks the classes of an image; `neighbours` weighs the second opinion, made of `top` classes.

    A ranking of the images is part of the method, so the objectives `across` and `both` do not apply.
    """

    objective: Annotated[str, one_of(IMAGE_LOSSES)] = "ranknet"
    neighbours: NotNegative = 0.5
    top: Count = 10


class C3Plus(Method[tuple[Tensor, Tensor]]):
    """`c3-plus`: two opinions about every class, and two rankings that train them and their calibration apart.

    z are the pooled channels of all levels, standardised, then of norm sqrt(width) for every picture. Mean and maximum
    of every level are a group: X_j = W_j z_j + b_j. Group Attention mixes the groups behind a gate that starts closed:
    e = sum over j of (X + gate (Q K^T) X)_j, Q and K of X with unit rows. The first opinion is r_c = e v_c.

    The second is cos(f, v_c): f averages the word vectors of what a classifier of z sees among the trained classes, as
    in CONSE. m_c = r_c / spread + neighbours cos(f, v_c) / spread, each over its running deviation between pictures.

    mAP asks how a class ranks the images, F1@K how an image ranks the classes. A ranking of the images in the batch by
    r_c trains the groups; a ranking of the classes by s_c = exp(a v_c + a_0) m_c + b v_c + b_0 trains a and b alone.
    These cannot change the order of the images for any class: neither ranking pays for the other.
    """

    Options = C3PlusOptions
    options: C3PlusOptions
    asks_all = True  # the classifier has an output for every trained class
    spread: Tensor

    def __init__(self, inputs: Inputs, options: C3PlusOptions) -> None:
        super().__init__(inputs, options)
        self.widths = [count for count in inputs.channels.values() for _ in ("mean", "maximum")]
        width, d_w = sum(self.widths), inputs.d_w
        self.standardise = nn.BatchNorm1d(width, affine=False)  # levels differ a thousandfold in scale
        heads = [nn.Linear(count, d_w) for count in self.widths]
        for head in heads:
            nn.init.uniform_(head.weight, -(width**-0.5), width**-0.5)  # e is the sum of all
            nn.init.zeros_(head.bias)
        self.heads = nn.ModuleList(heads)
        self.group_attention = GroupAttention(d_w, linear)
        for projection in (self.group_attention.query, self.group_attention.key):
            nn.init.eye_(projection.get_parameter("weight"))
        self.gate = nn.Parameter(torch.zeros(()))
        self.combination, self.presence = ConvexCombination(width, inputs, options.top), Objective("bce")
        self.register_buffer("spread", torch.ones(2))
        self.calibration = nn.Linear(d_w, 2)
        nn.init.zeros_(self.calibration.weight)
        nn.init.zeros_(self.calibration.bias)

    def prepare(self, vectors: Tensor) -> None:
        """Keep the vectors of the trained classes, for the second opinion."""
        self.combination.trained.copy_(vectors)

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return e (batch, d_w) and the classifier's logits (batch, trained classes)."""
        pooled_channels = self.standardise(pooled(arrays[name] for name in self.inputs.channels))
        z = normalize(pooled_channels, dim=1) * sum(self.widths) ** 0.5
        parts = z.split(self.widths, dim=1)
        groups = torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], dim=1)
        relations = self.group_attention.relations(normalize(groups, dim=2))
        return (groups + self.gate * (relations @ groups)).sum(dim=1), self.combination.classifier(z)

    def scores(self, embedding: tuple[Tensor, Tensor], vectors: Tensor) -> Tensor:
        return self.calibrated(self.mixed(self.opinions(embedding, vectors)), vectors)

    def training_scores(self, embedding: tuple[Tensor, Tensor], vectors: Tensor) -> Tensor:
        """Return r (batch, classes)."""
        return inner_products(embedding[0], vectors)

    def opinions(self, embedding: tuple[Tensor, Tensor], vectors: Tensor) -> Tensor:
        """Return r_c and cos(f, v_c), (2, batch, classes)."""
        return torch.stack([self.training_scores(embedding, vectors), self.second_opinion(embedding, vectors)])

    def second_opinion(self, embedding: tuple[Tensor, Tensor], vectors: Tensor) -> Tensor:
        """Return cos(f, v_c) (batch, classes)."""
        f: Tensor = self.combination(self.presence.log_odds(embedding[1]).sigmoid())
        return inner_products(normalize(f, dim=1), normalize(vectors, dim=1))

    def mixed(self, opinions: Tensor) -> Tensor:
        """Return m (batch, classes)."""
        first, second = (opinions / self.spread[:, None, None]).unbind()
        return first + self.options.neighbours * second

    def calibrated(self, mixed: Tensor, vectors: Tensor) -> Tensor:
        """Return s_c = exp(a v_c + a_0) m_c + b v_c + b_0."""
        with torch.autocast(vectors.device.type, enabled=False):
            calibration: Tensor = RATE * self.calibration(vectors)
        log_scale, offset = calibration.unbind(dim=1)
        return log_scale.exp() * mixed + offset

    def loss(
        self, embedding: tuple[Tensor, Tensor], scores: Tensor, labels: Tensor, vectors: Tensor
    ) -> dict[str, Tensor]:
        """Return the sum of three losses as `loss`, and each by its name.

        `images` ranks the images for a class, `presence` trains the classifier, `classes` ranks by the final score.
        """
        with torch.no_grad():
            opinions = torch.stack([scores, self.second_opinion(embedding, vectors)])
            if self.training:
                self.spread.lerp_(opinions.std(dim=1).mean(dim=1), MOMENTUM)
        parts = {
            "images": mean_over(across(scores, labels), has_pair(labels.T)),
            "presence": self.presence(embedding[1], labels),
            "classes": self.objective(self.calibrated(self.mixed(opinions), vectors), labels),
        }
        total = sum(parts.values(), start=scores.new_zeros(()))
        return {"loss": total} | {name: part.detach() for name, part in parts.items()}
