"""C3-MLZSL as the authors' released test code builds it, on pooled levels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ..attention import GroupAttention, perceptron
from ..encoder import DenseChannelAttention, ML2PEncoder
from .c3 import C3


class C3Released(C3):
    """`c3-released`: dense q, k, v and a depthwise 3x3, normalised q and k, no residual, sigmoid, MLPs as W_Q, W_K."""

    def _build(self, groups: int, d_w: int) -> None:
        nn.init.ones_(
            self.pyramid.project[1].weight
        )  # the attention has no residual to protect and a sigmoid behind it
        self.encoder = ML2PEncoder(DenseChannelAttention(groups, d_w), d_w)
        self.group_attention = GroupAttention(d_w, perceptron)

    def group_vectors(self, levels: Mapping[str, Tensor]) -> Tensor:
        """X (batch, g, d_w) in 0..1."""
        return self.encoder(self.pyramid(levels)).sigmoid()
