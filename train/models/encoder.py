"""Forward Pyramid projection and (ML)2P-Encoder: from pooled levels to group vectors X (paper, section 3.2, eq. 1-5).

Feature maps have the layout of cells, (batch, g, positions, d_w): the paper's H x W x d_w of every group. A 1x1
convolution is then one matrix product over all cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize, scaled_dot_product_attention

WIDTH = 1024  # channels after the deepest level's convolution, twice as many as after the others: the authors' code
SIDE = 7
POSITIONS = SIDE * SIDE


class PyramidProjection(nn.Module):
    """Project levels of any channels to shuffled groups F_a (batch, g, 49, d_w).

    Each level is standardised per channel (levels differ a thousandfold in scale), then 1x1 convolution, batch norm and
    ReLU; the concatenation is projected to g * d_w channels, which are shuffled by a fixed permutation and grouped.

    `width` channels follow the deepest level, half as many each of the others. In training, `channel_dropout` of the
    standardised channels of an image are 0 at all positions. `shuffle` changes no distribution and no loss: the
    projection before it is dense, so the permutation only renames its outputs, whose initial values are alike.
    """

    shuffle: Tensor

    def __init__(
        self,
        channels: Mapping[str, int],
        groups: int,
        d_w: int,
        *,
        width: int = WIDTH,
        standardised: bool = True,
        channel_dropout: float = 0.0,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        self.levels, self.groups, self.d_w = tuple(channels), groups, d_w
        self.channel_dropout = channel_dropout
        widths = [max(width // 2, 1)] * (len(channels) - 1) + [width]
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm1d(count, affine=False) if standardised else nn.Identity(),
                nn.Linear(count, wide, bias=False),
                nn.BatchNorm1d(wide),
                nn.ReLU(),
            )
            for count, wide in zip(channels.values(), widths, strict=True)
        )
        self.project = nn.Sequential(nn.Linear(sum(widths), groups * d_w, bias=False), nn.BatchNorm1d(groups * d_w))
        order = torch.randperm if shuffle else torch.arange
        self.register_buffer("shuffle", order(groups * d_w))

    def forward(self, levels: Mapping[str, Tensor]) -> Tensor:
        batch = levels[self.levels[0]].shape[0]  # len() would fix it when the model is exported
        rows = [levels[name].flatten(start_dim=2).transpose(1, 2).flatten(0, 1) for name in self.levels]
        joined = torch.cat([self._branch(*pair) for pair in zip(self.branches, rows, strict=True)], dim=1)
        shuffled: Tensor = Permuted.apply(self.project(joined), self.shuffle)
        return shuffled.view(batch, POSITIONS, self.groups, self.d_w).transpose(1, 2)

    def _branch(self, branch: nn.Module, rows: Tensor) -> Tensor:
        standardise, *rest = branch.children()
        rows = standardise(rows)
        if self.channel_dropout and self.training:
            kept = dropout(rows.new_ones(len(rows) // POSITIONS, 1, rows.shape[1]), self.channel_dropout)
            rows = (rows.unflatten(0, (-1, POSITIONS)) * kept).flatten(0, 1)
        for layer in rest:
            rows = layer(rows)
        return rows


class Permuted(torch.autograd.Function):
    """Permute the channels of rows (n, channels). Indexing would scatter the gradient; this gathers it too."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return rows.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return gradient.index_select(1, order.argsort()), None


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return V softmax(K Q) of cells (batch, g, 49, d_w), normalised over the channels of K and V that are summed.

    Channels are the sequence and positions the features of a standard attention, so that the relation R, (d_w, d_w) for
    every image and group, is never held in memory.
    """
    # contiguous: the fused kernels take nothing else, and the fallback of torch holds all of R
    q, k, v = (part.transpose(-1, -2).contiguous() for part in (query, key, value))
    return scaled_dot_product_attention(q, k, v, scale=1.0).transpose(-1, -2)


class ChannelAttention(nn.Module):
    """Attention between the channels of a group (eq. 1-3): F + V softmax(K Q), every group with its W_Q, W_K, W_V."""

    def __init__(self, groups: int, d_w: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(groups, d_w, 3, d_w) * d_w**-0.5)  # (g, in, Q K V, out)

    def forward(self, cells: Tensor) -> Tensor:
        """Return cells of the same shape as the given ones, (batch, g, 49, d_w)."""
        batch, groups, positions, d_w = cells.shape
        rows = cells.transpose(0, 1).reshape(groups, batch * positions, d_w)
        products = (rows @ self.weight.flatten(start_dim=2)).view(groups, batch, positions, 3, d_w)
        query, key, value = products.transpose(0, 1).unbind(dim=3)
        return cells + _attend(query, key, value)


class DenseChannelAttention(nn.Module):
    """The authors' released channel attention: one dense q, k, v projection over all groups and a depthwise 3x3.

    q and k are L2-normalised over the positions, a temperature per group replaces the scale, there is no residual.
    """

    def __init__(self, groups: int, d_w: int) -> None:
        super().__init__()
        width = groups * d_w
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.local = nn.Conv2d(3 * width, 3 * width, 3, padding=1, groups=3 * width, bias=False)
        self.temperature = nn.Parameter(torch.ones(groups, 1, 1))

    def forward(self, cells: Tensor) -> Tensor:
        """Return cells of the same shape as the given ones, (batch, g, 49, d_w)."""
        batch, groups, positions, d_w = cells.shape
        mixed = self.qkv(cells.transpose(1, 2).reshape(batch, SIDE, SIDE, groups * d_w))
        local = self.local(mixed.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        query, key, value = local.reshape(batch, positions, 3, groups, d_w).permute(2, 0, 3, 1, 4)
        return _attend(normalize(query, dim=-2) * self.temperature, normalize(key, dim=-2), value)


class MixerBlock(nn.Module):
    """MLP1 over the positions of a channel and MLP2 over the channels of a position (eq. 4-5), each with a residual.

    The two MLPs are shared by the groups, as in the authors' code; `reduction` is input width over hidden width.
    """

    def __init__(self, d_w: int, reduction: int = 5) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d_w), nn.LayerNorm(d_w)
        self.mlp1 = _mlp(POSITIONS, POSITIONS // reduction)
        self.mlp2 = _mlp(d_w, max(d_w // reduction, 1))

    def forward(self, cells: Tensor) -> Tensor:
        """Return M, of the same shape as the cells (batch, g, 49, d_w)."""
        across_positions: Tensor = self.mlp1(self.norm1(cells).transpose(-1, -2)).transpose(-1, -2)
        cells = cells + across_positions
        across_channels: Tensor = self.mlp2(self.norm2(cells))
        return cells + across_channels


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class ML2PEncoder(nn.Module):
    """(ML)2P-Encoder: channel attention, the MLP block, then the maximum over the positions: X (batch, g, d_w)."""

    def __init__(self, attention: nn.Module, d_w: int) -> None:
        super().__init__()
        self.attention = attention
        self.mixer = MixerBlock(d_w)

    def cells(self, cells: Tensor) -> Tensor:
        """Return M (batch, g, 49, d_w), before the maximum over the positions."""
        mixed: Tensor = self.mixer(self.attention(cells))
        return mixed

    def forward(self, cells: Tensor) -> Tensor:
        return self.cells(cells).amax(dim=-2)


class StandardisedGroups(nn.Module):
    """X with every dimension standardised over the batch (batch norm).

    The maximum over positions gives all images nearly the same positive X, which the cubic of eq. 7 would amplify into
    the same scores for all of them ("Scaling" in docs/decisions.md).
    """

    def __init__(self, groups: int, d_w: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(groups * d_w)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise (batch, g, d_w)."""
        standardised: Tensor = self.norm(x.flatten(1))
        return standardised.view_as(x)


class UnitGroups(nn.Module):
    """X standardised over the batch, then of norm sqrt(g) for every image, times one learned number.

    S is cubic in X, so an image whose X is twice as long would have scores eight times as large, whatever it shows.
    """

    def __init__(self, groups: int, d_w: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(groups * d_w, affine=False)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise and scale (batch, g, d_w)."""
        unit: Tensor = normalize(self.norm(x.flatten(1)), dim=1).view_as(x)
        return self.scale * math.sqrt(x.shape[1]) * unit


class ScaledGroups(nn.Module):
    """X times one learned number, for all groups and dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x


def group_scale(name: str, groups: int, d_w: int) -> nn.Module:
    """Build what stands between the maxima over the positions and X: `batchnorm`, `unit`, `scalar` or `none`."""
    if name in ("batchnorm", "unit"):
        return (StandardisedGroups if name == "batchnorm" else UnitGroups)(groups, d_w)
    return ScaledGroups() if name == "scalar" else nn.Identity()
