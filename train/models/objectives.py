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
ACROSS, BOTH = "across", "both"
OBJECTIVES = (*IMAGE_LOSSES, ACROSS, BOTH)
LOGITS = ("bce", "asl")  # these read scores as log-odds
PRIOR = -4.0  # log-odds of a label at the start: about one in fifty


class Objective(nn.Module):
    """The loss of a batch, a scalar, from scores (batch, classes) and labels (batch, classes) int8.

    The losses of `IMAGE_LOSSES` compare the classes of an image, and the mean runs over the images. `across` compares
    the images of the batch for every class, and the mean runs over the classes. `both` is half `ranknet`, half
    `across`. All need a batch that is whole (training gathers it from all processes).

    Losses of log-odds learn a scale and an offset, the same for all classes, because an inner product with a word
    vector is not a log-odds. That leaves the ranking of classes and images as it is.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in OBJECTIVES:
            raise C3Error(f"objective: expected one of {', '.join(OBJECTIVES)}, found {name!r}")
        self.name = name
        if name in LOGITS:
            self.scale, self.offset = nn.Parameter(torch.ones(())), nn.Parameter(torch.tensor(PRIOR))

    def log_odds(self, scores: Tensor) -> Tensor:
        """Return the scores as the loss reads them: scaled and shifted for losses of log-odds, else unchanged."""
        return self.scale * scores + self.offset if self.name in LOGITS else scores

    def forward(self, scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the mean; `weight` (batch,) multiplies the loss of an image, in `across` that of its positives."""
        if self.name == ACROSS:
            return self._over_classes(scores, labels, weight)
        images = IMAGE_LOSSES["ranknet" if self.name == BOTH else self.name](self.log_odds(scores), labels)
        mean = losses.mean_over(images if weight is None else weight * images, self.usable(labels))
        return (mean + self._over_classes(scores, labels, weight)) / 2 if self.name == BOTH else mean

    @staticmethod
    def _over_classes(scores: Tensor, labels: Tensor, weight: Tensor | None) -> Tensor:
        return losses.mean_over(losses.across(scores, labels, weight), losses.has_pair(labels.T))

    def usable(self, labels: Tensor) -> Tensor:
        """Return the images that a mean over images runs over, (batch,) bool.

        A ranking of classes needs a positive and a negative label, anything else any known label.
        """
        return (labels != 0).any(dim=1) if self.name in (*LOGITS, ACROSS) else losses.has_pair(labels)
