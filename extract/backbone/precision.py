"""Choose the number type of the arithmetic for a device: bfloat16 where the device has units for it."""

from __future__ import annotations

from pathlib import Path

import torch

CPU_UNITS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # flags of x86-64, and of 64-bit Arm
GPU_UNITS = (8, 0)  # compute capability since which NVIDIA's tensor cores multiply bfloat16
FLAGS = Path("/proc/cpuinfo")


def fastest_precision(device: torch.device) -> tuple[str, str]:
    """Return `bf16` or `fp32` for a device, and the reason in words. A device without units would emulate bfloat16.

    fp16 is never chosen: values beyond 65,504 would be infinite. A system that does not list the flags of its
    processor has fp32.
    """
    if device.type == "cuda":
        major, minor = torch.cuda.get_device_capability(device)
        found, name = (major, minor) >= GPU_UNITS, f"{device} (compute capability {major}.{minor})"
    else:
        found, name = bool(CPU_UNITS & cpu_flags()), "this processor"
    return ("bf16", f"{name} has bfloat16 units") if found else ("fp32", f"{name} has no bfloat16 units")


def cpu_flags() -> frozenset[str]:
    """Return what the system says that the first processor can do; empty where it says nothing."""
    if not FLAGS.is_file():
        return frozenset()
    for line in FLAGS.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
