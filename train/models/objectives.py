"""The losses that every method can be trained with, by name: the rows of the loss x head grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...common.errors import C3Error
from . import losses

OBJECTIVES = {
    "ranknet": losses.ranknet,
    "sdl": losses.sdl,
    "hinge": losses.hinge,
    "warp": losses.warp,
    "bce": losses.bce,
    "asl": losses.asl,
}
LOGITS = ("bce", "asl")  # these read scores as log-odds
PRIOR = -4.0  # log-odds of a label at the start: about one in fifty


class Objective(nn.Module):
    """The loss of every image, (batch,), from scores (batch, classes) and labels (batch, classes) int8.

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

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        return OBJECTIVES[self.name](self.log_odds(scores), labels)

    def usable(self, labels: Tensor) -> Tensor:
        """Return the images that the mean runs over, (batch,) bool.

        A ranking needs a positive and a negative label, log-odds any known label.
        """
        return (labels != 0).any(dim=1) if self.name in LOGITS else losses.has_pair(labels)
