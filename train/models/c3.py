"""C3-MLZSL by the equations of the paper (sections 3.2-3.4): Forward Pyramid, (ML)2P-Encoder, Group Attention."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..settings import Count, Weight
from .attention import GroupAttention, linear
from .base import Inputs, Method, MethodOptions, inner_products
from .encoder import SIDE, ChannelAttention, ML2PEncoder, PyramidProjection, StandardisedGroups
from .losses import c3_loss


@dataclass(frozen=True)
class C3Options(MethodOptions):
    """Groups g and weight lambda of L_reg (eq. 12)."""

    groups: Count = 7
    lambda_reg: Weight = 0.4


class C3(Method[Tensor]):
    """`c3`: per-group Q, K, V with a residual, linear W_Q and W_K, no sigmoid.

    `pyramid`, `encodes` and `attends` say which of the three parts a method has; the rows of Table 3 remove them.
    """

    Options = C3Options
    options: C3Options
    pyramid: ClassVar[bool] = True  # all levels, or the deepest alone
    encodes: ClassVar[bool] = True  # (ML)2P-Encoder, or only the maximum over the positions
    attends: ClassVar[bool] = True  # Group Attention, or S = X

    def __init__(self, inputs: Inputs, options: C3Options) -> None:
        super().__init__(inputs, options)
        channels = {name: inputs.channels[name] for name in self.reads(inputs)}
        self.projection = PyramidProjection(channels, options.groups, inputs.d_w)
        self._build(options.groups, inputs.d_w)

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        return tuple(inputs.channels) if cls.pyramid else (inputs.deepest,)

    def _build(self, groups: int, d_w: int) -> None:
        """Build encoder and Group Attention, with initial values that keep eq. 1-7 and give scores of order 1."""
        self.standardise = StandardisedGroups(groups, d_w, scale=d_w**-0.5)
        if self.encodes:
            self.encoder = ML2PEncoder(ChannelAttention(groups, d_w), d_w)
            for perceptron in (self.encoder.mixer.mlp1, self.encoder.mixer.mlp2):
                nn.init.zeros_(perceptron[-1].get_parameter("weight"))
                nn.init.zeros_(perceptron[-1].get_parameter("bias"))
        if self.attends:
            self.group_attention = GroupAttention(d_w, linear)
            for projection in (self.group_attention.query, self.group_attention.key):
                # S_i starts as x_i plus what the other groups have in common with it
                nn.init.eye_(projection.get_parameter("weight"))

    def cells(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return M (batch, g, 49, d_w), or F_a in a method without an encoder."""
        groups: Tensor = self.projection(arrays)
        return self.encoder.cells(groups) if self.encodes else groups

    def finished(self, x: Tensor) -> Tensor:
        """Turn the maxima over the positions (batch, g, d_w) into X."""
        standardised: Tensor = self.standardise(x)
        return standardised

    def group_vectors(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return X (batch, g, d_w), the input of Group Attention."""
        return self.finished(self.cells(arrays).amax(dim=-2))

    def relations(self, x: Tensor) -> Tensor:
        """Return (batch, g, g): how much of every group goes into S."""
        if self.attends:
            return self.group_attention.relations(x)
        return torch.eye(x.shape[1], dtype=x.dtype, device=x.device).expand(len(x), -1, -1)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return S (batch, g, d_w), eq. 7."""
        x = self.group_vectors(arrays)
        return self.group_attention(x) if self.attends else x

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """Return score_c = max over the groups of S v_c (inside eq. 8)."""
        return inner_products(embedding, vectors).amax(dim=1)

    def loss(self, embedding: Tensor, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Return the loss of eq. 12 and its parts (eq. 8-11)."""
        rank, usable = self.objective(scores, labels), self.objective.usable(labels)
        return c3_loss(embedding, rank, labels, vectors, self.options.lambda_reg, usable)

    def stages(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the maximum of F_a over the positions, and X."""
        if not self.encodes:
            return {}
        before, after = self.projection(arrays).amax(dim=-2), self.group_vectors(arrays)
        return {"without the encoder": before.flatten(1), "with the encoder": after.flatten(1)}

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
        """Return the exact share of every position in the score of every class.

        The score of a class is that of one group, a sum over groups j and dimensions d of (Q K^T)_j X_jd v_d. X_jd is
        the maximum at one position, and the term belongs to that position.
        """
        cells = self.cells(arrays)
        x, position = self.finished(cells.amax(dim=-2)), cells.argmax(dim=-2)
        relations = self.relations(x)
        winner = ((relations @ x) @ vectors.T).argmax(dim=1)  # (batch, classes)
        weights = relations.gather(1, winner[:, :, None].expand(-1, -1, relations.shape[2]))  # (batch, classes, g)
        terms = weights[..., None] * x[:, None] * vectors[None, :, None]  # (batch, classes, g, d_w)
        shares = terms.new_zeros(*winner.shape, cells.shape[2])
        shares.scatter_add_(2, position.flatten(1)[:, None].expand(-1, len(vectors), -1), terms.flatten(2))
        return torch.unflatten(shares, 2, (SIDE, SIDE))
