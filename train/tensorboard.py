"""Write the log as TensorBoard scalars."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from ..common.errors import C3Error


def require_tensorboard() -> None:
    """Raise C3Error when the package `tensorboard` is not installed."""
    if find_spec("tensorboard") is None:
        raise C3Error("--tensorboard needs the package tensorboard: pip install tensorboard, or train without it")


def write_scalars(folder: Path, line: Mapping[str, float]) -> None:
    """Append a line of the log at the step of its epoch; later epochs, from a killed process, are dropped."""
    from torch.utils.tensorboard import SummaryWriter

    epoch = int(line["epoch"])
    with SummaryWriter(folder, purge_step=epoch) as writer:
        for name, value in line.items():
            if name != "epoch":
                writer.add_scalar(name, value, epoch)
