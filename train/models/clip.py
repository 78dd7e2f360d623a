"""Zero-shot tagging by an image and a text tower of one space (Radford et al., ICML 2021), and a small head on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...common.errors import C3Error
from ...extract.store.layout import GLOBAL_VECTOR
from ..settings import Count, one_of
from .base import Inputs, Method, MethodOptions, inner_products
from .objectives import LOGITS

SMALLEST = 1e-6  # of a deviation of cosines
IMAGE, PROMPT, BOTH = "image", "prompt", "both"


@dataclass(frozen=True)
class ClipOptions(MethodOptions):
    """`standardise` scores over the training images of every class (`prompt`), over the classes of every image, `both`.

    The objective learns the scale and the offset that make a log-odds of a cosine.
    """

    objective: Annotated[str, one_of(LOGITS)] = "bce"
    standardise: Annotated[str, one_of(("none", IMAGE, PROMPT, BOTH))] = "none"


class Clip(Method[Tensor]):
    """`clip`: s_c = cos(x, v_c), x the image embedding of the tower that read the classes. No weight of it is trained.

    Standardised by prompt: (s_c - m_c) / d_c, with m_c = mu v_c and d_c^2 = v_c Sigma v_c from mean and covariance of
    the training images, whose labels are not looked at; so it holds for any words. By image: mean 0 and deviation 1
    over the classes that are asked for, which are then no longer independent; `prompt` comes first.
    """

    Options = ClipOptions
    image_text = True
    options: ClipOptions
    mean: Tensor
    second: Tensor
    images: Tensor

    def __init__(self, inputs: Inputs, options: ClipOptions) -> None:
        super().__init__(inputs, options)
        if inputs.global_vector != inputs.d_w:
            raise C3Error(
                f"the image embedding has {inputs.global_vector or 'no'} numbers and class vectors have {inputs.d_w}: "
                "extract with --backbone open_clip:ARCH --global, and class vectors of its text tower (c3 vectors)"
            )
        if options.standardise in (PROMPT, BOTH):
            self.register_buffer("mean", torch.zeros(inputs.d_w))
            self.register_buffer("second", torch.zeros(inputs.d_w, inputs.d_w))
            self.register_buffer("images", torch.zeros(()))

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:  # noqa: ARG003 - as of the other methods
        return (GLOBAL_VECTOR,)

    @property
    def scores_alone(self) -> bool:
        return self.options.standardise not in (IMAGE, BOTH)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the image embedding (batch, d_w) of length 1."""
        return normalize(arrays[GLOBAL_VECTOR], dim=1)

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        unit = normalize(vectors, dim=1)
        scores = inner_products(embedding, unit)
        if self.options.standardise in (PROMPT, BOTH) and self.images > 0:
            mean = inner_products(self.mean, unit)
            variance = (inner_products(unit, self.second) * unit).sum(dim=1) - mean.square()
            scores = (scores - mean) / variance.clamp_min(SMALLEST**2).sqrt()
        if self.options.standardise in (IMAGE, BOTH):
            deviation = scores.std(dim=1, correction=0, keepdim=True)
            scores = (scores - scores.mean(dim=1, keepdim=True)) / deviation.clamp_min(SMALLEST)
        return scores

    def loss(self, embedding: Tensor, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Count the images of the whole batch, which several processes may share, and return the objective's loss."""
        if self.training and self.options.standardise in (PROMPT, BOTH):
            self._observe(embedding.detach())
        return super().loss(embedding, scores, labels, vectors)

    def _observe(self, x: Tensor) -> None:
        """Add a batch to the mean (d_w,) and the second moment (d_w, d_w) of the training images."""
        self.images += len(x)
        share = len(x) / self.images
        self.mean.lerp_(x.mean(dim=0), share)
        self.second.lerp_(inner_products(x.T, x.T) / len(x), share)


@dataclass(frozen=True)
class ClipAdapterOptions(ClipOptions):
    """`width` of the bottleneck."""

    width: Count = 64


class ClipAdapter(Clip):
    """`clip-adapter`: `clip` with x + W_2 ReLU(W_1 x) in place of x (after Gao et al., IJCV 2024).

    W_2 starts at zero, so that training starts at `clip`.
    """

    Options = ClipAdapterOptions
    options: ClipAdapterOptions

    def __init__(self, inputs: Inputs, options: ClipAdapterOptions) -> None:
        super().__init__(inputs, options)
        last = nn.Linear(options.width, inputs.d_w, bias=False)
        nn.init.zeros_(last.weight)
        self.adapter = nn.Sequential(nn.Linear(inputs.d_w, options.width, bias=False), nn.ReLU(), last)

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return the adapted embedding (batch, d_w) of length 1."""
        x = normalize(arrays[GLOBAL_VECTOR], dim=1)
        return super().forward({GLOBAL_VECTOR: x + self.adapter(x)})
