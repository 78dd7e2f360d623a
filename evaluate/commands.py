"""The commands of evaluation: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path

import click

from ..command_options import ManyValues, device_option, runs_option
from ..errors import C3Error

FORMATS = ("text", "markdown", "csv", "latex", "json")
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
    from .run import EvaluateOptions, summary
    from .run import evaluate as run

    click.echo(summary(run(run_path, split, cache, device, EvaluateOptions(protocols, ties, resamples))))


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
    from .run import Resampling
    from .run import compare as run

    click.echo(run(first, second, split, cache, device, Resampling(resamples, seed)))


@click.command(cls=ManyValues)
@click.option("--tables", multiple=True, type=click.IntRange(1, 5), help="Numbers of tables: --tables 1 2.")
@click.option("--figures", multiple=True, type=click.IntRange(3, 6), help="Numbers of figures: --figures 3 4 5 6.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write everything as one page.")
@runs_option
@click.option("--format", "form", default="text", show_default=True, type=click.Choice(FORMATS), help="Of the tables.")
@click.option("--out", default="figures", show_default=True, type=PATH, help="Folder for the figures, png and svg.")
@click.option("--images", type=PATH, help="Where the photographs are now, if they have moved since extraction.")
@click.argument("numbers", nargs=-1, type=int)
@device_option
def report(
    tables: tuple[int, ...],
    figures: tuple[int, ...],
    html: Path | None,
    runs: Path,
    form: str,
    out: Path,
    images: Path | None,
    numbers: tuple[int, ...],
    device: str,
) -> None:
    """The paper's tables and figures, measured beside published: c3 report --tables 1 2 --figures 3 4 5 6."""
    if numbers:
        raise C3Error(f"table numbers follow --tables: c3 report --tables {' '.join(map(str, numbers))}")
    from .pages import FigureOptions, draw, write_page
    from .run import report as run

    options = FigureOptions(runs, out, images, device)
    if tables or not (figures or html):
        click.echo(run(tables or (1, 2, 3, 4, 5), runs, form))
    for line in draw(figures, options):
        click.echo(line)
    if html:
        click.echo(write_page(html, options))


COMMANDS = (evaluate, compare, report)
