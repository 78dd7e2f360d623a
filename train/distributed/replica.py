"""A model that several processes train as one."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .world import World


def replicate(model: nn.Module, world: World, seed: int) -> None:
    """Give all ranks the weights of the first, batch norms over all rows, and random numbers of their own.

    Names and shapes of the weights do not change. One process alone changes nothing.
    """
    if world.size == 1:
        return
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, GlobalBatchNorm(child, world))
    world.broadcast(model.state_dict().values())
    if world.rank:  # for dropout; the first rank continues with its own numbers
        torch.manual_seed(int(np.random.SeedSequence([seed, world.rank]).generate_state(1)[0]))


class GlobalBatchNorm(_BatchNorm):
    """Batch norm over the rows of all ranks, in place of a BatchNorm1d or BatchNorm2d with momentum.

    The mean and variance of every rank are weighted by its number n_r of values: mean = sum_r n_r mean_r / n and
    var = sum_r n_r (var_r + (mean_r - mean)^2) / n, which loses no digits where a mean is large beside its deviation.
    torch's SyncBatchNorm computes the same, but only on accelerators (docs/decisions.md).
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, world: World) -> None:
        state = norm.state_dict()
        like = state["running_mean"]
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, device=like.device, dtype=like.dtype)
        self.load_state_dict(state)
        self.world = world

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept (rows, channels, ...) with any number of axes, as the two replaced norms do together."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise (rows, channels, ...) by the statistics of all ranks, in eval mode by the running ones."""
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
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return ((wide - mean.view(shape)) * scale.view(shape)).to(values.dtype)
        scale = scale * self.weight
        return ((wide - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(values.dtype)
