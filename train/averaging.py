"""An exponential moving average of the weights, which is validated and saved in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

RAMP = 10  # steps in which the average follows the weights closely, so that the random start does not stay in it


class Average:
    """The average a_t = d_t a_(t-1) + (1 - d_t) w_t with d_t = min(decay, t / (t + RAMP)); a_0 leaves no trace.

    Every floating-point entry of the state is averaged, among them the running means and variances of batch norm,
    which then belong to about the same steps as the averaged weights. Counters and index tables are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = copied(model)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after step 0, 1, ... to the average."""
        keep = min(self.decay, step / (step + RAMP))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights in the block, and its own again afterwards."""
        own = copied(model)
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(own)


def copied(model: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state of a model, on the same device."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
