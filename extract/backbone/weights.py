"""Load a backbone by name, with ImageNet weights, a state_dict file, or random weights by seed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from ...common.errors import C3Error
from ...common.unicode_forms import on_disk
from .network import Backbone, cut
from .specs import SPECS, BackboneSpec, backbone_spec
from .weight_files import read_weights
from .weight_search import Found, named_tensors, search

LOG = logging.getLogger(__name__)


def load_backbone(
    name: str,
    weights: str,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    extras: Sequence[str] = (),
) -> Backbone:
    """Build a backbone with `imagenet` weights, `random:SEED`, or a file with torchvision's parameter names.

    A file is of torch.save or safetensors, and its tensors may lie below keys and behind prefixes; reading it runs no
    code. `extras` are the names of the optional arrays. Raises C3Error for an unknown name, an array that the network
    does not have, a file that does not fit, or ImageNet weights that are neither on this machine nor can be fetched.
    """
    spec = backbone_spec(name)
    spec.extras(extras)  # refused before any weights are read
    if weights == "imagenet":
        network, weights_id = _imagenet(spec), spec.weights
    elif weights.startswith("random:"):
        network, weights_id = _random(spec, weights), weights
    else:
        network, weights_id = _from_file(spec, on_disk(Path(weights)), extras), Path(weights).name
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
    if not _exists(path):
        raise C3Error(
            f"--weights {os.fspath(path)!r}: no such file, and no such name in the catalog; see: c3 catalog list"
        )
    network = _build(spec)
    # A file without the classifier is enough: only the layers up to the last tap are run.
    needed = cut(network, spec.taps).state_dict()
    content = read_weights(path)
    found = _require_fit(spec, path, content, needed)
    for option, tap in spec.extras(extras).items():
        needed |= (own := cut(network, [tap]).state_dict())
        missing = [name for name in own if found.fault(name, own[name]) == "is missing"]
        if missing:
            raise C3Error(
                f"--{option} needs {spec.name} up to {tap.node}, and {path} has no {', '.join(missing)}; use --weights "
                f"with all layers, or leave out --{option}"
            )
    _require_all(spec, path, found, needed)
    network.load_state_dict({name: _value(found, name, tensor) for name, tensor in needed.items()}, strict=False)
    return network


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a folder that may not be read
        return False


def _require_fit(spec: BackboneSpec, path: Path, content: object, needed: Mapping[str, Tensor]) -> Found:
    """Return the tensors that fit the network, and log where they were; say how many fit where not all do."""
    places = search(content, needed)
    if not places:
        names = named_tensors(content)
        has = f"{len(names)} tensors, such as {', '.join(names[:3])}" if names else f"no tensors, but {_kind(content)}"
        raise C3Error(f"{path} is not of {spec.name}: 0 of {len(needed)} tensors fit; it has {has}"
                      f"{_other_backbone(spec, content)}")  # fmt: skip
    best, *others = places
    if not best.complete(needed):
        _require_all(spec, path, best, needed, _other_backbone(spec, content))
    also = [found for found in others if found.complete(needed)]
    if also:
        LOG.warning("%s holds several networks that fit: %s is used, not %s", path, best.described or "the file itself",
                    ", ".join(found.described or "the file itself" for found in also))  # fmt: skip
    elif best.described:
        LOG.info("%s: the weights are under %s", path, best.described)
    return best


def _require_all(spec: BackboneSpec, path: Path, found: Found, needed: Mapping[str, Tensor], hint: str = "") -> None:
    faults = {name: fault for name, tensor in needed.items() if (fault := found.fault(name, tensor))}
    if faults:
        name, fault = next(iter(faults.items()))
        where = f" (under {found.described})" if found.described else ""
        raise C3Error(
            f"{path} does not fit {spec.name}: {len(found.fits(needed))} of {len(needed)} tensors fit{where}; the "
            f"first that does not: {name} {fault}{hint}"
        )


def _value(found: Found, name: str, needed: Tensor) -> Tensor:
    """Return a tensor in the number type that is computed with; counters that old files lack are 0."""
    tensor = found.tensors.get(name, needed)
    return tensor.float() if needed.is_floating_point() else tensor.reshape(needed.shape).to(needed.dtype)


def _other_backbone(spec: BackboneSpec, content: object) -> str:
    """Name the backbone that the file does fit."""
    for other in SPECS.values():
        if other is spec:
            continue
        with torch.device("meta"):
            needed = cut(_build(other), other.taps).state_dict()
        places = search(content, needed)
        if places and places[0].complete(needed):
            return f"; it fits --backbone {other.name}"
    return ""


def _kind(content: object) -> str:
    """Say what a file without tensors holds."""
    if isinstance(content, Mapping):
        return f"the keys {', '.join(map(str, list(content)[:5])) or '(none)'}"
    return f"a {type(content).__name__}"
