"""Backbone: a network cut at its last tap, its preprocessing, and the hash of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from ..store.layout import FeatureArray
from .pooling import pool_levels, pool_vector
from .specs import INPUT_SIZE, BackboneSpec, Tap

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Backbone(nn.Module):
    """uint8 pictures -> pooled levels and extras, by a frozen network that stops at its last tap.

    `precision` is the number type of its arithmetic (fp32, bf16 or fp16 by autocast), `extras` the names of the
    optional arrays.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        network: nn.Module,
        weights_id: str,
        precision: str = "fp32",
        extras: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.spec = spec
        self.extras = spec.extras(extras)
        self.weights_id = weights_id
        self.precision = precision
        self.body = cut(network, (*spec.taps, *self.extras.values()))
        self.body = self.body.requires_grad_(False).to(memory_format=torch.channels_last)
        self.weights_sha256 = state_hash(self.body.state_dict())
        self.transform = transform_record(spec)
        for name in ("mean", "std"):
            values = torch.tensor(self.transform[name]).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def arrays(self) -> tuple[FeatureArray, ...]:
        """The arrays that `forward` gives, the levels first."""
        levels = (FeatureArray(tap.level, tap.channels) for tap in self.spec.taps)
        return (*levels, *(tap.array(name) for name, tap in self.extras.items()))

    def taps(self, pixels: Tensor) -> list[Tensor]:
        """(batch, 3, H, W) uint8 -> the unpooled taps, (batch, channels, H / stride, W / stride) float32 each."""
        nodes = self._nodes(pixels)
        return [nodes[tap.node] for tap in self.spec.taps]

    def _nodes(self, pixels: Tensor) -> dict[str, Tensor]:
        """Graph node -> what leaves the network there."""
        inputs = ((pixels.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with self._arithmetic(inputs.device.type):
            return self.body(inputs)

    def _arithmetic(self, device: str) -> AbstractContextManager[Any]:
        """Autocast to the precision; fp32 is what the caller computes in, whose own autocast stays."""
        return nullcontext() if self.precision == "fp32" else torch.autocast(device, PRECISIONS[self.precision])

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """(batch, 3, H, W) uint8 -> array name -> (batch, *cell) of the precision, contiguous; see `arrays`."""
        return {name: values.contiguous() for name, values in self.features(pixels).items()}

    def features(
        self, pixels: Tensor, pool: Callable[[Sequence[Tensor]], list[Tensor]] = pool_levels
    ) -> dict[str, Tensor]:
        """The same, as they leave the network and `pool`, with gradients where somebody wants them."""
        nodes = self._nodes(pixels)
        levels = pool([nodes[tap.node] for tap in self.spec.taps])
        found = {tap.level: level for tap, level in zip(self.spec.taps, levels, strict=True)}
        for name, tap in self.extras.items():
            found[name] = nodes[tap.node] if tap.stride else pool_vector(nodes[tap.node])
        return found


def cut(network: nn.Module, taps: Iterable[Tap]) -> nn.Module:
    """The network up to these taps, whose outputs are named by their nodes: torch.fx drops every layer behind."""
    return create_feature_extractor(network.eval(), list(dict.fromkeys(tap.node for tap in taps)))


def transform_record(spec: BackboneSpec) -> dict[str, Any]:
    """The preprocessing, as stored in the cache: normalisation from the weights, the crop resized to 224 x 224."""
    preset = spec.weights.transforms()
    return {
        "size": [INPUT_SIZE, INPUT_SIZE],
        "interpolation": "bilinear, antialiased",
        "mean": list(preset.mean),
        "std": list(preset.std),
    }


def state_hash(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and float32 bytes of the tensors: the same for equal weights from any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
