"""One vector for the whole picture, for the methods that ignore positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ...extract.store.layout import GLOBAL_VECTOR
from .base import Inputs, Method, Settings


class PictureVector(nn.Module):
    """Compute x (batch, width): the store's global vector, or else the mean and the maximum of every pooled level.

    Standardised over the training pictures (batch norm without parameters): levels differ a thousandfold in scale.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.names = self.reads(inputs)
        self.width = inputs.global_vector or 2 * sum(inputs.channels.values())
        self.standardise = nn.BatchNorm1d(self.width, affine=False)

    @staticmethod
    def reads(inputs: Inputs) -> tuple[str, ...]:
        """Return the names of the arrays that it reads from a store."""
        return (GLOBAL_VECTOR,) if inputs.global_vector else inputs.levels

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        vector = arrays[GLOBAL_VECTOR] if GLOBAL_VECTOR in self.names else pooled(arrays[name] for name in self.names)
        standardised: Tensor = self.standardise(vector)
        return standardised


class PictureMethod(Method[Tensor]):
    """A method that reads one vector of a picture: `self.picture` computes it."""

    reads = staticmethod(PictureVector.reads)

    def __init__(self, inputs: Inputs, options: Settings) -> None:
        super().__init__(inputs, options)
        self.picture = PictureVector(inputs)


def pooled(maps: Iterable[Tensor]) -> Tensor:
    """Take mean and maximum of maps (batch, channels, side, side) over positions: (batch, 2 * sum of channels)."""
    flat = [level.flatten(start_dim=2) for level in maps]
    return torch.cat([part for level in flat for part in (level.mean(dim=2), level.amax(dim=2))], dim=1)
