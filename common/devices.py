"""Choose the device that torch computes on, and how it counts the smallest numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import C3Error


def resolve_device(name: str) -> torch.device:
    """Return the named device; `auto` is CUDA on a machine that has it, else the CPU.

    Raises C3Error for a device that does not exist here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise C3Error(f"--device {name!r} is not a device; expected auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise C3Error(f"--device {name!r} is not supported; expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise C3Error(f"--device {name}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu")
    return device


@contextmanager
def denormals_flushed() -> Iterator[None]:
    """Count float32 numbers below 1.2e-38 as 0 on the CPU, in this thread and in those of torch that start meanwhile.

    Weights that decay to nothing pass through such numbers, and a product of them takes hundreds of times as long.
    """
    before = not torch.tensor(1e-39) * 1  # torch does not tell
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def nth_device(name: str, number: int) -> str:
    """Return the device for process `number` of several: they share the CUDA devices out unless `name` picks one."""
    count = torch.cuda.device_count() if name in ("auto", "cuda") else 0
    return f"cuda:{number % count}" if count > 1 else name
