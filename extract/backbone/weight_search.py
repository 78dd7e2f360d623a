"""Find the parameters of a network in a file of weights: below which key, and behind which prefix of their names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

DEPTH = 4  # keys below each other
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # parts that torch puts in
COUNTER = "num_batches_tracked"  # of BatchNorm since torch 0.4.1; only training reads it
AVERAGE = re.compile(r"ema|averag|swa|shadow|teacher|momentum|target|_k\b", re.IGNORECASE)

Shapes = Mapping[str, Tensor]  # what a network needs, by name


@dataclass(frozen=True)
class Found:
    """Tensors of one place in a file, by the names of a network.

    `key` is the path of keys to them, such as `model.ema`, and `prefix` what stood before their names; both may be
    empty.
    """

    tensors: dict[str, Tensor]
    key: str
    prefix: str

    def fits(self, needed: Shapes) -> list[str]:
        """Return the names whose tensors are as the network needs them, in shape and kind of number."""
        return [name for name in needed if self.fault(name, needed[name]) is None]

    def complete(self, needed: Shapes) -> bool:
        """Return whether the network has all that it needs."""
        return len(self.fits(needed)) == len(needed)

    def fault(self, name: str, needed: Tensor) -> str | None:
        """Say what is wrong with a tensor; None for one that fits."""
        if name not in self.tensors:
            return None if name.endswith(COUNTER) else "is missing"
        found = self.tensors[name]
        if name.endswith(COUNTER):
            return None if found.numel() == 1 else f"has shape {tuple(found.shape)}, expected one number"
        if found.shape != needed.shape:
            return f"is {tuple(found.shape)}, expected {tuple(needed.shape)}"
        return None if found.is_floating_point() else f"holds {found.dtype}, expected a floating type"

    @cached_property
    def described(self) -> str:
        """Say where the tensors were: empty when they were the file itself under their own names."""
        key = f"the key {self.key!r}" if self.key else ""
        prefix = f"the prefix {self.prefix!r}" if self.prefix else ""
        return " and ".join(part for part in (key, prefix) if part)


def search(content: object, needed: Shapes) -> list[Found]:
    """Return every place of a file with tensors under the names that a network needs, the best one first.

    The best has the most that fit; of equal ones, plain weights come before averages (EMA), else the first in the
    file.
    """
    places = [found for key, mapping in _mappings(content, "", DEPTH) for found in _places(key, mapping, needed)]
    fitting = [(len(found.fits(needed)), found) for found in places]
    order = sorted(fitting, key=lambda pair: (-pair[0], bool(AVERAGE.search(f"{pair[1].key}.{pair[1].prefix}"))))
    return [found for _, found in order]


def named_tensors(content: object) -> list[str]:
    """Return the names of all tensors of a file, as they are."""
    return [f"{key}.{name}" if key else name for key, mapping in _mappings(content, "", DEPTH) for name in mapping]


def _mappings(content: object, key: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Yield every mapping of names to tensors, with the path of keys to it."""
    if isinstance(content, list | tuple):
        content = {str(number): value for number, value in enumerate(content[:DEPTH])}
    if not isinstance(content, Mapping):
        return
    tensors = {name: tensor for name, value in content.items()
               if isinstance(name, str) and (tensor := _tensor(name, value)) is not None}  # fmt: skip
    if any(not name.endswith(COUNTER) for name in tensors):
        yield key, tensors
    for name, value in content.items():
        if depth and isinstance(name, str):
            yield from _mappings(value, f"{key}.{name}" if key else name, depth - 1)


def _tensor(name: str, value: object) -> Tensor | None:
    """Return a tensor or an array of numbers as a dense tensor; None for anything else."""
    if isinstance(value, Tensor):
        dense = value.detach()
        dense = dense.dequantize() if dense.is_quantized else dense
        return dense if dense.layout == torch.strided else dense.to_dense()
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiu":
        return torch.from_numpy(np.ascontiguousarray(value, value.dtype.newbyteorder("=")).copy())
    if name.endswith(COUNTER) and isinstance(value, int | np.integer):
        return torch.tensor(int(value))
    return None


def _places(key: str, mapping: dict[str, Tensor], needed: Shapes) -> Iterator[Found]:
    """Yield the tensors of a mapping behind every prefix that stands before a name of the network."""
    plain = {_unwrapped(name): name for name in mapping}
    if len(plain) < len(mapping):  # both `conv1.weight` and `module.conv1.weight`
        plain = {name: name for name in mapping}
    prefixes: dict[str, str] = {}
    for name, written in plain.items():
        parts = name.split(".")
        for start in range(len(parts)):
            if (tail := ".".join(parts[start:])) in needed:
                prefixes.setdefault(name.removesuffix(tail), _prefix(written, tail))
    for prefix, written in prefixes.items():
        own = {name.removeprefix(prefix): mapping[plain[name]] for name in plain if name.startswith(prefix)}
        yield Found(own, key, written)


def _prefix(written: str, tail: str) -> str:
    """Return what stands before the name of a network, or the wrappers that stand within it."""
    if written.endswith(tail):
        return written.removesuffix(tail)
    return "".join(f"{part}." for part in written.split(".") if part in WRAPPERS)


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
