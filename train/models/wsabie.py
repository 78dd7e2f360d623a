"""WSABIE (Weston, Bengio, Usunier 2011): pictures and classes in one learnt space of few dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..settings import Count, Positive
from .base import Inputs, MethodOptions, ObjectiveName, inner_products
from .picture_vector import PictureMethod


@dataclass(frozen=True)
class WsabieOptions(MethodOptions):
    """`d` dimensions of the space; `max_norm` is C, the largest norm of a vector in it."""

    objective: ObjectiveName = "warp"
    d: Count = 300
    max_norm: Positive = 1.0


class Wsabie(PictureMethod):
    """`wsabie`: s_c = (V x) . e_c with a learnt e_c for every trained class, |e_c| <= C and |V_i| <= C.

    V_i is the column of V that multiplies one entry of x. Every step ends with the projection to these norms.
    """

    Options = WsabieOptions
    options: WsabieOptions
    zero_shot = False

    def __init__(self, inputs: Inputs, options: WsabieOptions) -> None:
        super().__init__(inputs, options)
        self.project = nn.Linear(self.picture.width, options.d, bias=False)
        self.classes = nn.Parameter(torch.randn(inputs.classes, options.d) * options.d**-0.5)
        self.after_step()

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return V x (batch, d)."""
        projected: Tensor = self.project(self.picture(arrays))
        return projected

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return inner_products(embedding, self.classes)

    @torch.no_grad()
    def after_step(self) -> None:
        self.classes.renorm_(p=2, dim=0, maxnorm=self.options.max_norm)
        self.project.weight.renorm_(p=2, dim=1, maxnorm=self.options.max_norm)
