"""name -> Backbone: the module cut at its last tap, its weights and their hash, its preprocessing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models
from torchvision.models.feature_extraction import create_feature_extractor

from ..errors import C3Error
from .cache import Level
from .pyramid import pool_levels, pool_vector
from .taps import INPUT_SIZE, BackboneSpec, Tap, backbone_spec

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
        self.body = _cut(network, (*spec.taps, *self.extras.values()))
        self.body = self.body.requires_grad_(False).to(memory_format=torch.channels_last)
        self.weights_sha256 = state_hash(self.body.state_dict())
        self.transform = transform_record(spec)
        for name in ("mean", "std"):
            values = torch.tensor(self.transform[name]).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def arrays(self) -> tuple[Level, ...]:
        """The arrays that `forward` gives, the levels first."""
        levels = (Level(tap.level, tap.channels) for tap in self.spec.taps)
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


def _cut(network: nn.Module, taps: Iterable[Tap]) -> nn.Module:
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


def load_backbone(
    name: str,
    weights: str,
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    extras: Sequence[str] = (),
) -> Backbone:
    """Build a backbone with `imagenet` weights, `random:SEED`, or a state_dict file (torchvision's parameter names).

    A file is one of torch.save, or safetensors by its suffix; neither can run anything.
    `extras` are the optional arrays that it gives too, `regions` and `global`. Raises C3Error for an unknown name, an
    array that the network cannot give, a file that does not fit, or ImageNet weights that are not on this machine.
    """
    spec = backbone_spec(name)
    spec.extras(extras)  # refused before any weights are read
    if weights == "imagenet":
        network, weights_id = _imagenet(spec), f"{type(spec.weights).__name__}.{spec.weights.name}"
    elif weights.startswith("random:"):
        network, weights_id = _random(spec, weights), weights
    else:
        network, weights_id = _from_file(spec, Path(weights), extras), Path(weights).name
    return Backbone(spec, network, weights_id, precision, extras).to(device)


def state_hash(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, shapes and float32 bytes of the tensors: the same for equal weights from any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _build(spec: BackboneSpec) -> nn.Module:
    return models.get_model(spec.name, weights=None)


def _imagenet(spec: BackboneSpec) -> nn.Module:
    file = Path(torch.hub.get_dir()) / "checkpoints" / spec.weights.url.rsplit("/", 1)[-1]
    try:
        return models.get_model(spec.name, weights=spec.weights)
    except (OSError, RuntimeError) as error:  # no network, or a download whose hash is wrong
        raise C3Error(
            f"ImageNet weights of {spec.name} are not on this machine and could not be fetched ({error}). "
            f"Place {spec.weights.url} at {file}, or use --weights FILE or --weights random:0"
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
    needed = _cut(network, spec.taps).state_dict()
    missing = [name for name in needed if name not in state]
    if missing:
        raise C3Error(
            f"{path} is not of {spec.name}: {len(missing)} of {len(needed)} tensors missing, first {missing[0]}"
        )
    for option, tap in spec.extras(extras).items():
        needed |= (own := _cut(network, [tap]).state_dict())
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
