"""Group Attention (paper, section 3.3, eq. 6-7)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class GroupAttention(nn.Module):
    """S = (Q K^T) X with Q = W_Q X and K = W_K X: no softmax, cubic in X. X and S are (batch, g, d_w).

    `make` builds W_Q and W_K for a width: `linear` in the paper, `perceptron` in the authors' code.
    """

    def __init__(self, d_w: int, make: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.query, self.key = make(d_w), make(d_w)

    def relations(self, x: Tensor) -> Tensor:
        """Return Q K^T (batch, g, g): how much of every group goes into S."""
        query: Tensor = self.query(x)
        key: Tensor = self.key(x)
        return query @ key.transpose(-1, -2)

    def forward(self, x: Tensor) -> Tensor:
        return self.relations(x) @ x


def linear(d_w: int) -> nn.Linear:
    """Build W_Q or W_K of the paper."""
    return nn.Linear(d_w, d_w, bias=False)


def perceptron(d_w: int) -> nn.Sequential:
    """Build W_Q or W_K of the authors' code."""
    return nn.Sequential(nn.Linear(d_w, d_w), nn.GELU(), nn.Linear(d_w, d_w))
