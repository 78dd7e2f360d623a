"""An exponential moving average of the weights, which is what is kept in their place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

RAMP = 10  # steps: the first averages follow the weights closely, or the random start would stay in them for long


class Average:
    """a_t = d_t a_(t-1) + (1 - d_t) w_t with d_t = min(decay, t / (t + RAMP)), so that a_0 leaves no trace.

    Every floating-point entry of the state is averaged. The running means and variances of batch norm are among them:
    they then belong to about the same steps as the averaged weights. Counters and index tables are those of the model.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = copied(model)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after step 0, 1, ... into the average."""
        keep = min(self.decay, step / (step + RAMP))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - keep)
            else:
                self.state[name].copy_(value)

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with the averaged weights, and its own again afterwards."""
        own = copied(model)
        model.load_state_dict(self.state)
        try:
            yield
        finally:
            model.load_state_dict(own)


def copied(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model in memory of its own, where the model is."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}
