"""A model that several processes train as if it were one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .world import World


def replicate(model: nn.Module, world: World, seed: int) -> None:
    """Give a model the weights of the first rank and batch norms over all ranks; random numbers then differ by rank.

    Names and shapes of the weights stay as they are. Alone, nothing changes.
    """
    if world.size == 1:
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, GlobalBatchNorm(child, world))
    world.copy_first(model.state_dict().values())
    if world.rank:  # dropout; the first rank goes on with the numbers that it has
        torch.manual_seed(int(np.random.SeedSequence([seed, world.rank]).generate_state(1)[0]))


class GlobalBatchNorm(_BatchNorm):
    """Batch norm whose statistics are those of the rows of all ranks; takes over a BatchNorm1d or BatchNorm2d.

    Mean and variance of every rank, weighted by its count n_r of values: mean = sum_r n_r mean_r / n and var =
    sum_r n_r (var_r + (mean_r - mean)^2) / n, which loses no digits where a mean is large beside its deviation.
    torch's SyncBatchNorm does the same on CUDA devices only.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, world: World) -> None:
        like = {"device": norm.running_mean.device, "dtype": norm.running_mean.dtype}
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, **like)
        self.load_state_dict(norm.state_dict())
        self.world = world

    def _check_input_dim(self, input: Any) -> None:
        """(rows, channels, ...) of any rank, as the two norms that it replaces take them."""

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return super().forward(values)
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        axes, shape = [0, *range(2, wide.dim())], [1, -1, *[1] * (wide.dim() - 2)]
        mean, count = wide.mean(axes), torch.full_like(self.running_mean, wide.numel() // self.num_features)
        own = torch.stack([mean, wide.var(axes, correction=0), count])
        means, variances, counts = self.world.gather(own[None], [1] * self.world.size).unbind(1)
        total = counts.sum(0)
        mean = (counts * means).sum(0) / total
        variance = (counts * (variances + (means - mean).square())).sum(0) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        scale = (variance + self.eps).rsqrt() * (1 if self.weight is None else self.weight)
        offset = 0 if self.bias is None else self.bias.view(shape)
        return ((wide - mean.view(shape)) * scale.view(shape) + offset).to(values.dtype)
