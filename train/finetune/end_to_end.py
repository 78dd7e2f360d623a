"""Backbone and head as one method: pixels in, class scores out, both with gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...common.errors import C3Error
from ...extract.backbone.network import Backbone
from ..models.base import Embedding, Inputs, Method
from .images import PIXELS


@dataclass(frozen=True)
class EndToEndOptions:
    """`backbone_lr` is the learning rate of the backbone as a share of the head's; 0 freezes it."""

    backbone_lr: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.backbone_lr < float("inf"):
            raise C3Error(f"setting backbone_lr: expected 0 or a positive number, found {self.backbone_lr}")


class EndToEnd(Method):
    """A backbone followed by a head, which sees what it would see of a store, without the rounding to float16.

    All layers up to the last tap are tuned. The backbone stays in eval mode: its batch norm keeps the statistics that
    it came with, as in extraction, and nothing is dropped. Everything else is the head's.
    """

    Options = EndToEndOptions
    options: EndToEndOptions

    def __init__(self, head: Method, backbone: Backbone, options: EndToEndOptions) -> None:
        super().__init__(head.inputs, options)
        self.head, self.backbone = head, backbone
        self.zero_shot, self.asks_all = head.zero_shot, head.asks_all
        backbone.body.requires_grad_(options.backbone_lr > 0)

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        return (PIXELS,)

    def train(self, mode: bool = True) -> EndToEnd:
        """The head in training mode, or all in eval mode."""
        super().train(mode)
        self.backbone.eval()
        return self

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The head's groups and, unless it is frozen, the backbone."""
        scale = self.options.backbone_lr
        tuned = [{"params": list(self.backbone.parameters()), "scale": scale}] if scale else []
        return [*self.head.parameter_groups(), *tuned]

    def forward(self, arrays: Mapping[str, Tensor]) -> Embedding:
        """(batch, 3, 224, 224) pixels, 0..255, to the head's embedding."""
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
