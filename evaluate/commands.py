"""The commands of evaluation: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path

import click

from ..common.click_options import device_option

PATH = click.Path(path_type=Path)


@click.command()
@click.option("--run", "run_path", required=True, type=PATH, help="A run folder.")
@click.option("--split", default="test", show_default=True, help="Choose settings on val, report test.")
@click.option("--cache", help="Where the store is now, or another store to score the run on.")
@click.option(
    "--protocol", "protocols", multiple=True, metavar="NAME",
    help="nuswide, nuswide-81, openimages-lesa, openimages-biam, coco or table; repeat for several. Default: by the "
    "data set's name.",
)  # fmt: skip
@click.option("--ties", default="grouped", show_default=True, help="grouped (scikit-learn) or stable (cumsum by row).")
@click.option("--resamples", default=1000, show_default=True, type=click.IntRange(min=0), help="Bootstrap over images.")
@device_option
def evaluate(
    run_path: Path,
    split: str,
    cache: str | None,
    protocols: tuple[str, ...],
    ties: str,
    resamples: int,
    device: str,
) -> None:
    """Score a run: mAP and F1@K for ZSL and GZSL into metrics.json, AP of every class into per_class.csv."""
    from .record import summary
    from .run import EvaluateOptions
    from .run import evaluate as run

    done = run(run_path, split, cache, device, EvaluateOptions(protocols, ties, resamples))
    if done.metrics:
        click.echo(summary(done, done.metrics))


@click.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--split", default="test", show_default=True)
@click.option("--cache", help="Score both runs on this store.")
@click.option("--resamples", default=1000, show_default=True, type=click.IntRange(min=100))
@click.option("--seed", default=0, show_default=True, help="Of the resampling.")
@device_option
def compare(first: Path, second: Path, split: str, cache: str | None, resamples: int, seed: int, device: str) -> None:
    """The difference of two runs with a paired bootstrap interval over images: c3 compare RUN RUN."""
    from .bootstrap import Resampling
    from .run import compare as run

    click.echo(run(first, second, split, cache, device, Resampling(resamples, seed)))


COMMANDS = (evaluate, compare)
