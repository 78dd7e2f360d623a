"""Load a backbone by name, with its published weights, a file, or random weights by seed."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...common.errors import C3Error
from ...common.memory import keep_freed_memory
from .kind import Kind
from .names import IMPORTED, PREFIXES
from .network import Backbone
from .specs import BackboneSpec
from .torchvision_networks import TorchvisionNetworks


def kind_of(name: str) -> Kind:
    """Return the kind of a backbone by the prefix of its name. Its library is imported when the kind is asked."""
    prefix, colon, _ = name.partition(":")
    if not colon:
        return TorchvisionNetworks()
    if name.startswith(IMPORTED):
        raise C3Error(
            f"features of {name} were computed outside of c3 (c3 import-features), which cannot compute them of other "
            "images"
        )
    if prefix == "timm":
        from .timm_networks import TimmNetworks

        return TimmNetworks()
    if prefix == "open_clip":
        from .open_clip_networks import OpenClipNetworks

        return OpenClipNetworks()
    raise C3Error(f"unknown kind of backbone {prefix!r} in {name!r}: expected a plain name, or {', '.join(PREFIXES)}")


def backbone_spec(name: str, input_size: int | None = None) -> BackboneSpec:
    """Describe a backbone, for squares of `input_size` pixels or those it was trained with; nothing is loaded.

    Raises C3Error for an unknown name, a library that is not installed, and a size that the network refuses.
    """
    return kind_of(name).spec(name, input_size)


def load_backbone(
    name: str,
    weights: str,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    extras: Sequence[str] = (),
    input_size: int | None = None,
) -> Backbone:
    """Build a backbone with `imagenet` weights (the published ones), `random:SEED`, or a file with its parameters.

    A file is of torch.save or safetensors, and its tensors may lie below keys and behind prefixes; reading it runs no
    code. `extras` are the names of the optional arrays, `input_size` the edge of the pictures in pixels (None: that of
    the network). Raises C3Error for an unknown name, an array that the network does not have, a file that does not fit,
    or weights that are neither on this machine nor can be fetched. On a CPU, the process keeps the memory of the maps
    from batch to batch (common/memory.py).
    """
    if torch.device(device).type == "cpu":
        keep_freed_memory()
    kind = kind_of(name)
    spec = kind.spec(name, input_size)
    spec.extras(extras)  # refused before any weights are read
    return Backbone(spec, kind.load(spec, weights, extras), precision, extras).to(device)
