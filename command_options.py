"""Command line options that commands of several folders share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--device"""
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")(command)


def runs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--runs"""
    path = click.Path(path_type=Path)
    return click.option("--runs", default="runs", show_default=True, type=path, help="Folder of run folders.")(command)
