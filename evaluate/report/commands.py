"""`c3 report`: parse, call one function, print. Heavy imports stay inside the command."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from ...common.click_options import ManyValues, Name, UserPath, device_option, runs_option
from ...common.errors import C3Error
from ...train.names import LABEL_MAPS
from ..names import FORMATS

PATH = UserPath()


class FigureNumber(click.IntRange):
    """The number of a figure that is drawn from runs. Figure 2 of the paper is a diagram of the method."""

    def __init__(self) -> None:
        super().__init__(1, 7)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number. Raises C3Error for figure 2."""
        number = int(super().convert(value, param, ctx))
        if number == 2:
            raise C3Error("figure 2 of the paper is a diagram of the method; expected one of 1 and 3 to 7")
        return number


REPORT_SECTIONS = {
    "Tables": ("tables", "form", "published", "against", "all_settings"),
    "Figures": ("figures", "out", "classes", "images", "maps"),
    "The page": ("html",),
    "Where runs are, and how to compute": ("runs", "device"),
}


@click.command(cls=ManyValues, sections=REPORT_SECTIONS)
@click.option("--tables", multiple=True, type=click.IntRange(1, 5), metavar="N",
              help="Numbers of tables: --tables 1 2. Default: all, unless --figures or --html is given.")  # fmt: skip
@click.option("--figures", multiple=True, type=FigureNumber(), metavar="N",
              help="Numbers of figures: --figures 1 3 4 5 6 7. Default: none.")  # fmt: skip
@click.option("--classes", multiple=True, help="Classes of figure 1: --classes sky tree. Default: chosen by the data.")
@click.option("--html", type=UserPath(dir_okay=False), metavar="FILE",
              help="Write everything as one page to this file. Default: no page.")  # fmt: skip
@runs_option
@click.option(
    "--format",
    "form",
    default="text",
    show_default=True,
    type=Name("report format", FORMATS),
    help="Form of the tables.",
)
@click.option(
    "--out",
    default="figures",
    show_default=True,
    type=PATH,
    metavar="FOLDER",
    help="Folder for the figures, png and svg.",
)
@click.option("--images", type=PATH, metavar="FOLDER",
              help="Where the photographs are now, if they have moved. Default: the folder that the store "
                   "names.")  # fmt: skip
@click.option("--published", is_flag=True, help="Show the paper's values beside other data too, and without any run.")
@click.option("--against", metavar="METHOD",
              help="Compare every row with this method, run by run. Default: no comparison.")  # fmt: skip
@click.option("--all-settings", is_flag=True, help="Show every setting that was tried, not only those that val chose.")
@click.option(
    "--map",
    "maps",
    default=LABEL_MAPS[0],
    show_default=True,
    type=click.Choice(LABEL_MAPS),
    help="What figure 6 shows: how much a score falls when a place is hidden, or the shares of the positions in it.",
)
@click.argument("numbers", nargs=-1, type=int, metavar="")  # refused: they follow --tables
@device_option
def report(
    tables: tuple[int, ...],
    figures: tuple[int, ...],
    html: Path | None,
    runs: Path,
    form: str,
    out: Path,
    images: Path | None,
    published: bool,
    against: str | None,
    all_settings: bool,
    maps: str,
    classes: tuple[str, ...],
    numbers: tuple[int, ...],
    device: str,
) -> None:
    """Print the paper's tables and draw its figures: what was measured beside what was published."""
    if numbers:
        raise C3Error(f"table numbers follow --tables: c3 report --tables {' '.join(map(str, numbers))}")
    from .block import Shown
    from .pages import FigureOptions, draw, write_page
    from .run import report as run

    options = FigureOptions(runs, out, images, device, maps, classes)
    if tables or not (figures or html):
        width = max(shutil.get_terminal_size((120, 24)).columns, 60)  # 120 where the text goes to a file
        click.echo(run(tables or (1, 2, 3, 4, 5), runs, form, Shown(published, all_settings, against), width))
    if html:
        click.echo(write_page(html, options))
    for line in draw(figures, options):
        click.echo(line)


COMMANDS = (report,)
