"""One vector of a picture, for the methods that know nothing of places."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...extract.store.layout import GLOBAL_VECTOR
from .base import Inputs, Method


class PictureVector(nn.Module):
    """x (batch, width): the store's `global` vector, or the mean and the maximum of every pooled level in its place.

    Standardised over the training pictures (batch norm without parameters): levels differ a thousandfold in scale.
    """

    def __init__(self, inputs: Inputs) -> None:
        super().__init__()
        self.names = self.reads(inputs)
        self.width = inputs.global_vector or 2 * sum(inputs.channels.values())
        self.standardise = nn.BatchNorm1d(self.width, affine=False)

    @staticmethod
    def reads(inputs: Inputs) -> tuple[str, ...]:
        """The names of the arrays it takes of a store."""
        return (GLOBAL_VECTOR,) if inputs.global_vector else tuple(inputs.channels)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        return self.standardise(
            arrays[GLOBAL_VECTOR] if GLOBAL_VECTOR in self.names else pooled(arrays[name] for name in self.names)
        )


class PictureMethod(Method):
    """A method that knows a picture by its vector alone: `self.picture` makes it."""

    def __init__(self, inputs: Inputs, options: Any) -> None:
        super().__init__(inputs, options)
        self.picture = PictureVector(inputs)

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        return PictureVector.reads(inputs)


def pooled(maps: Iterable[Tensor]) -> Tensor:
    """Mean and maximum over the positions of maps (batch, channels, side, side) -> (batch, 2 * sum of channels)."""
    flat = [level.flatten(start_dim=2) for level in maps]
    return torch.cat([part for level in flat for part in (level.mean(dim=2), level.amax(dim=2))], dim=1)
