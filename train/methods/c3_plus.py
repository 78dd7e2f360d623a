"""C3+, ours: groups of channels with a word-vector head each, and a ranking for each of the two questions asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from ..attention import GroupAttention, linear
from ..encoder import POSITIONS, SIDE
from ..losses import across, has_pair, mean_over
from .base import Inputs, Method, MethodOptions, inner_products

RATE = 10.0  # how much faster the calibration moves than the rest: a step of Adam is the same for every weight


@dataclass(frozen=True)
class C3PlusOptions(MethodOptions):
    """`objective` ranks the classes of an image; the ranking of images by a class is always the same."""


class C3Plus(Method):
    """`c3-plus`: the channels of every level, by mean and by maximum, are groups with a word-vector head each.

    X_j = W_j z_j + b_j for the pooled, standardised channels z_j of group j. Group Attention mixes them behind a gate
    that starts closed: e = sum over j of (X + gate (Q K^T) X)_j, Q and K of X with unit rows, and r_c = e v_c.

    mAP asks how a class ranks the images, F1@K how an image ranks the classes. A ranking of the images in the batch by
    r_c trains everything but the calibration; a ranking of the classes by s_c = exp(a v_c + a_0) r_c + b v_c + b_0
    trains a and b alone. These cannot change the order of the images for any class: neither ranking pays for the other.
    """

    Options = C3PlusOptions

    def __init__(self, inputs: Inputs, options: C3PlusOptions) -> None:
        super().__init__(inputs, options)
        self.widths = [count for count in inputs.channels.values() for _ in ("mean", "maximum")]
        self.standardise = nn.BatchNorm1d(sum(self.widths), affine=False)  # levels differ a thousandfold in scale
        self.heads = nn.ModuleList(nn.Linear(width, inputs.d_w) for width in self.widths)
        for head in self.heads:
            nn.init.uniform_(head.weight, -(sum(self.widths) ** -0.5), sum(self.widths) ** -0.5)  # e is their sum
            nn.init.zeros_(head.bias)
        self.group_attention = GroupAttention(inputs.d_w, linear)
        for projection in (self.group_attention.query, self.group_attention.key):
            nn.init.eye_(projection.weight)
        self.gate = nn.Parameter(torch.zeros(()))
        self.calibration = nn.Linear(inputs.d_w, 2)
        nn.init.zeros_(self.calibration.weight)
        nn.init.zeros_(self.calibration.bias)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """e (batch, d_w)."""
        groups = self.group_vectors(arrays)
        return (self.shares_of_groups(groups)[:, None] @ groups).squeeze(1)

    def group_vectors(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """X (batch, g, d_w), a group for the mean and one for the maximum of every level, shallow to deep."""
        pooled = self.standardise(torch.cat([part for maps in self._flat(arrays) for part in _pooled(maps)], dim=1))
        parts = pooled.split(self.widths, dim=1)
        return torch.stack([head(part) for head, part in zip(self.heads, parts, strict=True)], dim=1)

    def shares_of_groups(self, groups: Tensor) -> Tensor:
        """(batch, g) how much of every group is in e: 1 + gate times its column of Q K^T."""
        return 1 + self.gate * self.group_attention.relations(normalize(groups, dim=2)).sum(dim=1)

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return self.calibrated(inner_products(embedding, vectors), vectors)

    def training_scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """r (batch, classes), before the calibration."""
        return inner_products(embedding, vectors)

    def calibrated(self, raw: Tensor, vectors: Tensor) -> Tensor:
        """s_c = exp(a v_c + a_0) r_c + b v_c + b_0."""
        scale, offset = self.factors(vectors)
        return scale * raw + offset

    def factors(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """(classes,) factor and (classes,) offset of every class."""
        with torch.autocast(vectors.device.type, enabled=False):
            log_scale, offset = (RATE * self.calibration(vectors)).unbind(dim=1)
        return log_scale.exp(), offset

    def loss(self, embedding: Tensor, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """`images`, the ranking of the images by a class, and `classes`, that of the classes by the final score."""
        images = mean_over(across(scores, labels), has_pair(labels.T))
        ranked = self.objective(self.calibrated(scores.detach(), vectors), labels)
        classes = mean_over(ranked, self.objective.usable(labels))
        return {"loss": images + classes, "images": images.detach(), "classes": classes.detach()}

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
        """The exact share of every position in the score of every class.

        A score is a sum over channels of a mean over the positions or of a maximum at one of them. What has no place
        (standardisation, biases, calibration) is spread evenly.
        """
        groups = self.group_vectors(arrays)
        of_group = self.shares_of_groups(groups)
        scale, offset = self.factors(vectors)
        shares = offset.expand(len(groups), -1)[..., None] / POSITIONS
        deviation = (self.standardise.running_var + self.standardise.eps).sqrt().split(self.widths)
        centre = self.standardise.running_mean.split(self.widths)
        placed = [part for maps in self._flat(arrays) for part in _placed(maps)]
        for j, (head, maps) in enumerate(zip(self.heads, placed, strict=True)):
            cells = (maps - centre[j][:, None] / POSITIONS) / deviation[j][:, None]  # (batch, channels, positions)
            found = (vectors @ head.weight) @ cells + ((vectors @ head.bias) / POSITIONS)[:, None]
            shares = shares + of_group[:, j, None, None] * scale[:, None] * found
        return shares.unflatten(2, (SIDE, SIDE))

    def _flat(self, arrays: Mapping[str, Tensor]) -> list[Tensor]:
        return [arrays[name].flatten(start_dim=2) for name in self.inputs.channels]


def _pooled(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and maximum over the positions of (batch, channels, positions)."""
    return maps.mean(dim=2), maps.amax(dim=2)


def _placed(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Where mean and maximum come from: (batch, channels, positions) each, whose sums over positions they are."""
    return maps / POSITIONS, maps * one_hot(maps.argmax(dim=2), POSITIONS)
