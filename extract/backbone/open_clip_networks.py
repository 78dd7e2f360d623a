"""The image towers of OpenCLIP, named open_clip:ARCH or open_clip:ARCH:TAG: patch maps, and the image embedding.

Maps are those of open_clip's own `forward_intermediates`, chosen as for timm: the last one of each of the strides 8, 16
and 32, or, where all have one stride (a ViT), the blocks at one, two and three thirds of the depth, behind the last
norm. The global vector is what `encode_image` returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...common.errors import C3Error, SettingError
from ...common.optional_packages import from_disk_only, optional_package
from ..store.layout import GLOBAL_VECTOR
from .kind import Loaded
from .open_clip_models import PREFIX, architecture, load_open_clip
from .specs import REGION_SIDE, BackboneSpec, Resize, Tap, Transform

STRIDES = (8, 16, 32)
EMBEDDING = "embedding"  # the node of the global vector
PREPARED = ("mean", "std", "interpolation", "resize_mode")  # of the preprocessing of a tag


class OpenClipNetworks:
    """The kind of backbone whose names begin with `open_clip:`."""

    def spec(self, name: str, input_size: int | None) -> BackboneSpec:
        """Describe an image tower by a pass of shapes, at the size that it was trained with."""
        open_clip = optional_package("open_clip", "clip", f"--backbone {name}")
        asked, _, tag = name.removeprefix(PREFIX).partition(":")
        arch = architecture(open_clip, asked)
        with from_disk_only(), torch.device("meta"):
            tower = open_clip.create_model(arch, device="meta", pretrained_text=False).eval().visual
        transform = _transform(open_clip, arch, tag, tower.preprocess_cfg)
        side = transform.resize.side
        if input_size not in (None, side):
            raise SettingError(f"--input-size {input_size}: {PREFIX}{arch} takes {side} pixels; leave it out")
        with torch.no_grad():
            found = tower.forward_intermediates(torch.empty(1, 3, side, side, device="meta"))
        taps = _taps(arch, side, [tuple(values.shape[1:]) for values in found["image_intermediates"]])
        regions = next((tap for tap in taps[::-1] if side // tap.stride == REGION_SIDE), None)
        vector = Tap(EMBEDDING, found["image_features"].shape[1], 0)
        return BackboneSpec(name, f"{arch}:{tag}" if tag else "", taps, vector, regions, transform)

    def load(self, spec: BackboneSpec, weights: str, extras: Sequence[str]) -> Loaded:
        """Build a model with the weights of a file of both towers, of a tag in the cache, or random ones.

        Both towers are kept: the sha256 of a store is that of the class vectors that its text tower writes.
        """
        asked, _, tag = spec.name.removeprefix(PREFIX).partition(":")
        tags = optional_package("open_clip", "clip", spec.name).list_pretrained_tags_by_model(asked)
        if weights in tags or (weights == "imagenet" and not tag):
            raise C3Error(
                f"--backbone {spec.name} names no weights: give a file or random:SEED with --weights, or a tag in the "
                f"name, {PREFIX}{asked}:{weights if weights in tags else 'TAG'} (tags: {', '.join(tags) or 'none'})"
            )
        found = load_open_clip(f"{PREFIX}{asked}:{tag if weights == 'imagenet' else weights}")
        return Loaded(OpenClipTaps(found.model, spec.taps, GLOBAL_VECTOR in extras), found.name.rpartition(":")[2])


class OpenClipTaps(nn.Module):
    """A model of OpenCLIP that returns the maps of its image tower by node, and with `vector` the image embedding."""

    def __init__(self, network: nn.Module, taps: Sequence[Tap], vector: bool) -> None:
        super().__init__()
        self.network: Any = network  # open_clip has no types
        self.nodes, self.indices = [tap.node for tap in taps], [int(tap.node) for tap in taps]
        self.norm, self.vector = taps[0].norm, vector

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return (batch, channels, H, W) by node, and (batch, d_w) of the embedding as `encode_image` gives it."""
        found = self.network.visual.forward_intermediates(
            inputs,
            indices=self.indices,
            stop_early=not self.vector,
            normalize_intermediates=self.norm,
            intermediates_only=not self.vector,
            output_fmt="NCHW",
        )
        maps = dict(zip(self.nodes, found["image_intermediates"], strict=True))
        return {**maps, EMBEDDING: found["image_features"]} if self.vector else maps


def _transform(open_clip: Any, arch: str, tag: str, untagged: dict[str, Any]) -> Transform:
    """Return the preprocessing of a tag; without one, that on which all tags of the architecture agree."""
    tags = open_clip.list_pretrained_tags_by_model(arch)
    if tag and tag not in tags:
        raise C3Error(f"{PREFIX}{arch}:{tag}: expected a tag of {arch} ({', '.join(tags) or 'none'}); give a file or "
                      f"random:SEED with --weights")  # fmt: skip
    known = [untagged | _prepared(open_clip.get_pretrained_cfg(arch, name)) for name in ([tag] if tag else tags)]
    ways = [way for place, way in enumerate(known) if way not in known[:place]] or [untagged]
    if len(ways) > 1:
        raise C3Error(f"the weights of {arch} were trained with {len(ways)} kinds of preprocessing; name the tag that "
                      f"is nearest to yours: {PREFIX}{arch}:{tags[0]}, or another of {', '.join(tags)}")  # fmt: skip
    way = ways[0]
    sides = {way["size"]} if isinstance(way["size"], int) else set(way["size"])
    if len(sides) > 1 or way["resize_mode"] not in ("shortest", "squash"):
        raise C3Error(f"{PREFIX}{arch} takes pictures of {way['size']} pixels resized by {way['resize_mode']!r}; c3 "
                      "gives squares, by 'shortest' or 'squash'")  # fmt: skip
    resize = Resize(sides.pop(), way["interpolation"], way["resize_mode"])
    return Transform(tuple(way["mean"]), tuple(way["std"]), resize)


def _prepared(trained: dict[str, Any]) -> dict[str, Any]:
    return {key: trained[key] for key in PREPARED if trained.get(key) is not None}


def _taps(arch: str, side: int, shapes: Sequence[tuple[int, ...]]) -> tuple[Tap, ...]:
    """Return three taps from the shapes (channels, H, W) of all maps; the node of a tap is the number of its map."""
    strides = [side // shape[1] for shape in shapes]
    if set(STRIDES) <= set(strides):
        last = [len(strides) - 1 - strides[::-1].index(stride) for stride in STRIDES]
        return tuple(Tap(str(place), shapes[place][0], strides[place]) for place in last)
    if len(set(strides)) == 1 and len(shapes) >= len(STRIDES):
        depths = [len(shapes) * part // len(STRIDES) for part in (1, 2, 3)]
        return tuple(Tap(str(depth - 1), shapes[depth - 1][0], strides[0], depth, norm=True) for depth in depths)
    raise C3Error(
        f"{PREFIX}{arch} has no three usable maps: c3 needs those of strides 8, 16 and 32, or three blocks of one "
        f"stride; it has strides {', '.join(map(str, strides)) or 'none'}"
    )
