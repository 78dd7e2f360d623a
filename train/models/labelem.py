"""LabelEM / ALE (Akata et al., CVPR 2013 and TPAMI 2016): one bilinear form between pictures and word vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from .base import Inputs, MethodOptions, ObjectiveName, inner_products
from .picture_vector import PictureMethod


@dataclass(frozen=True)
class LabelEMOptions(MethodOptions):
    """`objective: warp` is the weighting of ALE; the default is the rank loss of the table that quotes LabelEM."""

    objective: ObjectiveName = "hinge"


class LabelEM(PictureMethod):
    """`labelem`: score x^T W v_c."""

    Options = LabelEMOptions
    options: LabelEMOptions

    def __init__(self, inputs: Inputs, options: LabelEMOptions) -> None:
        super().__init__(inputs, options)
        self.compatibility = nn.Linear(self.picture.width, inputs.d_w, bias=False)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return x^T W (batch, d_w)."""
        projected: Tensor = self.compatibility(self.picture(arrays))
        return projected

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return inner_products(embedding, vectors)
