"""The interface of a method: what the loop, the registry and the scorer may rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...common.errors import C3Error
from ..inputs import REGION_SIDE as REGION_SIDE
from ..inputs import Inputs as Inputs
from .losses import mean_over
from .objectives import Objective, require_objective

Embedding = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class MethodOptions:
    """Settings of a method; a subclass adds its own. `objective` is the loss of the class scores (objectives.py).

    A method whose loss is no function of class scores has options of its own, which are no subclass.
    """

    objective: str = "ranknet"

    def __post_init__(self) -> None:
        require_objective(self.objective)


class Method(nn.Module, ABC):
    """A trainable scorer of classes. A subclass is one row of a table.

    `Options` is a frozen dataclass of the settings that the method has; recipes and `--set` fill it by name.
    `zero_shot` is False for a classifier that can only score the classes it was trained on. `asks_all` is True where
    every training step needs the scores of all trained classes, not only of those with a known label in the batch.

    Several processes may share a batch (world.py): `loss` sees all its rows, `forward` and the scores only some. What
    is computed across rows is therefore a batch norm, or stands in `loss`.
    """

    Options: ClassVar[type[Any]]
    zero_shot: ClassVar[bool] = True
    asks_all: ClassVar[bool] = False

    def __init__(self, inputs: Inputs, options: Any) -> None:
        super().__init__()
        self.inputs, self.options = inputs, options
        if isinstance(options, MethodOptions):
            self.objective = Objective(options.objective)

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        """The names of the arrays that the method reads of a store; nothing else is loaded."""
        return tuple(inputs.channels)

    def prepare(self, vectors: Tensor) -> None:
        """Take what has to be known of the trained classes before the first step: (classes, d_w) word vectors."""

    @abstractmethod
    def forward(self, arrays: Mapping[str, Tensor]) -> Embedding:
        """Float32 arrays by the names of `reads`, (batch, *shape), to the embedding that `scores` compares."""

    @abstractmethod
    def scores(self, embedding: Any, vectors: Tensor) -> Tensor:
        """Class scores (batch, classes); vectors is (classes, d_w) and may hold classes never trained on.

        A method that is not `zero_shot` gives the scores of the trained classes, whatever the vectors.
        """

    def training_scores(self, embedding: Any, vectors: Tensor) -> Tensor:
        """What `loss` compares, (batch, classes): the class scores, unless a method is trained on something else."""
        return self.scores(embedding, vectors)

    def loss(self, embedding: Any, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Scalars by name, `loss` the one to minimise; float32 scores and int8 labels (batch, classes) of `vectors`."""
        return {"loss": mean_over(self.objective(scores, labels), self.objective.usable(labels))}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser takes: `params`, and the `scale` of their learning rate."""
        return [{"params": list(self.parameters()), "scale": 1.0}]

    def after_step(self) -> None:
        """Bring the weights back to where the method wants them, after every step of the optimiser."""

    def stages(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name -> (batch, width) vectors of the images before and after what the method calls its encoder.

        Empty where a method has no such part; figure 3 shows them.
        """
        return {}

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor | None:
        """Where the scores come from, (batch, classes, side, side), whose sum over the positions is the score.

        None where a method does not keep track of positions; figure 6 shows them.
        """
        return None


def inner_products(embedding: Tensor, vectors: Tensor) -> Tensor:
    """embedding (..., d_w) times vectors (classes, d_w) -> (..., classes), in float32 whatever the rest computes in.

    Half precision has three digits, and ranks are decided by less.
    """
    with torch.autocast(embedding.device.type, enabled=False):
        wide = torch.promote_types(embedding.dtype, torch.float32)
        return embedding.to(wide) @ vectors.to(wide).T


def require_at_least(options: MethodOptions, **least: float) -> None:
    """Refuse a setting that is smaller than its name allows: require_at_least(options, heads=1)."""
    for name, smallest in least.items():
        if not getattr(options, name) >= smallest:
            raise C3Error(f"setting {name}: expected at least {smallest}, found {getattr(options, name)}")
