"""The losses that every method can be trained with, by name: the rows of the loss x head grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...common.errors import C3Error
from . import losses

IMAGE_LOSSES = {
    "ranknet": losses.ranknet,
    "sdl": losses.sdl,
    "hinge": losses.hinge,
    "warp": losses.warp,
    "bce": losses.bce,
    "asl": losses.asl,
}
ACROSS, BOTH, SQUARES = "across", "both", "squares"
OBJECTIVES = (*IMAGE_LOSSES, ACROSS, BOTH, SQUARES)
LOGITS = ("bce", "asl")  # these read scores as log-odds
SCALED = (*LOGITS, SQUARES)
PRIOR = -4.0  # log-odds of a label at the start: about one in fifty
POSITIVES, KNOWN = 1.0, 50.0  # labels counted before the first batch, so that a frequency is never 0
RIDGE = 0.01  # what a squared slope costs beside squared errors, in the regression of frequencies on word vectors


class CountsLabels(nn.Module):
    """A module that counts, in buffers, how often a label of each trained class was known and how often positive."""

    positives: Tensor
    known: Tensor

    def start_counting(self, classes: int) -> None:
        """Register the counts (classes,), which begin at a rare label."""
        self.register_buffer("positives", torch.full((classes,), POSITIVES))
        self.register_buffer("known", torch.full((classes,), KNOWN))

    def count_labels(self, labels: Tensor) -> None:
        """Add the labels (batch, classes) int8 of a batch."""
        self.positives += (labels > 0).sum(dim=0)
        self.known += (labels != 0).sum(dim=0)

    def frequency(self) -> Tensor:
        """Return p (classes,): how often a known label was positive."""
        return self.positives / self.known


class Objective(CountsLabels):
    """The loss of a batch, a scalar, from scores (batch, classes) and labels (batch, classes) int8.

    The losses of `IMAGE_LOSSES` compare the classes of an image, and the mean runs over the images. `across` compares
    the images of the batch for every class, and the mean runs over the classes. `both` is half `ranknet`, half
    `across`. `squares` fits the standardised label of every class; it needs the scores of all `classes`, whose labels
    it counts in training. All need a batch that is whole (training gathers it from all processes).

    `squares` and losses of log-odds learn a scale and an offset, the same for all classes, because an inner product
    with a word vector has neither. That leaves the ranking of classes and images as it is.

    `squares` weighs rare and frequent classes alike, so that its scores do not compare within an image. `comparable`
    undoes the standardisation outside of training: p_c + sqrt(p_c (1 - p_c)) s_c estimates the label itself. It is
    increasing in s_c, so that AP stays. log p_c is linear in the word vector of a class (ridge regression over the
    trained classes) and kept within their range. Of an interpolated vector it is the mean over the trained classes with
    the same weights.
    """

    trained: Tensor
    slope: Tensor
    typical: Tensor

    def __init__(self, name: str, classes: int, d_w: int) -> None:
        super().__init__()
        if name not in OBJECTIVES:
            raise C3Error(f"objective: expected one of {', '.join(OBJECTIVES)}, found {name!r}")
        self.name = name
        if name in SCALED:
            start = PRIOR if name in LOGITS else 0.0
            self.scale, self.offset = nn.Parameter(torch.ones(())), nn.Parameter(torch.tensor(start))
        if name == SQUARES:
            self.start_counting(classes)
            self.register_buffer("trained", torch.zeros(classes, d_w))  # word vectors
            self.register_buffer("slope", torch.zeros(d_w), persistent=False)
            self.register_buffer("typical", torch.zeros(()), persistent=False)  # log p of a vector of zeros

    def prepare(self, vectors: Tensor) -> None:
        """Keep the word vectors (classes, d_w) of the trained classes, where frequencies are asked of them."""
        if self.name == SQUARES:
            self.trained.copy_(vectors)

    def train(self, mode: bool = True) -> Objective:
        """Switch the mode; what scores outside of training follows the labels counted until then."""
        if self.name == SQUARES and not mode:
            self._fit_frequencies()
        return super().train(mode)

    @torch.no_grad()
    def _fit_frequencies(self) -> None:
        known, vectors = self.frequency().double().log(), self.trained.double()
        centre, mean = vectors.mean(dim=0), known.mean()
        centred = vectors - centre
        gram = centred.T @ centred + RIDGE * torch.eye(len(centre)).to(centred)
        slope = torch.linalg.solve(gram, centred.T @ (known - mean))
        self.slope.copy_(slope)
        self.typical.copy_(mean - centre @ slope)

    def comparable(self, scores: Tensor, vectors: Tensor | None) -> Tensor:
        """Return scores (batch, classes) of `vectors` (classes, d_w) that compare within an image, in eval mode.

        Without vectors the classes are the trained ones. Scores of other losses are returned as they are.
        """
        if self.name != SQUARES:
            return scores
        p = self.frequency()
        if vectors is not None:
            p = (self.typical + vectors.to(self.slope) @ self.slope).exp().clamp(p.min(), p.max())
        return p + (p * (1 - p)).sqrt() * self.as_read(scores)

    @property
    def asks_all(self) -> bool:
        """Return whether every step needs the scores of all trained classes."""
        return self.name == SQUARES

    def as_read(self, scores: Tensor) -> Tensor:
        """Return the scores as the loss reads them: scaled and shifted for some losses, else unchanged."""
        return self.scale * scores + self.offset if self.name in SCALED else scores

    def forward(self, scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean; `weight` (batch,) multiplies the loss of an image, in `across` that of its positives."""
        if self.name == ACROSS:
            return self._over_classes(scores, labels, weight)
        images = self._of_images(self.as_read(scores), labels)
        mean = losses.mean_over(images if weight is None else weight * images, self.usable(labels))
        return (mean + self._over_classes(scores, labels, weight)) / 2 if self.name == BOTH else mean

    def _of_images(self, scores: Tensor, labels: Tensor) -> Tensor:
        if self.name != SQUARES:
            return IMAGE_LOSSES["ranknet" if self.name == BOTH else self.name](scores, labels)
        if self.training:
            self.count_labels(labels)
        errors = losses.squared_errors(scores, labels, self.frequency())
        return errors.sum(dim=1) / (labels != 0).sum(dim=1).clamp(min=1)

    @staticmethod
    def _over_classes(scores: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        return losses.mean_over(losses.across(scores, labels, weight), losses.has_pair(labels.T))

    def usable(self, labels: Tensor) -> Tensor:
        """Return the images that a mean over images runs over, (batch,) bool.

        A ranking of classes needs a positive and a negative label, anything else any known label.
        """
        return (labels != 0).any(dim=1) if self.name in (*SCALED, ACROSS) else losses.has_pair(labels)
