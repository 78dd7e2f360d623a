"""A network cut at its last tap: its preprocessing, what leaves it at the taps, and the hash of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_weight
from torchvision.models.feature_extraction import create_feature_extractor

from ..store.layout import FeatureArray
from .pooling import pool_levels, pool_vector
from .specs import INPUT_SIZE, BackboneSpec, Tap

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}  # fp32 is the caller's own arithmetic


class Backbone(nn.Module):
    """A frozen network that turns uint8 pictures into pooled levels and optional arrays, and stops at its last tap.

    `precision` is the number type of its arithmetic (fp32, bf16 or fp16 by autocast), `extras` are the names of the
    optional arrays, `weights_id` is what a store calls the weights.
    """

    mean: Tensor
    std: Tensor

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
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.mean.device

    @property
    def arrays(self) -> tuple[FeatureArray, ...]:
        """The arrays that `forward` returns, the levels first."""
        levels = (FeatureArray(tap.level, tap.channels) for tap in self.spec.taps)
        return (*levels, *(tap.array(name) for name, tap in self.extras.items()))

    def taps(self, pixels: Tensor) -> list[Tensor]:
        """Return the unpooled taps of (batch, 3, H, W) uint8, each (batch, channels, H / stride, W / stride)."""
        nodes = self._nodes(pixels)
        return [nodes[tap.node] for tap in self.spec.taps]

    def _nodes(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return what leaves the network at each graph node, by the name of the node."""
        inputs = ((pixels.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        with self._arithmetic(inputs.device.type):
            nodes: dict[str, Tensor] = self.body(inputs)
        return nodes

    def _arithmetic(self, device: str) -> AbstractContextManager[Any]:
        """Return the autocast of the precision; with fp32, an autocast of the caller stays in force."""
        return nullcontext() if self.precision == "fp32" else torch.autocast(device, AUTOCAST[self.precision])

    @torch.inference_mode()
    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the arrays of (batch, 3, H, W) uint8 by name: (batch, *cell) of the precision, contiguous.

        `arrays` describes them. No gradient is kept.
        """
        return {name: values.contiguous() for name, values in self.features(pixels).items()}

    def features(
        self, pixels: Tensor, pool: Callable[[Sequence[Tensor]], list[Tensor]] = pool_levels
    ) -> dict[str, Tensor]:
        """Return the same arrays with gradients and without a copy; `pool` turns the taps into levels."""
        nodes = self._nodes(pixels)
        levels = pool([nodes[tap.node] for tap in self.spec.taps])
        found = {tap.level: level for tap, level in zip(self.spec.taps, levels, strict=True)}
        for name, tap in self.extras.items():
            found[name] = nodes[tap.node] if tap.stride else pool_vector(nodes[tap.node])
        return found


def cut(network: nn.Module, taps: Iterable[Tap]) -> nn.Module:
    """Return the network up to these taps, with outputs named by node: torch.fx drops every later layer."""
    extractor: nn.Module = create_feature_extractor(network.eval(), list(dict.fromkeys(tap.node for tap in taps)))
    return extractor


def transform_record(spec: BackboneSpec) -> dict[str, Any]:
    """Return the preprocessing as a store records it: crops of 224 x 224, normalised as the weights expect."""
    preset = get_weight(spec.weights).transforms()
    return {
        "size": [INPUT_SIZE, INPUT_SIZE],
        "interpolation": "bilinear, antialiased",
        "mean": list(preset.mean),
        "std": list(preset.std),
    }


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes and float32 bytes: the same for equal weights from any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
