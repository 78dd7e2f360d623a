"""Pool the taps of a backbone: to one grid for the Forward Pyramid (paper, section 3.2), or to a global vector."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d

from ..store.layout import GRID


def pool_levels(taps: Sequence[Tensor]) -> list[Tensor]:
    """Max-pool taps (batch, C, H, W) of any size to levels (batch, C, 7, 7).

    Where H is a multiple of 7 (28, 14, 7: VGG and ResNet at 224 pixels) the windows do not overlap, as in the paper;
    elsewhere (SqueezeNet's 27 and 13) they overlap by one.
    """
    return [adaptive_max_pool2d(tap, GRID) for tap in taps]


def pool_vector(tap: Tensor) -> Tensor:
    """Return the global vector (batch, D): a vector as it is, or the mean of a (batch, D, H, W) map over positions."""
    return tap if tap.ndim == 2 else adaptive_avg_pool2d(tap, 1).flatten(start_dim=1)
