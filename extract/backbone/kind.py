"""What a library of networks has to offer to be a kind of backbone: descriptions by name, and layers with weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from .specs import BackboneSpec

WRAPPED = "network."  # what stands before the names of the parameters where `body` holds a whole network as `network`


@dataclass(frozen=True)
class Loaded:
    """The layers of a backbone with their weights.

    `body` takes normalised pixels (batch, 3, side, side) float and returns a dictionary from the node of every tap to
    its tensor: (batch, channels, H, W), or (batch, D) of the global vector. `weights_id` is what a store calls the
    weights, `licence` the licence that they are published under, None where it is not known.
    """

    body: nn.Module
    weights_id: str
    licence: str | None = None


class Kind(Protocol):
    """The networks of one library. They are named PREFIX:NAME, those of torchvision plainly."""

    def spec(self, name: str, input_size: int | None) -> BackboneSpec:
        """Describe a network, for squares of `input_size` pixels or of the size that it was trained with.

        Raises C3Error for an unknown name, a library that is not installed, and a size that the network refuses.
        """

    def load(self, spec: BackboneSpec, weights: str, extras: Sequence[str]) -> Loaded:
        """Build a network up to its last tap, with `imagenet` (its published weights), `random:SEED` or a file.

        `extras` are the names of the optional arrays. Raises C3Error for weights that are not there or do not fit.
        """
