"""Bilinear attention (Kim, Jun, Zhang, NeurIPS 2018) with one attention map per label, as in LESA's table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from ..settings import Count
from .base import Inputs, Method, MethodOptions, ObjectiveName, inner_products
from .regions import Regions, as_cells, as_maps


@dataclass(frozen=True)
class KimOptions(MethodOptions):
    """`hidden`: width of the space in which regions and labels are compared."""

    objective: ObjectiveName = "hinge"
    hidden: Count = 512


class Kim(Method[tuple[Tensor, Tensor]]):
    """`kim`: a_rc = p^T (ReLU(U F_r) * ReLU(Q v_c)), alpha = softmax over r, s_c = sum_r alpha_rc (F_r W) v_c.

    The attended feature of every label, (batch, classes, channels), is never built: W comes before the sum.
    """

    Options = KimOptions
    options: KimOptions
    reads = staticmethod(Regions.reads)

    def __init__(self, inputs: Inputs, options: KimOptions) -> None:
        super().__init__(inputs, options)
        self.regions = Regions(inputs)
        self.region = nn.Linear(self.regions.channels, options.hidden)
        self.label = nn.Linear(inputs.d_w, options.hidden)
        nn.init.normal_(self.label.weight)  # a word vector has norm 1: the default would leave all attention flat
        self.mix = nn.Parameter(torch.randn(options.hidden) * options.hidden**-0.5)
        self.project = nn.Linear(self.regions.channels, inputs.d_w, bias=False)

    def forward(self, arrays: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return F W (batch, positions, d_w) and p ReLU(U F) (batch, positions, hidden)."""
        cells = as_cells(self.regions(arrays))
        return self.project(cells), relu(self.region(cells)) * self.mix

    def shares(self, embedding: tuple[Tensor, Tensor], vectors: Tensor) -> Tensor:
        """Return (batch, positions, classes): what every position adds to the score."""
        projected, keys = embedding
        attention = inner_products(keys, relu(self.label(vectors))).softmax(dim=1)
        return attention * inner_products(projected, vectors)

    def scores(self, embedding: tuple[Tensor, Tensor], vectors: Tensor) -> Tensor:
        return self.shares(embedding, vectors).sum(dim=1)

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor:
        return as_maps(self.shares(self(arrays), vectors), self.regions.side)
