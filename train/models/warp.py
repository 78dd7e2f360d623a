"""WARP (Weston et al. 2011; Gong et al. 2014): linear scores trained for the ranks of the positives."""

from __future__ import annotations

from dataclasses import dataclass

from .base import ObjectiveName
from .logistic import Logistic, LogisticOptions


@dataclass(frozen=True)
class WarpOptions(LogisticOptions):
    """The loss alone: the weighted approximate rank, with exact ranks instead of sampled ones."""

    objective: ObjectiveName = "warp"


class Warp(Logistic):
    """`warp`: s = W x + b as in `logistic`, with another loss."""

    Options = WarpOptions
