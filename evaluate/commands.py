"""The commands of evaluation: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path

import click

from ..command_options import device_option, runs_option
from ..errors import C3Error

FORMATS = ("text", "markdown", "csv", "latex")


@click.command()
@click.option("--run", "run_path", required=True, type=click.Path(path_type=Path), help="A run folder.")
@click.option("--split", default="test", show_default=True, help="Choose settings on val, report test.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where the store is now, if it has moved.")
@device_option
def evaluate(run_path: Path, split: str, cache: Path | None, device: str) -> None:
    """Score a run: mAP and F1@K for ZSL and GZSL into metrics.json, AP of every class into per_class.csv."""
    from .run import evaluate as run
    from .run import summary

    click.echo(summary(run(run_path, split, cache, device)))


@click.command()
@click.option("--tables", is_flag=True, help="Followed by table numbers: --tables 1 2.")
@click.argument("numbers", nargs=-1, type=click.IntRange(1, 2))
@runs_option
@click.option("--format", "form", default="text", show_default=True, type=click.Choice(FORMATS))
def report(tables: bool, numbers: tuple[int, ...], runs: Path, form: str) -> None:
    """Print the paper's tables, measured beside published: c3 report --tables 1 2."""
    if numbers and not tables:
        raise C3Error(f"table numbers follow --tables: c3 report --tables {' '.join(map(str, numbers))}")
    from .run import report as run

    click.echo(run(numbers or (1, 2), runs, form))


COMMANDS = (evaluate, report)
