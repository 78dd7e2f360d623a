"""The networks of timm, named timm:ARCHITECTURE or timm:ARCHITECTURE.TAG: what they are, and their weights.

The taps are those of timm's own `forward_intermediates`: the last map of each of the strides 8, 16 and 32, or, where
all maps have one stride (a plain ViT), the blocks at one, two and three thirds of the depth behind the last norm. A
network is described without memory for its weights, by a pass of shapes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...common.errors import C3Error, NotFound, SettingError, clipped
from ...common.optional_packages import from_disk_only, optional_package
from ..store.layout import GLOBAL_VECTOR
from .kind import Loaded
from .specs import FILTERS, REGION_SIDE, BackboneSpec, Resize, Tap, Transform
from .torchvision_networks import fitting_backbone
from .weight_fit import fitted, require_fit, seed_of, weights_file
from .weight_search import search

LOG = logging.getLogger(__name__)
PREFIX = "timm:"
STRIDES = (8, 16, 32)
VECTOR = "head"  # the node of the global vector: what stands before the classifier


class TimmNetworks:
    """The kind of backbone whose names begin with `timm:`."""

    def spec(self, name: str, input_size: int | None) -> BackboneSpec:
        """Describe a network; the taps are proved by a pass of shapes at its input size."""
        return plan_of(name, input_size).spec

    def load(self, spec: BackboneSpec, weights: str, extras: Sequence[str]) -> Loaded:
        """Build a network with the weights of its tag, random ones or a file's, and drop the layers that do not run.

        A file has timm's parameter names or any form that timm converts for this architecture.
        """
        plan = plan_of(spec.name, spec.transform.resize.side)
        vector = GLOBAL_VECTOR in extras
        if weights == "imagenet":
            return Loaded(plan.body(_published(plan), vector), spec.weights, plan.licence)
        if weights.startswith("random:"):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed_of(weights))
                return Loaded(plan.body(plan.build(), vector), weights)
        path, body = _from_file(plan, weights, vector)
        return Loaded(body, path.name, f"{plan.licence}, if {path.name} is {spec.weights}" if plan.licence else None)


@dataclass(frozen=True)
class Plan:
    """How timm makes a network and where its taps are: the arguments of `create_model`, and the numbers of the maps.

    `name` has the tag of the published weights, and `licence` is theirs. `norm` asks for the last norm behind every
    map.
    """

    spec: BackboneSpec
    name: str
    arguments: Mapping[str, Any]
    indices: tuple[int, ...]
    norm: bool
    licence: str | None

    def build(self, **arguments: Any) -> nn.Module:
        """Make the network without its classifier, with random weights unless `arguments` say otherwise."""
        network: nn.Module = _timm().create_model(self.name, num_classes=0, **self.arguments, **arguments)
        return network

    def body(self, network: nn.Module, vector: bool) -> TimmTaps:
        """Return the part of a network that runs, with or without the global vector."""
        return TimmTaps(network, [tap.node for tap in self.spec.taps], self.indices, self.norm, vector)


class TimmTaps(nn.Module):
    """A network of timm that returns its maps by node; without `vector`, layers behind the last map are dropped."""

    network: Any  # timm's own interface, without types

    def __init__(
        self, network: nn.Module, nodes: Sequence[str], indices: Sequence[int], norm: bool, vector: bool
    ) -> None:
        super().__init__()
        self.network = network
        self.nodes, self.indices, self.norm, self.vector = tuple(nodes), list(indices), norm, vector
        if not vector:
            self.network.prune_intermediate_layers(self.indices, prune_norm=not norm, prune_head=True)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return (batch, channels, H, W) by node, channels first whatever the network computes with."""
        asked = {"indices": self.indices, "norm": self.norm, "output_fmt": "NCHW"}
        if not self.vector:
            maps = self.network.forward_intermediates(inputs, **asked, stop_early=True, intermediates_only=True)
            return dict(zip(self.nodes, maps, strict=True))
        last, maps = self.network.forward_intermediates(inputs, **asked)
        return {**dict(zip(self.nodes, maps, strict=True)), VECTOR: self.network.forward_head(last, pre_logits=True)}


