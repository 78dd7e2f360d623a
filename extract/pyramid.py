"""Forward Pyramid: the taps of a backbone, max-pooled to one grid (paper, section 3.2). Pure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from ..errors import C3Error
from .cache import GRID


def pool_levels(taps: Sequence[Tensor]) -> list[Tensor]:
    """(batch, C, H, W) taps of any size -> (batch, C, 7, 7) levels by max-pooling.

    Where H is a multiple of 7 (28, 14, 7: VGG and ResNet at 224 pixels) the windows do not overlap, as in the paper;
    elsewhere (SqueezeNet's 27 and 13) they overlap by one.
    """
    return [adaptive_max_pool2d(tap, GRID) for tap in taps]


def to_float16(level: Tensor, name: str) -> Tensor:
    """Round a level to float16; a value that float16 cannot hold is refused rather than stored as infinity."""
    largest = level.abs().amax().item() if level.numel() else 0.0
    if not largest <= torch.finfo(torch.float16).max:  # also catches NaN
        raise C3Error(f"features of level {name} reach {largest:.3g}, float16 holds up to 65504; use other --weights")
    return level.half()
