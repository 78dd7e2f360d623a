"""The command line. Each folder brings its own commands; here are the program around them and the demo."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click

from . import __version__, tagging_commands
from .command_options import device_option
from .errors import C3Error
from .evaluate import commands as evaluation
from .extract import commands as extraction
from .train import commands as training

DEMO_BACKBONE, DEMO_WEIGHTS = "squeezenet1_1", "random:0"  # fetching ImageNet weights needs a network


class _Program(click.Group):
    """Turns every C3Error into one line and exit code 2, and an interrupt into what to do next."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except C3Error as error:
            click.echo(f"c3: {' '.join(str(error).split())}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt as interrupt:
            click.echo(f"c3: interrupted. {interrupt or 'The same command begins this step again'}", err=True)
            ctx.exit(130)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="c3")
@click.option("--catalog", type=click.Path(path_type=Path), help="Your own catalog; it extends the built-in one.")
@click.pass_context
def main(ctx: click.Context, catalog: Path | None) -> None:
    """Multi-label zero-shot image tagging from a feature cache: extract once, train many times, report."""
    ctx.obj = catalog
    # the handler of this invocation writes to this invocation's stderr
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)


for _command in (*extraction.COMMANDS, *training.COMMANDS, *evaluation.COMMANDS, *tagging_commands.COMMANDS):
    main.add_command(_command)


@main.command()
@click.option(
    "--out", default="c3-demo", show_default=True, type=click.Path(path_type=Path), help="Folder for store and runs."
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="Training runs of each method.")
@click.option("--method", "methods", multiple=True, default=("fast0tag", "c3"), show_default=True, metavar="NAME",
              help="A method or all of a table: --method table1.")  # fmt: skip
@device_option
def demo(out: Path, seeds: int, methods: tuple[str, ...], device: str) -> None:
    """The whole idea in minutes, offline: draw pictures, extract, train C3 and a baseline, print the table."""
    from .evaluate.run import evaluate as score
    from .evaluate.run import report as make_report
    from .extract.run import ExtractOptions
    from .extract.run import extract as run_extract
    from .train.run import TrainOptions, train_each

    store, runs = out / "features.zarr", out / "runs"
    click.echo(run_extract(ExtractOptions("demo", DEMO_BACKBONE, DEMO_WEIGHTS, store, device=device)))
    for method in methods:
        for run in train_each(TrainOptions(store, method, runs, device=device), range(seeds)):
            score(run.path, device=device)
    click.echo(make_report((1,), runs))