@cache
def plan_of(name: str, input_size: int | None) -> Plan:
    """Return the plan of timm:NAME for squares of `input_size` pixels; None is the size of its data config."""
    timm = _timm()
    name = _with_tag(name.removeprefix(PREFIX))
    network = _described(name, {})
    data = timm.data.resolve_model_data_config(network)
    native, published = data["input_size"], network.pretrained_cfg
    if native[0] != 3 or native[1] != native[2] or data["interpolation"] not in FILTERS:
        raise C3Error(f"{PREFIX}{name} takes {native} values resized by {data['interpolation']!r}; c3 gives squares "
                      f"of 3 channels, resized by {', '.join(FILTERS)}")  # fmt: skip
    side = input_size or native[2]
    strides = {entry["reduction"] for entry in list(network.feature_info)}
    if len(strides) == 1 and side % (patch := strides.pop()):  # the rest would be cut off
        raise SettingError(f"--input-size {side}: {PREFIX}{name} needs a multiple of {patch} pixels, for example "
                           f"--input-size {max(1, side // patch) * patch}")  # fmt: skip
    arguments = {"img_size": side} if published.get("fixed_input_size") and side != native[2] else {}
    if arguments:
        network = _described(name, arguments, side)
    indices, taps = _taps(name, network)
    spec = BackboneSpec(
        name=f"{PREFIX}{name}",
        weights=name,
        taps=taps,
        global_vector=Tap(VECTOR, 0, 0),
        regions=None,
        transform=Transform(data["mean"], data["std"], Resize(side, data["interpolation"])),
    )
    plan = Plan(spec, name, arguments, indices, taps[0].norm, published.get("license"))
    return _proved(plan, network, native[2])


def architectures(wanted: str) -> list[str]:
    """Return the names of timm that contain `wanted`, without tags."""
    names: list[str] = _timm().list_models(f"*{wanted}*")
    return names


def _proved(plan: Plan, network: nn.Module, native: int) -> Plan:
    """Return the plan with the width of the global vector and the map for `regions`, after a pass of shapes."""
    spec = plan.spec
    side = spec.transform.resize.side
    try:
        found = plan.body(network.eval(), True)(torch.empty(1, 3, side, side, device="meta"))
    except Exception as error:  # networks refuse a size by assertions and by errors of many types
        if side == native:  # the network itself does not fit, whatever the size
            raise C3Error(f"{spec.name} gives c3 no maps of its own size, {side} x {side} pixels "
                          f"({_first_line(error)}); choose another of c3 backbones") from error  # fmt: skip
        raise SettingError(
            f"{spec.name} cannot take pictures of {side} x {side} pixels ({_first_line(error)}); give another "
            f"--input-size; without one they have {native}"
        ) from error
    for tap in spec.taps:
        if found[tap.node].shape[:2] != (1, tap.channels):
            raise C3Error(f"{spec.name}: timm says that {tap.node} has {tap.channels} channels, and it gives "
                          f"{tuple(found[tap.node].shape)}; choose another of c3 backbones")  # fmt: skip
    regions = next((tap for tap in spec.taps if tap.stride == 16 and found[tap.node].shape[2] == REGION_SIDE), None)
    vector = Tap(VECTOR, found[VECTOR].shape[1], 0)
    return replace(plan, spec=replace(spec, global_vector=vector, regions=regions))


