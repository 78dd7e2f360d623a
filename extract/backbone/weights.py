"""Load a backbone by name, with ImageNet weights, a state_dict file, or random weights by seed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

from ...common.errors import C3Error
from .network import Backbone, cut
from .specs import BackboneSpec, backbone_spec


def load_backbone(
    name: str,
    weights: str,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    extras: Sequence[str] = (),
) -> Backbone:
    """Build a backbone with `imagenet` weights, `random:SEED`, or a state_dict file (torchvision's parameter names).

    A file was made by torch.save, or is safetensors by its suffix; reading it runs no code. `extras` are the names of
    the optional arrays. Raises C3Error for an unknown name, an array that the network does not have, a file that does
    not fit, or ImageNet weights that are neither on this machine nor can be fetched.
    """
    spec = backbone_spec(name)
    spec.extras(extras)  # refused before any weights are read
    if weights == "imagenet":
        network, weights_id = _imagenet(spec), spec.weights
    elif weights.startswith("random:"):
        network, weights_id = _random(spec, weights), weights
    else:
        network, weights_id = _from_file(spec, Path(weights), extras), Path(weights).name
    return Backbone(spec, network, weights_id, precision, extras).to(device)


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
    seed = weights.removeprefix("random:")
    if not seed.isdigit():
        raise C3Error(f"--weights {weights!r}: expected random:SEED with a whole number, for example random:0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
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


def _from_file(spec: BackboneSpec, path: Path, extras: Sequence[str]) -> nn.Module:
    if not path.is_file():
        raise C3Error(
            f"--weights {os.fspath(path)!r}: no such file, and no such name in the catalog; see: c3 catalog list"
        )
    try:
        plain = path.suffix == ".safetensors"
        state = load_file(path) if plain else torch.load(path, map_location="cpu", weights_only=True)
        state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    except Exception as error:  # a damaged file raises many types, none of which says more than this
        raise C3Error(f"{path} is not a torchvision state_dict ({type(error).__name__})") from error
    network = _build(spec)
    # A file without the classifier is enough: only the layers up to the last tap are run.
    needed = cut(network, spec.taps).state_dict()
    missing = [name for name in needed if name not in state]
    if missing:
        raise C3Error(
            f"{path} is not of {spec.name}: {len(missing)} of {len(needed)} tensors missing, first {missing[0]}"
        )
    for option, tap in spec.extras(extras).items():
        needed |= (own := cut(network, [tap]).state_dict())
        missing = [name for name in own if name not in state]
        if missing:
            raise C3Error(
                f"--{option} needs {spec.name} up to {tap.node}, and {path} has no {', '.join(missing)}; use --weights "
                f"with all layers, or leave out --{option}"
            )
    wrong = [name for name in needed if needed[name].shape != state[name].shape]
    if wrong:
        shapes = f"{tuple(state[wrong[0]].shape)}, expected {tuple(needed[wrong[0]].shape)}"
        raise C3Error(f"{path} does not fit {spec.name}: {wrong[0]} is {shapes}")
    network.load_state_dict({name: state[name] for name in needed}, strict=False)
    return network
