"""The lines of the log as TensorBoard scalars, where its package is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ..common.errors import C3Error


def require_tensorboard() -> None:
    """Raises C3Error when the package is not there."""
    if find_spec("tensorboard") is None:
        raise C3Error("--tensorboard needs the package tensorboard: pip install tensorboard, or train without it")


def write_scalars(folder: Path, line: Mapping[str, float]) -> None:
    """Append a line of the log, its epoch being the step; what a killed process wrote of later epochs is dropped."""
    from torch.utils.tensorboard import SummaryWriter

    epoch = int(line["epoch"])
    with SummaryWriter(folder, purge_step=epoch) as writer:
        for name, value in line.items():
            if name != "epoch":
                writer.add_scalar(name, value, epoch)