def _taps(name: str, network: Any) -> tuple[tuple[int, ...], tuple[Tap, ...]]:
    """Return the numbers of the maps among those of `forward_intermediates`, and their taps."""
    maps = [Tap(entry["module"], entry["num_chs"], entry["reduction"]) for entry in list(network.feature_info)]
    strides = [tap.stride for tap in maps]
    if set(STRIDES) <= set(strides):
        indices = tuple(len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES)
        return indices, tuple(maps[index] for index in indices)
    if len(set(strides)) == 1 and len(maps) >= len(STRIDES):
        depths = [len(maps) * part // len(STRIDES) for part in (1, 2, 3)]
        return tuple(depth - 1 for depth in depths), tuple(
            replace(maps[depth - 1], block=depth, norm=True) for depth in depths
        )
    raise C3Error(
        f"{PREFIX}{name} has no three usable maps: c3 needs those of strides 8, 16 and 32, or three blocks of one "
        f"stride; it has strides {', '.join(map(str, strides)) or 'none'}"
    )


def _described(name: str, arguments: Mapping[str, Any], side: int | None = None) -> Any:
    """Return a network without weights. Raises C3Error where timm cannot make it, or has no maps of it."""
    try:
        with torch.device("meta"):
            network = _timm().create_model(name, num_classes=0, **arguments)
    except Exception as error:
        asked = f" for --input-size {side}" if side else ""
        raise C3Error(f"timm cannot make {PREFIX}{name}{asked} ({_first_line(error)})") from error
    if not (hasattr(network, "forward_intermediates") and getattr(network, "feature_info", None)):
        raise C3Error(f"{PREFIX}{name} has no three usable maps: timm does not give its intermediate maps")
    return network


def _with_tag(name: str) -> str:
    """Return a name with the tag of its weights: the one given, or timm's default. Raises NotFound for others."""
    timm = _timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        near = get_close_matches(architecture, timm.list_models(), n=3)
        hint = f" Did you mean {', '.join(PREFIX + other for other in near)}?" if near else ""
        raise NotFound(f"unknown backbone {PREFIX + name!r}.{hint} See: c3 backbones FILTER")
    published = timm.models.get_pretrained_cfg(architecture, allow_unregistered=False)
    if not tag:
        return f"{architecture}.{published.tag}" if published and published.has_weights else architecture
    known = [other.partition(".")[2] for other in timm.list_pretrained(f"{architecture}.*")]
    if tag not in known:
        raise NotFound(f"timm has no weights {tag!r} of {PREFIX}{architecture}; it has {', '.join(known) or 'none'}")
    return name


def _published(plan: Plan) -> nn.Module:
    """Return the network with the weights of its tag, from the cache of timm or from where they are published."""
    try:
        with from_disk_only():
            return plan.build(pretrained=True)
    except Exception as error:  # of the hub, of the connection, of the file
        raise C3Error(
            f"weights {plan.name} of timm are not on this machine ({_first_line(error)}), and c3 downloads none; use "
            f'--weights FILE, or get them once with: python -c "import timm; timm.create_model({plan.name!r}, '
            'pretrained=True)"'
        ) from error


def _from_file(plan: Plan, weights: str, vector: bool) -> tuple[Path, TimmTaps]:
    """Return the path of a file and the layers with its weights.

    Where the file does not fit as it is, it is converted by the `checkpoint_filter_fn` of timm's module: from other
    names, and position embeddings from another input size.
    """
    path, content = weights_file(weights)
    network = plan.build()
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    body = plan.body(network, vector)
    needed = body.network.state_dict()
    places = search(content, needed)
    if convert and places and not places[0].complete(needed):
        try:
            content = convert(dict(places[0].tensors), network)
        except Exception:  # a converter meets what it does not know; the message below counts what fits
            LOG.debug("timm does not convert %s for %s", path, plan.name, exc_info=True)
    found = require_fit(plan.spec.name, path, content, needed, fitting_backbone)
    body.network.load_state_dict(fitted(found, needed))
    return path, body


def _timm() -> Any:
    return optional_package("timm", "timm", "a backbone timm:NAME")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {clipped(text.splitlines()[0])}" if text else type(error).__name__
