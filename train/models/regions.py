"""Where in a picture something is: the map that the methods with attention to places read."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from ...extract.store.layout import REGIONS
from .base import Inputs


class Regions(nn.Module):
    """F (batch, channels, side, side): the store's unpooled `regions` (14x14), or its deepest level (7x7) instead.

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
        """The name of the array it takes of a store."""
        return (REGIONS,) if inputs.regions else (inputs.deepest,)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        return self.standardise(arrays[self.name])


def as_cells(maps: Tensor) -> Tensor:
    """(batch, channels, side, side) -> (batch, positions, channels)."""
    return maps.flatten(start_dim=2).transpose(1, 2)


def as_maps(cells: Tensor, side: int) -> Tensor:
    """(batch, positions, channels) -> (batch, channels, side, side)."""
    return cells.transpose(1, 2).unflatten(2, (side, side))
