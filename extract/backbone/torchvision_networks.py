"""The networks of torchvision: built, cut at their last tap by torch.fx, with ImageNet, random or a file's weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.models.feature_extraction import create_feature_extractor

from ...common.errors import C3Error
from .kind import Loaded
from .specs import SPECS, BackboneSpec, Tap, torchvision_spec
from .weight_fit import fitted, require_all, require_fit, seed_of, weights_file
from .weight_search import search


class TorchvisionNetworks:
    """The kind of backbone whose names have no prefix."""

    def spec(self, name: str, input_size: int | None) -> BackboneSpec:
        """Describe a network; see `torchvision_spec`."""
        return torchvision_spec(name, input_size)

    def load(self, spec: BackboneSpec, weights: str, extras: Sequence[str]) -> Loaded:
        """Build a network with weights; a file has torchvision's parameter names, below keys or behind prefixes."""
        if weights == "imagenet":
            network, weights_id = _imagenet(spec), spec.weights
        elif weights.startswith("random:"):
            network, weights_id = _random(spec, weights), weights
        else:
            network, weights_id = _from_file(spec, weights, extras), Path(weights).name
        return Loaded(cut(network, (*spec.taps, *spec.extras(extras).values())), weights_id)


def cut(network: nn.Module, taps: Iterable[Tap]) -> nn.Module:
    """Return the network up to these taps, with outputs named by node: torch.fx drops every later layer."""
    extractor: nn.Module = create_feature_extractor(network.eval(), list(dict.fromkeys(tap.node for tap in taps)))
    return extractor


def fitting_backbone(content: object, besides: str = "") -> str:
    """Name the backbone that the content of a weights file does fit, as the end of a message; empty where none."""
    for other in SPECS.values():
        if other.name == besides:
            continue
        with torch.device("meta"):
            needed = cut(_build(other), other.taps).state_dict()
        places = search(content, needed)
        if places and places[0].complete(needed):
            return f"; it fits --backbone {other.name}"
    return ""


def _build(spec: BackboneSpec, weights: WeightsEnum | None = None) -> nn.Module:
    network: nn.Module = models.get_model(spec.name, weights=weights)
    return network


def _imagenet(spec: BackboneSpec) -> nn.Module:
    weights = models.get_weight(spec.weights)
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    try:
        return _build(spec, weights)
    except (OSError, RuntimeError) as error:  # no network, or a download whose hash is wrong
        raise C3Error(
            f"ImageNet weights of {spec.name} are not on this machine and could not be fetched ({error}). "
            f"Place {weights.url} at {file}, or use --weights FILE or --weights random:0"
        ) from error


def _random(spec: BackboneSpec, weights: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(weights))
        network = _build(spec)
    # Untrained residual branches would double the variance at every block (float16 overflows after 30 of them);
    # 1/sqrt(blocks) keeps the sum of all branches of the order of the input.
    blocks = [
        module
        for module in network.modules()
        if isinstance(module, models.resnet.BasicBlock | models.resnet.Bottleneck)
    ]
    for block in blocks:
        last = block.bn3 if isinstance(block, models.resnet.Bottleneck) else block.bn2
        nn.init.constant_(last.weight, len(blocks) ** -0.5)
    return network


def _from_file(spec: BackboneSpec, weights: str, extras: Sequence[str]) -> nn.Module:
    path, content = weights_file(weights)
    network = _build(spec)
    # A file without the classifier is enough: only the layers up to the last tap are run.
    needed = cut(network, spec.taps).state_dict()
    found = require_fit(spec.name, path, content, needed, lambda content: fitting_backbone(content, spec.name))
    for option, tap in spec.extras(extras).items():
        needed |= (own := cut(network, [tap]).state_dict())
        missing = [name for name in own if found.fault(name, own[name]) == "is missing"]
        if missing:
            raise C3Error(
                f"--{option} needs {spec.name} up to {tap.node}, and {path} has no {', '.join(missing)}; use --weights "
                f"with all layers, or leave out --{option}"
            )
    require_all(spec.name, path, found, needed)
    network.load_state_dict(fitted(found, needed), strict=False)
    return network
