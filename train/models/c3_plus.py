"""C3+, ours: least squares for the trained classes, and word vectors that carry what they say to any other class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ...extract.store.layout import GLOBAL_VECTOR
from ..settings import Positive, Settings, Weight
from .base import Inputs, Method, inner_products
from .losses import mean_over, squared_errors
from .objectives import CountsLabels
from .picture_vector import pooled
from .regions import as_maps
from .word_forms import whitened, whitening

MOMENTUM = 0.1  # of the running statistics, as in batch norm
FLOOR = 1e-3  # added to a deviation: a class without a positive has scores near 0


@dataclass(frozen=True)
class C3PlusOptions(Settings):
    """The numbers in the equations of `C3Plus`: `shrinkage` a, `nearness` tau, `contrast` t, `calibration` g.

    Their defaults were chosen on pretend-unseen classes (docs/results.md).
    """

    shrinkage: Weight = 0.9
    nearness: Positive = 10.0
    contrast: Positive = 0.8
    calibration: Positive = 0.3


class C3Plus(CountsLabels, Method[Tensor]):
    """`c3-plus`: every class is scored by the trained classes near its word vector and by the theme of the image.

    x is the mean and the maximum of every channel, standardised, then of norm 1. z_k = W_k x fits the standardised
    label (y_k - p_k) / sqrt(p_k (1 - p_k)) of every trained class k by least squares; p_k is its frequency. That weighs
    rare and frequent classes alike, and z_k compares images, as AP does. Below, z_k has mean 0 and deviation 1.

    u = (v / |v| - mean) C^(-1/2), of norm 1, is the word vector that both opinions use. Mean and covariance are those
    of the trained classes: C = (1 - a) cov + a I tr(cov) / d_w (a shrunk ZCA).

    - Nearness: q_ck = softmax over k of tau u_c u_k; m1_c = sum_k q_ck z_k and log p_c = sum_k q_ck log p_k. A trained
      class is nearly itself, any other is interpolated (Nadaraya and Watson, between classifiers instead of points).
    - Theme: f = sum_k pi_k u_k with pi = softmax over k of t z_k, and m2_c = (f / |f| - mean) u_c / deviation. The idea
      is that of CONSE, with all classes instead of ten.

    s_c = p_c + g sqrt(p_c (1 - p_c)) (m1_c + m2_c): the standardisation of the label undone, so that classes compare
    within an image. It is increasing in m: AP does not depend on p_c or g.
    """

    Options = C3PlusOptions
    options: C3PlusOptions
    asks_all = True  # z has a column for every trained class
    centre: Tensor
    whitening: Tensor
    trained: Tensor
    mean: Tensor
    variance: Tensor
    theme_mean: Tensor
    theme_spread: Tensor

    def __init__(self, inputs: Inputs, options: C3PlusOptions) -> None:
        super().__init__(inputs, options)
        classes, d_w = inputs.classes, inputs.d_w
        width = 2 * sum(inputs.channels.values()) or inputs.global_vector
        self.standardise = nn.BatchNorm1d(width, affine=False)  # levels differ a thousandfold in scale
        self.classifier = nn.Linear(width, classes, bias=False)
        nn.init.zeros_(self.classifier.weight)  # a convex problem: any start will do
        self.register_buffer("centre", torch.zeros(d_w))
        self.register_buffer("whitening", torch.eye(d_w))
        self.register_buffer("trained", torch.zeros(classes, d_w))  # u of the trained classes
        self.start_counting(classes)
        self.register_buffer("mean", torch.zeros(classes))  # of z between images, like the variance
        self.register_buffer("variance", torch.ones(classes))
        self.register_buffer("theme_mean", torch.zeros(d_w))  # of f / |f|
        self.register_buffer("theme_spread", torch.ones(()))  # of (f / |f|) u_k, averaged over trained classes

    def prepare(self, vectors: Tensor) -> None:
        """Keep what the word vectors of the trained classes say: their mean, their whitening and u of each."""
        for kept, found in zip((self.centre, self.whitening), whitening(vectors, self.options.shrinkage), strict=True):
            kept.copy_(found)
        self.trained.copy_(self.whitened(vectors.to(self.centre)))

    def whitened(self, vectors: Tensor) -> Tensor:
        """Return u of word vectors (classes, d_w)."""
        return whitened(vectors, self.centre, self.whitening)

    @classmethod
    def reads(cls, inputs: Inputs) -> tuple[str, ...]:
        """Return all levels, or the vector of the whole picture where there are none."""
        return (GLOBAL_VECTOR,) if inputs.global_vector and not inputs.channels else inputs.levels

    def forward(self, arrays: Mapping[str, Tensor]) -> Tensor:
        """Return z (batch, trained classes) as it was fitted."""
        maps = [arrays[name] for name in self.inputs.channels]
        x = self.standardise(pooled(maps) if maps else arrays[GLOBAL_VECTOR])
        z: Tensor = self.classifier(normalize(x, dim=1))
        return z

    def scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        return self.compare(self.condense(embedding), vectors)

    def condense(self, embedding: Tensor) -> Tensor:
        """Return z with mean 0 and deviation 1, and f / |f| - mean, side by side (batch, trained classes + d_w)."""
        z = self.compared(embedding)
        return torch.cat([z, self.theme(z) - self.theme_mean], dim=1)

    def compare(self, condensed: Tensor, vectors: Tensor) -> Tensor:
        z, away = condensed.split([len(self.mean), len(self.theme_mean)], dim=1)
        u = self.whitened(vectors)
        near = (self.options.nearness * inner_products(u, self.trained)).softmax(dim=1)
        theme = inner_products(away, u) / self.theme_spread
        p = inner_products(near, self.frequency().log()[None]).squeeze(1).exp()
        m = inner_products(z, near) + theme
        return p + self.options.calibration * (p * (1 - p)).sqrt() * m

    def responses(self, arrays: Mapping[str, Tensor], vectors: Tensor) -> Tensor | None:
        """Return the shares of the positions in the scores; None where the picture has no positions.

        z is linear in the pooled channels, once the norm of x is taken as given: a position has its part of every mean,
        and the maximum of a channel belongs to the position where it is. So the part m1 of a score is shared out
        exactly. The theme m2 is not linear in z: it is shared out by its gradient at z. What belongs to no position
        (the means of standardisation, p, and what the gradient leaves over) is spread evenly.
        """
        levels = [arrays[name].flatten(2) for name in self.inputs.channels]
        if not levels:
            return None
        places = levels[0].shape[2]
        x = self.standardise(pooled([arrays[name] for name in self.inputs.channels]))
        z, u = self.compared(self.classifier(normalize(x, dim=1))), self.whitened(vectors)
        deviation = (self.standardise.get_buffer("running_var") + self.standardise.eps).sqrt()
        weights = self.classifier.weight / deviation / (self.variance.sqrt() + FLOOR)[:, None]
        parts = torch.cat([part for level in levels for part in (level / places, _at_maximum(level))], dim=1)
        moved = (weights @ parts) / x.norm(dim=1)[:, None, None]  # (batch, trained classes, places)
        near = (self.options.nearness * inner_products(u, self.trained)).softmax(dim=1)
        pi, theme = (self.options.contrast * z).softmax(dim=1), self.theme(z)
        length = inner_products(pi, self.trained.T).norm(dim=1)[:, None, None]
        along = inner_products(theme, u)[:, :, None] * inner_products(theme, self.trained)[:, None]
        gradient = self.options.contrast * pi[:, None] * (inner_products(u, self.trained) - along)
        shares = (near + gradient / (length * self.theme_spread)) @ moved
        p = inner_products(near, self.frequency().log()[None]).squeeze(1).exp()
        shares = self.options.calibration * (p * (1 - p)).sqrt()[:, None] * shares
        rest = self.scores(self.classifier(normalize(x, dim=1)), vectors) - shares.sum(dim=2)
        every: Tensor = shares + rest[:, :, None] / places
        return as_maps(every.transpose(1, 2), arrays[next(iter(self.inputs.channels))].shape[-1])

    def training_scores(self, embedding: Tensor, vectors: Tensor) -> Tensor:
        """Return z itself."""
        return embedding

    def compared(self, z: Tensor) -> Tensor:
        """Return z (batch, trained classes) with mean 0 and deviation 1 between images."""
        return (z - self.mean) / (self.variance.sqrt() + FLOOR)

    def theme(self, z: Tensor) -> Tensor:
        """Return f / |f| (batch, d_w)."""
        return normalize(inner_products((self.options.contrast * z).softmax(dim=1), self.trained.T), dim=1)

    def loss(self, embedding: Tensor, scores: Tensor, labels: Tensor, vectors: Tensor) -> dict[str, Tensor]:
        """Return half the squared error of z over the known labels of an image, averaged over images, as `loss`.

        In training, the counts of labels and the running statistics follow the batch.
        """
        if self.training:
            self.count_labels(labels)
            self.follow(scores.detach())
        errors = squared_errors(scores, labels, self.frequency())
        return {"loss": mean_over(errors.sum(dim=1), (labels != 0).any(dim=1))}

    @torch.no_grad()
    def follow(self, z: Tensor) -> None:
        """Move the running statistics towards those of z (batch, trained classes)."""
        self.mean.lerp_(z.mean(dim=0), MOMENTUM)
        self.variance.lerp_(z.var(dim=0), MOMENTUM)
        theme = self.theme(self.compared(z))
        self.theme_mean.lerp_(theme.mean(dim=0), MOMENTUM)
        self.theme_spread.lerp_(inner_products(theme, self.trained).std(dim=0).mean(), MOMENTUM)


def _at_maximum(level: Tensor) -> Tensor:
    """Return level (batch, channels, places) with 0 everywhere but at the first maximum of a channel."""
    where = level.argmax(dim=2, keepdim=True)
    return torch.zeros_like(level).scatter(2, where, level.gather(2, where))
