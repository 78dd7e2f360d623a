"""The interface of a method: what the loop, the registry and the scorer may rely on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn


@dataclass(frozen=True)
class Inputs:
    """What a method is built for: channels of each pooled level, shallow to deep, and the word-vector dimension."""

    channels: dict[str, int]
    d_w: int


class Method(nn.Module, ABC):
    """A trainable scorer of classes. A subclass is one row of a table.

    `Options` is a frozen dataclass of the settings that only this method has; recipes and `--set` fill it by name.
    """

    Options: ClassVar[type[Any]]

    def __init__(self, inputs: Inputs, options: Any) -> None:
        super().__init__()
        self.inputs, self.options = inputs, options

    @abstractmethod
    def forward(self, levels: Mapping[str, Tensor]) -> Tensor:
        """name -> (batch, channels, 7, 7) float32 levels to the embedding that `scores` compares with word vectors."""

    @abstractmethod
    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """Class scores (batch, classes); vectors is (classes, d_w) and may hold classes never trained on."""

    @abstractmethod
    def loss(self, embedding: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Scalars by name, `loss` the one to minimise; labels (batch, classes) int8 of the classes of `vectors`."""

    def stages(self, levels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name -> (batch, width) vectors of the images before and after what the method calls its encoder.

        Empty where a method has no such part; figure 3 shows them.
        """
        return {}

    def responses(self, levels: Mapping[str, Tensor], vectors: Tensor) -> Tensor | None:
        """Where in the picture the scores come from, (batch, classes, 7, 7), whose sum over positions is the score.

        None where a method does not keep track of positions; figure 6 shows them.
        """
        return None
