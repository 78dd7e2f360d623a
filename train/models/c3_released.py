"""C3-MLZSL built as in the authors' released test code, on pooled levels."""

from __future__ import annotations

from torch import Tensor

from .attention import GroupAttention, perceptron
from .c3 import C3
from .encoder import DenseChannelAttention, ML2PEncoder

START = 0.4  # factor on the last layer of W_Q and W_K: L_reg starts below L_rank (docs/decisions.md, "Scaling")


class C3Released(C3):
    """`c3-released`: dense q, k, v and a depthwise 3x3, normalised q and k, no residual, sigmoid, MLPs as W_Q, W_K."""

    def _build(self, groups: int, d_w: int) -> None:
        self.encoder = ML2PEncoder(DenseChannelAttention(groups, d_w), d_w)
        self.group_attention = GroupAttention(d_w, perceptron)

    def _scale_start(self) -> None:
        """Leave F_a and X at norms where the sigmoid is steep; there is no residual to protect."""
        for projection in (self.group_attention.query, self.group_attention.key):
            *_, last = projection.children()
            for parameter in last.parameters():
                parameter.mul_(START)

    def finished(self, x: Tensor) -> Tensor:
        """Return X (batch, g, d_w) in 0..1."""
        return super().finished(x).sigmoid()
