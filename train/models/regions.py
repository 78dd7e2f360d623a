"""The feature map of a picture, for the methods that attend to positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ...extract.store.layout import REGIONS
from .base import Inputs


class Regions(nn.Module):
    """Select F (batch, channels, side, side): the store's unpooled `regions` (14x14), or else its deepest level (7x7).

    Standardised per channel over the training pictures (batch norm without parameters), so that a method starts at the
    same scale on every backbone.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        (self.name,) = self.reads(inputs)
        self.channels, self.side, _ = inputs.shape(self.name)
        self.positions = self.side**2
        self.standardise = nn.BatchNorm2d(self.channels, affine=False)

    @staticmethod
    def reads(inputs: Inputs) -> tuple[str, ...]:
        """Return the name of the array that it reads from a store."""
        return (REGIONS,) if inputs.regions else (inputs.deepest,)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        maps = arrays[self.name].contiguous(memory_format=torch.channels_last)  # so that cells are a view
        standardised: Tensor = self.standardise(maps)
        return standardised


def as_cells(maps: Tensor) -> Tensor:
    """Turn maps (batch, channels, side, side) into cells (batch, positions, channels)."""
    return maps.flatten(start_dim=2).transpose(1, 2)


def as_maps(cells: Tensor, side: int) -> Tensor:
    """Turn cells (batch, positions, channels) into maps (batch, channels, side, side)."""
    return torch.unflatten(cells.transpose(1, 2), 2, (side, side))
