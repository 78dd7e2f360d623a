"""Word vectors as methods take them: in training, and for any class that is asked for afterwards."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from .base import inner_products

WHITENED = ("whitened", "interpolated")  # the forms that depend on the trained classes
SHRINKAGE = 0.9  # a of `whitening`
NEARNESS = 5.0  # tau of `interpolated`


def whitening(trained: Tensor, shrinkage: float) -> tuple[Tensor, Tensor]:
    """Return mean (d_w,) and C^(-1/2) (d_w, d_w) of the directions v / |v| of word vectors (classes, d_w).

    C = (1 - a) cov + a I tr(cov) / d_w with a the `shrinkage`: a ZCA that is defined for fewer classes than dimensions.
    """
    unit = normalize(trained.double(), dim=1)
    centred = unit - unit.mean(dim=0)
    covariance, a = centred.T @ centred / len(unit), shrinkage
    shrunk = (1 - a) * covariance + a * covariance.trace() / len(covariance) * torch.eye(len(covariance)).to(unit)
    values, axes = torch.linalg.eigh(shrunk)
    return unit.mean(dim=0).to(trained), (axes * values.clamp(min=1e-12).rsqrt() @ axes.T).to(trained)


def whitened(vectors: Tensor, centre: Tensor, matrix: Tensor) -> Tensor:
    """Return u = (v / |v| - mean) C^(-1/2), of norm 1, of word vectors (classes, d_w)."""
    return normalize(inner_products(normalize(vectors, dim=1) - centre, matrix), dim=1)


class WordForm(nn.Module):
    """Turn word vectors (classes, d_w) of any classes into those that a method scores, by one of `names.WORD_FORMS`.

    - `raw`: v as it comes. `l2`: v / |v|.
    - `whitened`: u of `whitened`, by the mean and the covariance of the trained classes.
    - `interpolated`: sum_k q_k u_k over the trained classes k, with q = softmax over k of tau u u_k. A class is scored
      as the trained classes near it are; what u has beyond them, no training has seen. Training takes u_k itself.

    `trained` (trained classes, d_w) float32 is what a method is trained with; `given` are these vectors as they come.
    """

    trained: Tensor
    centre: Tensor
    matrix: Tensor

    def __init__(self, form: str, given: Tensor) -> None:
        super().__init__()
        self.form = form
        if form in WHITENED:
            centre, matrix = whitening(given, SHRINKAGE)
            self.register_buffer("centre", centre)
            self.register_buffer("matrix", matrix)
        self.register_buffer("trained", self._own(given))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (classes, d_w) float32, for scores."""
        own = self._own(vectors)
        if self.form != "interpolated":
            return own
        return (NEARNESS * inner_products(own, self.trained)).softmax(dim=1) @ self.trained

    def _own(self, vectors: Tensor) -> Tensor:
        if self.form in WHITENED:
            return whitened(vectors, self.centre, self.matrix)
        return normalize(vectors, dim=1) if self.form == "l2" else vectors
