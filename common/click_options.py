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


class ManyValues(click.Command):
    """A command whose repeatable options take all values that follow: `--groups 1 3 5` is `--groups 1 --groups 3 ...`.

    Click's own options take a fixed number of values; arguments of such a command stand before its options.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        repeatable = {
            name
            for option in self.params
            if isinstance(option, click.Option) and option.multiple
            for name in option.opts
        }
        spread: list[str] = []
        current, values = "", 0
        for argument in args:
            if argument.startswith("--"):
                current, values = argument, 0
            elif current in repeatable:
                values += 1
                if values > 1:
                    spread.append(current)
            spread.append(argument)
        return super().parse_args(ctx, spread)


def cache_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """--cache"""
    return click.option("--cache", required=True, help="A complete store: a path or an fsspec URL.")(command)
