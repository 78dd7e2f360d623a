"""Choosing the device that torch computes on."""

from __future__ import annotations

import torch

from .errors import C3Error


def resolve_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one, else the CPU; a named device that does not exist is refused."""
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


def nth_device(name: str, number: int) -> str:
    """The device of one of several processes: where `name` leaves open which CUDA device, they are dealt in turn."""
    count = torch.cuda.device_count() if name in ("auto", "cuda") else 0
    return f"cuda:{number % count}" if count > 1 else name
