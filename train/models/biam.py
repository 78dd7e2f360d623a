"""BiAM (Narayan et al., ICCV 2021): regions in the context of each other and the scene; the best few are averaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, scaled_dot_product_attention

from ..settings import BelowOne, Count
from .base import REGION_SIDE, Inputs, Method, MethodOptions, ObjectiveName, inner_products, require_heads
from .picture_vector import PictureVector
from .regions import Regions, as_cells, as_maps

SLOPE = 0.2  # of every leaky ReLU


@dataclass(frozen=True)
class BiamOptions(MethodOptions):
    """Channels d of the two blocks, heads of the region block, and how many of the 14x14 regions make a score.

    `top_regions` is scaled to the number of regions and rounded up: 6 of 196 are 2 of 49.
    """

    objective: ObjectiveName = "hinge"
    width: Count = 256
    heads: Count = 8
    top_regions: Count = 6
    dropout: BelowOne = 0.1
    scene_dropout: BelowOne = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require_heads(self.width, self.heads)


class RegionBlock(nn.Module):
    """RCB: multi-head attention between the regions, then two 1x1 layers, each with a residual; h -> e_r."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.query, self.value, self.out = (nn.Linear(width, width) for _ in range(3))
        self.key = nn.Linear(width, width, bias=False)  # a bias of the keys cancels in the softmax
        self.network = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def forward(self, cells: Tensor) -> Tensor:
        """Return cells of the same shape as the given ones, (batch, positions, width)."""
        query, key, value = (
            part(cells).unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        chance = self.dropout.p if self.training else 0.0
        mixed = scaled_dot_product_attention(query, key, value, dropout_p=chance).transpose(1, 2).flatten(2)
        cells = cells + self.dropout(self.out(mixed))
        refined: Tensor = self.network(cells)
        return cells + refined


class SceneBlock(nn.Module):
    """SCB: channels weighted by how well the mean of the regions fits the whole picture; h, x_g -> e_g."""

    def __init__(self, width: int, scene: int, dropout: float) -> None:
        super().__init__()
        self.channel = nn.Conv2d(width, width, 1)
        self.scene = nn.Sequential(nn.Dropout(dropout), nn.Linear(scene, width))
        self.local = _conv3x3(width, width)

    def forward(self, maps: Tensor, scene: Tensor) -> Tensor:
        """Return maps of the same shape as the given ones, (batch, width, side, side); scene is (batch, its width)."""
        value = leaky_relu(self.channel(maps), SLOPE)  # the query is the mean of the same map
        gate = (value.mean(dim=(2, 3)) * self.scene(scene)).sigmoid()
        gated: Tensor = gate[:, :, None, None] * value
        local: Tensor = self.local(gated)
        return gated + local


class BiAM(Method[Tensor]):
    """`biam`: e = LeakyReLU(conv 1x1 [e_r, e_g]), s_c = mean of the k largest e_r (W v_c + b) over the regions r."""

    Options = BiamOptions
    options: BiamOptions

    def __init__(self, inputs: Inputs, options: BiamOptions) -> None:
        super().__init__(inputs, options)
        self.regions, self.picture = Regions(inputs), PictureVector(inputs)
        channels, width = self.regions.channels, options.width
        self.top = -(-options.top_regions * self.regions.positions // REGION_SIDE**2)
        self.local = _conv3x3(channels, width)
        self.region_block = RegionBlock(width, options.heads, options.dropout)
        self.scene_block = SceneBlock(width, self.picture.width, options.scene_dropout)
        self.join = nn.Linear(2 * width, channels)
        self.label = nn.Linear(inputs.d_w, channels)

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*Regions.reads(inputs), *PictureVector.reads(inputs))))

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return e (batch, positions, channels)."""
        local = self.local(self.regions(arrays))
        scene = as_cells(self.scene_block(local, self.picture(arrays)))
        joined = torch.cat([self.region_block(as_cells(local)), scene], dim=2)
        return leaky_relu(self.join(joined), SLOPE)

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return self._best(embedding, vectors)[0].mean(dim=1)

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
        """Return the k best regions of a class, each with its k-th part of the score."""
        embedding = self(arrays)
        best, where = self._best(embedding, vectors)
        shares = best.new_zeros(len(best), embedding.shape[1], len(vectors)).scatter(1, where, best / self.top)
        return as_maps(shares, self.regions.side)

    def _best(self, embedding: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return the k largest region scores of every class and their positions, each (batch, k, classes)."""
        found = inner_products(embedding, self.label(vectors)).topk(self.top, dim=1)
        return found.values, found.indices


def _conv3x3(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(width))
