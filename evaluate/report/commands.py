"""`c3 report`: parse, call one function, print. Heavy imports stay inside the command."""

from __future__ import annotations

from pathlib import Path

import click

from ...common.click_options import ManyValues, Name, UserPath, device_option, runs_option
from ...common.errors import C3Error
from ..names import FORMATS

PATH = UserPath()


@click.command(cls=ManyValues)
@click.option("--tables", multiple=True, type=click.IntRange(1, 5), help="Numbers of tables: --tables 1 2.")
@click.option("--figures", multiple=True, type=click.IntRange(3, 6), help="Numbers of figures: --figures 3 4 5 6.")
@click.option("--html", type=UserPath(dir_okay=False), help="Write everything as one page.")
@runs_option
@click.option(
    "--format",
    "form",
    default="text",
    show_default=True,
    type=Name("report format", FORMATS),
    help="Form of the tables.",
)
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
    """Print the paper's tables and draw its figures, measured beside published: c3 report --tables 1 2 --figures 4."""
    if numbers:
        raise C3Error(f"table numbers follow --tables: c3 report --tables {' '.join(map(str, numbers))}")
    from .pages import FigureOptions, draw, write_page
    from .run import report as run

    options = FigureOptions(runs, out, images, device)
    if tables or not (figures or html):
        click.echo(run(tables or (1, 2, 3, 4, 5), runs, form))
    if html:
        click.echo(write_page(html, options))
    for line in draw(figures, options):
        click.echo(line)


COMMANDS = (report,)
