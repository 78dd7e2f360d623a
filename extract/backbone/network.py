"""A backbone at work: pixels in, what leaves it at its taps out, and the hash of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...common.errors import C3Error
from ..store.layout import FeatureArray
from .kind import WRAPPED, Loaded
from .pooling import pool_levels, pool_vector
from .specs import BackboneSpec, Resize

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}  # fp32 is the caller's own arithmetic


class Backbone(nn.Module):
    """A frozen network that turns uint8 pictures into pooled levels and optional arrays, and stops at its last tap.

    `loaded` has the layers, as far as they run, with their weights. `precision` is the number type of the arithmetic
    (fp32, bf16 or fp16 by autocast), `extras` are the names of the optional arrays.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        spec: BackboneSpec,
        loaded: Loaded,
        precision: str = "fp32",
        extras: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.spec = spec
        self.extras = spec.extras(extras)
        self.weights_id, self.licence = loaded.weights_id, loaded.licence
        self.precision = precision
        self.body = loaded.body.eval().requires_grad_(False).to(memory_format=torch.channels_last)
        self.weights_sha256 = state_hash(self.weights())
        self.compiled_rows: int | None = None
        self.transform = spec.transform.record()
        for name in ("mean", "std"):
            values = torch.tensor(self.transform[name]).view(1, 3, 1, 1)
            self.register_buffer(name, values, persistent=False)

    @property
    def device(self) -> torch.device:
        """The device that it computes on."""
        return self.mean.device

    @property
    def resize(self) -> Resize:
        """What a crop must become before it is given to the network."""
        return self.spec.transform.resize

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters and buffers of the layers that run, by the names that the network has for them."""
        return {name.removeprefix(WRAPPED): tensor for name, tensor in self.body.state_dict().items()}

    @property
    def arrays(self) -> tuple[FeatureArray, ...]:
        """The arrays that `forward` returns, the levels first."""
        levels = (FeatureArray(tap.level, tap.channels) for tap in self.spec.taps)
        return (*levels, *(tap.array(name) for name, tap in self.extras.items()))

    def compile_for(self, rows: int) -> None:
        """Compile the network, at the first batch, for batches of `rows` pictures; smaller ones are filled up.

        So it is compiled once, and the features of a picture do not depend on which batches came before. On a CPU the
        weights are constants of the program: batch norms vanish into the convolutions before them. The first batch
        raises C3Error where the network cannot be compiled.
        """
        self.compiled_rows = rows
        self.body.compile(dynamic=False, options={"freezing": True} if self.device.type == "cpu" else None)

    def taps(self, pixels: Tensor) -> list[Tensor]:
        """Return the unpooled taps of (batch, 3, H, W) uint8, each (batch, channels, H / stride, W / stride)."""
        nodes = self._nodes(pixels)
        return [nodes[tap.node] for tap in self.spec.taps]

    def _nodes(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return what leaves the network at each graph node, by the name of the node."""
        inputs = ((pixels.float() / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        rows = self.compiled_rows
        with self._arithmetic(inputs.device.type):
            nodes: dict[str, Tensor] = self._compiled(inputs, rows) if rows else self.body(inputs)
        return nodes

    def _compiled(self, inputs: Tensor, rows: int) -> dict[str, Tensor]:
        from torch._dynamo.exc import TorchDynamoException
        from torch._inductor.exc import InductorError

        filled = pad(inputs, (0, 0, 0, 0, 0, 0, 0, rows - len(inputs))) if len(inputs) < rows else inputs
        try:
            nodes = self.body(filled.contiguous(memory_format=torch.channels_last))
        except (TorchDynamoException, InductorError) as error:
            raise C3Error(
                f"--compile: torch cannot compile {self.spec.name} here ({str(error).splitlines()[0]}); the same "
                "command without --compile goes on. On a CPU torch needs a C++ compiler"
            ) from error
        return {name: values[: len(inputs)] for name, values in nodes.items()}

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


def state_hash(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, shapes and float32 bytes: the same for equal weights from any file format."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        tensor = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
