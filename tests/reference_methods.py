"""Small float64 models of a method, and its inputs by loops: what the tests of several baselines compare with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from c3.extract.store.layout import GLOBAL_VECTOR
from c3.train.models.base import Inputs, Method
from c3.train.registry import METHODS
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

LEVELS = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7)
EVERYTHING = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7, regions=3, global_vector=10)
SEEN = 7


class Largest(TorchDispatchMode):
    """Entries of the largest tensor that is made while it is active: `size`."""

    size = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: tuple[type, ...],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for value in found if isinstance(found, tuple | list) else [found]:
            if isinstance(value, Tensor):
                self.size = max(self.size, value.numel())
        return found


def build(name: str, inputs: Inputs, **settings: object) -> tuple[Method, dict[str, Tensor], Tensor, Tensor]:
    """A float64 model with filled batch statistics, two pictures, the vectors of the trained and of other classes."""
    torch.manual_seed(3)
    trained, other = torch.randn(SEEN, 6), torch.randn(4, 6, dtype=torch.float64)
    model = METHODS[name](inputs, METHODS[name].Options(**settings))
    model.prepare(trained)
    model.train()
    model({key: 3 * torch.rand(9, *inputs.shape(key)) for key in model.reads(inputs)})
    arrays = {key: 3 * torch.rand(2, *inputs.shape(key), dtype=torch.float64) for key in model.reads(inputs)}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model.double().eval(), arrays, trained.double(), other


def dot(a: Tensor, b: Tensor) -> float:
    return sum(x.item() * y.item() for x, y in zip(a, b, strict=True))


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value - max(values)) for value in values]
    return [power / sum(powers) for power in powers]


def standardised(value: Tensor, norm: nn.Module, channel: int) -> Tensor:
    """Batch norm without parameters, of one number of one channel."""
    return (value - norm.running_mean[channel]) / torch.sqrt(norm.running_var[channel] + norm.eps)


def picture(model: Method, arrays: dict[str, Tensor], image: int) -> Tensor:
    """x of one picture: the global vector, or mean and maximum of every channel of every level."""
    if GLOBAL_VECTOR in arrays:
        raw = list(arrays[GLOBAL_VECTOR][image])
    else:
        levels = [arrays[name][image].flatten(1) for name in model.inputs.channels]
        raw = [value for level in levels for part in ("mean", "amax") for value in getattr(level, part)(dim=1)]
    norm = model.picture.standardise
    return torch.stack([standardised(value, norm, i) for i, value in enumerate(raw)])


def cells(regions: nn.Module, arrays: dict[str, Tensor], image: int) -> list[Tensor]:
    """F_r of one picture, the rows of its map from the top."""
    found, side = arrays[regions.name][image], regions.side
    return [
        torch.stack([standardised(found[c, y, x], regions.standardise, c) for c in range(len(found))])
        for y in range(side)
        for x in range(side)
    ]
