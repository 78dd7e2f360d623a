"""Backbone and head as one method: pixels in, class scores out, both with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...extract.backbone.network import Backbone
from ..models.base import Embedding, Inputs, Method
from ..settings import NotNegative, Settings
from .images import PIXELS


@dataclass(frozen=True)
class EndToEndOptions(Settings):
    """`backbone_lr` is the learning rate of the backbone as a share of the head's; 0 freezes it."""

    backbone_lr: NotNegative = 0.1


class EndToEnd(Method):
    """A backbone followed by a head, which sees the features that a store would hold, without rounding to float16.

    All layers up to the last tap are tuned. The backbone stays in eval mode, as in extraction: its batch norm keeps its
    statistics and nothing is dropped. Scores and loss are those of the head.
    """

    Options = EndToEndOptions
    options: EndToEndOptions

    def __init__(self, head: Method, backbone: Backbone, options: EndToEndOptions) -> None:
        super().__init__(head.inputs, options)
        self.head, self.backbone = head, backbone
        backbone.body.requires_grad_(options.backbone_lr > 0)

    @property
    def zero_shot(self) -> bool:  # type: ignore[override]  # a class attribute of heads; here each model has its head's
        return self.head.zero_shot

    @property
    def asks_all(self) -> bool:  # type: ignore[override]
        return self.head.asks_all

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        return (PIXELS,)

    def train(self, mode: bool = True) -> EndToEnd:
        """Put the head in training mode, or in eval mode; the backbone is always in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the groups of the head and, unless it is frozen, of the backbone."""
        scale = self.options.backbone_lr
        tuned = [{"params": list(self.backbone.parameters()), "scale": scale}] if scale else []
        return [*self.head.parameter_groups(), *tuned]

    def forward(self, arrays: Mapping[str, Tensor]) -> Embedding:
        """Return the embedding of the head for pixels (batch, 3, side, side) float32 of 0..255."""
        features = self.backbone.features(arrays[PIXELS])
        embedding: Embedding = self.head({name: features[name].float() for name in self.head.reads(self.inputs)})
        return embedding

    def scores(self, embedding: Any, vectors: Tensor) -> Tensor:
        return self.head.scores(embedding, vectors)

    def training_scores(self, embedding: Any, vectors: Tensor) -> Tensor:
        return self.head.training_scores(embedding, vectors)

    def loss(self, embedding: Any, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        return self.head.loss(embedding, scores, labels, vectors)

    def after_step(self) -> None:
        self.head.after_step()
