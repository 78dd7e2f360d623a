"""The commands of extraction: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..command_options import device_option
from ..errors import C3Error


@click.command()
@click.option("--dataset", required=True, metavar="NAME", help="A data set of the catalog; see: c3 catalog list.")
@click.option("--backbone", default="vgg19", show_default=True, metavar="NAME",
              help="vgg19, vgg19_bn, resnet18, resnet50, resnet101 or squeezenet1_1.")  # fmt: skip
@click.option(
    "--weights", default="imagenet", show_default=True, help="imagenet, random:SEED, a file, or a catalog name."
)
@click.option(
    "--out", default="features.zarr", show_default=True, type=click.Path(path_type=Path), help="The store to fill."
)
@click.option("--splits", multiple=True, metavar="NAME", help="Only this split; may be repeated. Default: all.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first rows of each split.")
@click.option(
    "--crops",
    default="whole",
    show_default=True,
    type=click.Choice(["whole", "center", "five", "ten", "boxes"]),
    help="Which parts of an image become rows.",
)
@click.option(
    "--label-source",
    default="human",
    show_default=True,
    type=click.Choice(["human", "human+machine"]),
    help="Open Images: machine labels may join the train split, as positives only.",
)
@click.option(
    "--drop-unknown-classes", is_flag=True, help="Leave out classes without a word vector, with their labels."
)
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1))
@device_option
@click.option("--overwrite", is_flag=True, help="Start again, deleting the store at --out.")
@click.pass_obj
def extract(catalog: Path | None, **options: Any) -> None:
    """Turn the images of a data set into a store of pooled feature maps; the same command continues a stopped one."""
    from .run import ExtractOptions
    from .run import extract as run

    click.echo(run(ExtractOptions(catalog=catalog, **options)))


@click.command()
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def inspect(cache: Path, as_json: bool) -> None:
    """Show what a store holds: splits, levels, sizes, statuses, classes and provenance."""
    from .inspect import inspect_store

    click.echo(inspect_store(cache, as_json))


@click.group()
def catalog() -> None:
    """The data sets, word vectors and weights that c3 knows."""


@catalog.command("list")
@click.pass_obj
def catalog_list(path: Path | None) -> None:
    """The names in the catalog."""
    from .catalog import listing

    click.echo(listing(path))


@catalog.command("show")
@click.argument("name")
@click.pass_obj
def catalog_show(path: Path | None, name: str) -> None:
    """The entry of one data set, with its paths resolved."""
    from .catalog import show

    click.echo(show(path, name))


@catalog.command("check")
@click.argument("name")
@click.pass_obj
def catalog_check(path: Path | None, name: str) -> None:
    """Which files of a data set are there, which are missing, and where the missing ones come from."""
    from .check import check

    found = check(path, name)
    click.echo(found)
    if not found.complete:
        raise C3Error(f"data set {name} is not complete; place the missing files and run: c3 catalog check {name}")


@click.command()
@click.argument("name")
@click.option("--optional", is_flag=True, help="Also the files that not every use needs.")
@click.option("--images", is_flag=True, help="Also the images, from the official list of their addresses.")
@click.option("--splits", multiple=True, metavar="NAME", help="Only images of this split; may be repeated.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first images of the list.")
@click.option("--jobs", default=8, show_default=True, type=click.IntRange(1, 64), help="Downloads at a time.")
@click.option("--rate", default=10.0, show_default=True, type=click.FloatRange(0, min_open=True),
              help="Requests a second, all downloads together.")  # fmt: skip
@click.option("--tries", default=5, show_default=True, type=click.IntRange(min=1), help="Tries of one download.")
@click.option("--retry-failed", is_flag=True, help="Ask again for images that were gone, placeholders or damaged.")
@click.pass_obj
def fetch(catalog: Path | None, name: str, rate: float, tries: int, **options: Any) -> None:
    """Download what a data set has at plain official addresses; the same command continues a stopped one."""
    from .download import Politeness
    from .fetch import FetchOptions
    from .fetch import fetch as run

    click.echo(run(FetchOptions(name, catalog, politeness=Politeness(rate, tries), **options)))


@click.command("import-biam")
@click.option("--train", type=click.Path(path_type=Path), help="BiAM's HDF5 of training features.")
@click.option("--test", type=click.Path(path_type=Path), help="BiAM's HDF5 of test features.")
@click.option("--dataset", default="nuswide", show_default=True, metavar="NAME", help="Whose classes and vectors.")
@click.option(
    "--out", default="features.zarr", show_default=True, type=click.Path(path_type=Path), help="The store to fill."
)
@click.option("--overwrite", is_flag=True, help="Start again, deleting the store at --out.")
@click.pass_obj
def import_biam(catalog: Path | None, train: Path | None, test: Path | None, **options: Any) -> None:
    """Turn the published HDF5 features of BiAM into a store; the same command continues a stopped one."""
    from .biam import BiamOptions
    from .biam import import_biam as run

    click.echo(run(BiamOptions({"train": train, "test": test}, catalog=catalog, **options)))


COMMANDS = (extract, inspect, catalog, fetch, import_biam)
