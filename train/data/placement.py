"""Where the arrays of a split are during training: on the device, in memory, or read again in every epoch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor

from ...common.errors import C3Error
from ..names import RESIDENCIES
from .shared_arrays import SharedArrays

LOG = logging.getLogger(__name__)

MARGIN = 0.6  # share of the free memory that `auto` may take; batches, weights and other programs need the rest
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Placement:
    """The request: a residency, the device of the batches, and the number of `processes` that share the memory.

    `shared` holds arrays that earlier trainings read.
    """

    residency: str = "stream"
    device: torch.device = torch.device("cpu")
    processes: int = 1
    shared: SharedArrays | None = None

    def resolved(self, needed: int, held: Sequence[Tensor] = ()) -> str:
        """Return `stream`, `ram` or `device` for arrays of `needed` bytes; `auto` becomes the fastest that fits.

        `auto` takes at most `MARGIN` of the free memory. `held` are arrays that `shared` holds already: where nothing
        else is needed, they stay where they are. Raises C3Error for a residency that is asked for by name and does not
        fit.
        """
        if self.residency not in RESIDENCIES:
            raise C3Error(f"--residency: expected {', '.join(RESIDENCIES)}, found {self.residency!r}")
        if self.residency == "stream":
            return "stream"
        if held and not needed:
            return "ram" if held[0].device.type == "cpu" else "device"
        free = {"ram": free_memory() // self.processes}
        if self.device.type == "cuda":
            free = {"device": torch.cuda.mem_get_info(self.device)[0], **free}
        if self.residency == "auto":
            fitting = [name for name, size in free.items() if needed <= MARGIN * size]
            chosen = fitting[0] if fitting else "stream"
            sizes = ", ".join(f"{_gb(size)} free ({name})" for name, size in free.items())
            LOG.info("residency %s: the arrays are %s, %s, of which %.0f%% may be used", chosen, _gb(needed), sizes,
                     100 * MARGIN)  # fmt: skip
            return chosen
        if self.residency not in free:
            raise C3Error(f"--residency device: {self.device} has no memory of its own; use --residency ram")
        if needed > free[self.residency]:
            raise C3Error(
                f"--residency {self.residency}: the arrays are {_gb(needed)}, {_gb(free[self.residency])} are free; "
                "use --residency stream"
            )
        return self.residency


def free_memory() -> int:
    """Return the bytes that this process may still take: of the machine, or of its control group if that is less."""
    free = psutil.virtual_memory().available
    try:
        limit = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        counted = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        return min(free, limit - used + int(counted["inactive_file"]))  # the system drops cached files first
    except (OSError, ValueError, KeyError):  # no control group, or one without a limit ("max")
        return free


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
