"""The commands of extraction: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..common.click_options import device_option
from ..common.errors import C3Error

CODECS = ("auto", "zstd", "zstd-shuffle", "zstd-bitshuffle", "lz4", "lz4-shuffle", "lz4-bitshuffle", "none")


class PartType(click.ParamType[tuple[int, int]]):
    """`3/8` -> (3, 8)."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse I/N with 1 <= I <= N."""
        number, slash, parts = str(value).partition("/")
        if not (slash and number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
            self.fail(f"{value!r}: expected I/N with 1 <= I <= N, for example 1/8", param, ctx)
        return int(number), int(parts)


@click.command()
@click.option("--dataset", required=True, metavar="NAME", help="A data set of the catalog; see: c3 catalog list.")
@click.option("--backbone", default="vgg19", show_default=True, metavar="NAME",
              help="vgg19, vgg19_bn, resnet18, resnet50, resnet101 or squeezenet1_1.")  # fmt: skip
@click.option(
    "--weights", default="imagenet", show_default=True, help="imagenet, random:SEED, a file, or a catalog name."
)
@click.option(
    "--out", default="features.zarr", show_default=True, help="The store to fill: a path or an fsspec URL (s3://...)."
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
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(("fp32", "bf16", "fp16")),
              help="Arithmetic of the backbone; part of what the store is.")  # fmt: skip
@click.option("--regions", is_flag=True,
              help="Also the unpooled 14 x 14 map that LESA and BiAM read (VGG: conv5_4; ResNet: layer3).")  # fmt: skip
@click.option("--global", "global_vector", is_flag=True,
              help="Also a vector of the whole picture (VGG: fc7, of whole weights; else the mean).")  # fmt: skip
@click.option("--compile", "compiled", is_flag=True, help="torch.compile the backbone.")
@click.option("--dtype", default="float16", show_default=True, type=click.Choice(("float16", "int8")),
              help="float16 is exact; int8 halves the store, with a step for every channel and shard.")  # fmt: skip
@click.option("--codec", type=click.Choice(CODECS), help="Default: auto, chosen for every level.")
@click.option("--chunk-rows", type=click.IntRange(min=1), help="Rows read at once. Default: 64.")
@click.option("--shard-rows", type=click.IntRange(min=1),
              help="Rows written at once. Default: 256, or 1024 above 100,000 rows.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), help="Processes on this machine, by dask.distributed.")
@click.option("--scheduler", metavar="tcp://...", help="A dask.distributed scheduler with workers.")
@click.option("--part", type=PartType(), metavar="I/N", help="Only the I-th of N parts: one job of a batch system.")
@click.option("--plan", is_flag=True, help="Only say what it will cost: shards, bytes, hours, from a few batches.")
@click.option("--rows", type=click.IntRange(min=1), help="With --plan: for so many rows instead of the data set's.")
@click.option("--retry-failed", is_flag=True, help="Do finished shards again that hold pictures that failed.")
@click.option("--append", is_flag=True, help="Add new splits or images to the store at --out.")
@click.option("--overwrite", is_flag=True, help="Start again, deleting the store at --out.")
@click.pass_obj
def extract(catalog: Path | None, /, plan: bool, rows: int | None, **options: Any) -> None:
    """Turn the images of a data set into a store of pooled feature maps; the same command continues a stopped one."""
    from .options import ExtractOptions

    asked = ExtractOptions(catalog=catalog, **options)
    if plan:
        from .estimate import plan as make_plan

        click.echo(make_plan(asked, rows))
        return
    if rows:
        raise C3Error("--rows goes with --plan; --limit extracts only the first rows of each split")
    from .run import extract as run

    click.echo(run(asked))


@click.command()
@click.argument("cache")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
@click.option("--channels", is_flag=True, help="Read all maps: mean, maximum and zero share of every channel.")
@click.option(
    "--check-images", type=click.IntRange(min=1), metavar="N", help="Extract N random rows again and compare."
)
def inspect(cache: str, as_json: bool, channels: bool, check_images: int | None) -> None:
    """Show what a store holds: splits, levels, sizes, statuses, classes and provenance."""
    from .store.inspect import inspect_store

    click.echo(inspect_store(cache, as_json, channels))
    if check_images:
        from .spot_check import check_images as check

        click.echo(check(cache, check_images), err=as_json)


@click.command()
@click.argument("cache")
@click.option("--repair", is_flag=True, help="Extract broken shards again, write broken tables again.")
def verify(cache: str, repair: bool) -> None:
    """Read every byte of a store: checksums, counts, labels, statuses. Names what is broken."""
    from .verify import verify as run

    click.echo(run(cache, repair))


@click.command()
@click.argument("caches", nargs=-1, required=True)
@click.option("--out", required=True, help="The new store: a path or an fsspec URL.")
def merge(caches: tuple[str, ...], out: str) -> None:
    """Join stores: the parts of one extraction, or different images and splits made in the same way."""
    from .merge import merge as run

    click.echo(run(caches, out))


@click.group()
def catalog() -> None:
    """The data sets, word vectors and weights that c3 knows."""


@catalog.command("list")
@click.pass_obj
def catalog_list(path: Path | None) -> None:
    """The names in the catalog."""
    from .catalog.catalog import listing

    click.echo(listing(path))


@catalog.command("show")
@click.argument("name")
@click.pass_obj
def catalog_show(path: Path | None, name: str) -> None:
    """The entry of one data set, with its paths resolved."""
    from .catalog.catalog import show

    click.echo(show(path, name))


@catalog.command("check")
@click.argument("name")
@click.pass_obj
def catalog_check(path: Path | None, name: str) -> None:
    """Which files of a data set are there, which are missing, and where the missing ones come from."""
    from .catalog_check import check

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
def fetch(catalog: Path | None, /, name: str, rate: float, tries: int, **options: Any) -> None:
    """Download what a data set has at plain official addresses; the same command continues a stopped one."""
    from .download.downloader import Politeness
    from .download.fetch import FetchOptions
    from .download.fetch import fetch as run

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
def import_biam(catalog: Path | None, /, train: Path | None, test: Path | None, **options: Any) -> None:
    """Turn the published HDF5 features of BiAM into a store; the same command continues a stopped one."""
    from .import_biam import BiamOptions
    from .import_biam import import_biam as run

    click.echo(run(BiamOptions({"train": train, "test": test}, catalog=catalog, **options)))


COMMANDS = (extract, inspect, verify, merge, catalog, fetch, import_biam)
