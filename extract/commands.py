"""The commands of extraction: parse options, call one function, print its summary. Commands do the heavy imports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..common.click_options import (
    TEMPLATE_HELP,
    TOWER_HELP,
    DatasetName,
    Name,
    RealNumber,
    UserPath,
    UserPlace,
    device_option,
)
from ..common.errors import C3Error
from ..common.help_page import HelpPage
from .backbone.names import AUTO, BACKBONES, PRECISIONS, PREFIXES
from .backbone.pictures.crop_policies import NAMES as CROP_POLICIES
from .datasets.label_sources import HUMAN, LABEL_SOURCES
from .import_commands import import_biam, import_features
from .store.names import CODEC_NAMES, DTYPES, MAX_MEGAPIXELS, STATUS, TRUNCATED

images_option = click.option(
    "--images",
    type=UserPath(),
    metavar="FOLDER",
    help="Where the images are now, if they have moved. Default: the folder that the store names.",
)


EXTRACT_SECTIONS = {
    "What to extract": ("dataset", "splits", "limit", "crops", "label_source", "drop_unknown_classes", "truncated",
                        "max_megapixels"),
    "Features": ("backbone", "weights", "input_size", "precision", "regions", "global_vector"),
    "The store": ("out", "append", "overwrite", "retry_failed", "dtype", "codec", "chunk_rows", "shard_rows"),
    "How to compute": ("plan", "rows", "device", "batch_size", "compiled", "workers", "scheduler", "part"),
}  # fmt: skip


class PartType(click.ParamType[tuple[int, int]]):
    """`3/8` -> (3, 8)."""

    name = "part"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse I/N with 1 <= I <= N."""
        number, slash, parts = str(value).partition("/")
        if not (slash and number.isdigit() and parts.isdigit() and 1 <= int(number) <= int(parts)):
            self.fail(f"{value!r}: expected I/N with 1 <= I <= N, for example 1/8", param, ctx)
        return int(number), int(parts)


@click.command(cls=HelpPage, sections=EXTRACT_SECTIONS)
@click.option("--dataset", required=True, type=DatasetName(), metavar="NAME",
              help="The data set to extract, by its name in the catalog (see c3 catalog list).")  # fmt: skip
@click.option("--backbone", default="vgg19", show_default=True, type=Name("backbone", BACKBONES, PREFIXES),
              metavar="NAME", help="The network that computes the features, vgg19 or timm:NAME for example: see c3 "
                   "backbones.")  # fmt: skip
@click.option("--weights", default="imagenet", show_default=True, type=UserPlace(), metavar="NAME|FILE",
              help="The weights of the backbone: imagenet (timm: those of its tag), random:SEED, a file, or a name of "
                   "the catalog.")  # fmt: skip
@click.option("--input-size", type=click.IntRange(min=1), metavar="N",
              help="The edge of the pictures that the backbone sees, in pixels. Default: 224 for torchvision, the size "
                   "that a timm network was trained with. The store records it.")  # fmt: skip
@click.option("--out", default="features.zarr", show_default=True, type=UserPlace(), metavar="STORE",
              help="The store to fill: a path, or an fsspec URL such as s3://bucket/features.zarr.")  # fmt: skip
@click.option("--splits", multiple=True, metavar="NAME",
              help="Extract this split only. Repeat the option for more splits. Default: all splits.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N",
              help="Extract only the first N rows of each split. Default: all rows.")  # fmt: skip
@click.option("--crops", default="whole", show_default=True, type=click.Choice(CROP_POLICIES),
              help="The parts of an image that become rows: the whole image, its center, 5 or 10 crops, or a row for "
                   "each annotated box.")  # fmt: skip
@click.option("--label-source", default=HUMAN, show_default=True, type=click.Choice(LABEL_SOURCES),
              help="Open Images only: human+machine adds machine labels to the train split, as positives.")  # fmt: skip
@click.option("--drop-unknown-classes", is_flag=True,
              help="Leave out classes without a word vector, and their labels, instead of stopping.")  # fmt: skip
@click.option("--truncated", default=STATUS, show_default=True, type=click.Choice(TRUNCATED),
              help="An image whose file ends too early: status leaves it out and says so, keep takes the part that is "
                   "in the file. The store records it.")  # fmt: skip
@click.option("--max-megapixels", default=MAX_MEGAPIXELS, show_default=True, type=click.IntRange(min=1), metavar="N",
              help="The largest image to read, in million pixels. Each takes 1 to 8 bytes of memory a pixel. The store "
                   "records it.")  # fmt: skip
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1), metavar="N",
              help="The number of crops in one forward pass.")  # fmt: skip
@device_option
@click.option("--precision", default="fp32", show_default=True, type=click.Choice([AUTO, *PRECISIONS]),
              help="The arithmetic of the backbone. auto: that of the store at --out, else bf16 where the device has "
                   "units for it, else fp32. The store records what ran.")  # fmt: skip
@click.option("--regions", is_flag=True,
              help="Also store the unpooled 14x14 map that LESA and BiAM read (VGG: conv5_4).")  # fmt: skip
@click.option("--global", "global_vector", is_flag=True,
              help="Also store one vector of the whole picture (VGG: fc7, which needs weights with the classifier; "
                   "other networks: the mean of the last map).")  # fmt: skip
@click.option("--compile", "compiled", is_flag=True,
              help="Compile the backbone: up to 1.6 times as fast on a CPU; needs a C++ compiler there.")  # fmt: skip
@click.option("--dtype", default="float16", show_default=True, type=click.Choice(DTYPES),
              help="The number type of the store. int8 halves its size, by rounding in each channel.")  # fmt: skip
@click.option("--codec", type=click.Choice(CODEC_NAMES),
              help="The compression of the maps. Default: auto, the best measured choice for each array.")  # fmt: skip
@click.option("--chunk-rows", type=click.IntRange(min=1), metavar="N",
              help="The number of rows that are read at once. Default: 64.")  # fmt: skip
@click.option("--shard-rows", type=click.IntRange(min=1), metavar="N",
              help="The number of rows that are written at once. Default: 256; above 100,000 rows 1024.")  # fmt: skip
@click.option("--workers", type=click.IntRange(min=1), metavar="N",
              help="Share the work among N processes of this machine, by dask. Default: one process.")  # fmt: skip
@click.option("--scheduler", metavar="ADDRESS",
              help="Share the work among the workers of a dask.distributed scheduler, such as "
                   "tcp://head:8786. Default: no scheduler.")  # fmt: skip
@click.option("--part", type=PartType(), metavar="I/N",
              help="Do only part I of N, for one job of a batch system. Default: all parts.")  # fmt: skip
@click.option("--plan", is_flag=True,
              help="Extract nothing; measure a few batches and print the expected shards, bytes and "
                   "hours.")  # fmt: skip
@click.option("--rows", type=click.IntRange(min=1), metavar="N",
              help="With --plan: the number of rows to plan for. Default: the rows of the data set.")  # fmt: skip
@click.option(
    "--retry-failed", is_flag=True, help="Extract finished shards again when they hold pictures that could not be read."
)
@click.option("--append", is_flag=True, help="Add new images or splits to the store at --out.")
@click.option("--overwrite", is_flag=True, help="Delete the store at --out and start again.")
@click.pass_obj
def extract(catalog: Path | None, /, plan: bool, rows: int | None, **options: Any) -> None:
    """Turn the images of a data set into a store of pooled feature maps.

    The same command continues an extraction that was stopped.
    """
    from .catalog.catalog import Catalog
    from .options import ExtractOptions

    Catalog(catalog).dataset(options["dataset"])  # arguments are checked before torch is imported, which takes seconds
    asked = ExtractOptions(catalog=catalog, **options)
    if plan:
        from .estimate import plan as make_plan

        click.echo(make_plan(asked, rows))
        return
    if rows:
        raise C3Error("--rows goes with --plan; use --limit to extract only the first rows of each split")
    from .run import extract as run

    click.echo(run(asked))


@click.command()
@click.argument("name", default="", metavar="[FILTER]")
def backbones(name: str) -> None:
    """List the networks that --backbone takes, with levels and channels.

    FILTER is a part of a name; with it, networks of timm are listed too.
    """
    from .backbone.listing import listing

    click.echo(listing(name))


@click.command()
@click.argument("cache", metavar="STORE", type=UserPlace())
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@click.option(
    "--channels", is_flag=True, help="Read all maps and show the mean, maximum and share of zeros of every channel."
)
@click.option(
    "--check-images",
    type=click.IntRange(min=1),
    metavar="N",
    help="Extract N random rows again and compare. Default: none.",
)
@images_option
@click.pass_obj
def inspect(
    catalog: Path | None, cache: str, as_json: bool, channels: bool, check_images: int | None, images: Path | None
) -> None:
    """Show what a store holds: splits, levels, sizes, statuses, classes and provenance."""
    from .store.inspect import inspect_store

    click.echo(inspect_store(cache, as_json, channels))
    if check_images:
        from .spot_check import check_images as check

        click.echo(check(cache, check_images, images, catalog), err=as_json)


@click.command()
@click.argument("cache", metavar="STORE", type=UserPlace())
@click.option("--repair", is_flag=True, help="Extract broken shards again and rewrite broken tables.")
@images_option
@click.pass_obj
def verify(catalog: Path | None, cache: str, repair: bool, images: Path | None) -> None:
    """Read every byte of a store and name what is broken: checksums, counts, labels, statuses."""
    from .verify import verify as run

    click.echo(run(cache, repair, images, catalog))


@click.command()
@click.argument("cache", metavar="STORE", type=UserPlace())
@click.pass_obj
def migrate(catalog: Path | None, cache: str) -> None:
    """Bring a store of an older version up to date, in place.

    The same command continues a migration that was stopped.
    """
    from .store.open import require_store

    require_store(cache)  # before torch is imported, which takes seconds
    from .migrate import migrate as run

    click.echo(run(cache, catalog))


@click.command()
@click.argument("caches", nargs=-1, required=True, metavar="STORE...", type=UserPlace())
@click.option(
    "--out", required=True, type=UserPlace(), metavar="STORE", help="The store to write: a path or an fsspec URL."
)
def merge(caches: tuple[str, ...], out: str) -> None:
    """Join stores: the parts of one extraction, or other images and splits extracted in the same way."""
    from .merge import merge as run

    click.echo(run(caches, out))


@click.command()
@click.argument("cache", metavar="STORE", type=UserPlace())
@click.option("--vectors", required=True, type=UserPlace(), metavar="NAME|FILE",
              help="The other vectors: a name of the catalog, or a file.")  # fmt: skip
@click.option(
    "--out", required=True, type=UserPlace(), metavar="STORE", help="The store to write: a path or an fsspec URL."
)
@click.pass_obj
def revector(catalog: Path | None, cache: str, vectors: str, out: str) -> None:
    """Make a store with other class vectors from a complete one; no image is read."""
    from .revector import revector as run

    click.echo(run(cache, vectors, out, catalog))


@click.group()
def catalog() -> None:
    """Look up data sets, word vectors and weights."""


@catalog.command("list")
@click.pass_obj
def catalog_list(path: Path | None) -> None:
    """List the names in the catalog."""
    from .catalog.catalog import listing

    click.echo(listing(path))


@catalog.command("show")
@click.argument("name", type=DatasetName())
@click.pass_obj
def catalog_show(path: Path | None, name: str) -> None:
    """Show the settings of one data set, with resolved paths."""
    from .catalog.catalog import show

    click.echo(show(path, name))


@catalog.command("check", short_help="Check the files of a data set.")
@click.argument("name", type=DatasetName())
@click.pass_obj
def catalog_check(path: Path | None, name: str) -> None:
    """Check the files of a data set: what exists, what is missing, where to get it, and whether counts match."""
    from .catalog_check import check

    found = check(path, name)
    click.echo(found)
    if not found.complete:
        raise C3Error(f"data set {name}: {'; '.join(found.faults)}. Next: {found.next}")
    click.echo(f"Next: {found.next}")


@click.command()
@click.argument("name", type=DatasetName())
@click.option(
    "--optional", is_flag=True, help="Also download files that only some uses need: boxes, machine labels, image lists."
)
@click.option("--images", is_flag=True, help="Also download the images in the official list of addresses.")
@click.option("--splits", multiple=True, metavar="NAME",
              help="Download images of this split only. Repeat the option for more splits. "
                   "Default: all splits.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), metavar="N",
              help="Download only the first N images of the list. Default: all images.")  # fmt: skip
@click.option(
    "--jobs",
    default=8,
    show_default=True,
    type=click.IntRange(1, 64),
    metavar="N",
    help="The number of downloads at a time.",
)
@click.option("--rate", default=10.0, show_default=True, type=RealNumber(0, min_open=True), metavar="X",
              help="The maximum number of requests per second, over all downloads.")  # fmt: skip
@click.option("--tries", default=5, show_default=True, type=click.IntRange(min=1), metavar="N",
              help="The maximum number of attempts for one download.")  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Try again the images that were gone, placeholders or damaged.")
@click.pass_obj
def fetch(catalog: Path | None, /, name: str, rate: float, tries: int, **options: Any) -> None:
    """Download the files of a data set from their official addresses.

    The same command continues a download that was stopped.
    """
    from .download.downloader import Politeness
    from .download.fetch import FetchOptions
    from .download.fetch import fetch as run

    click.echo(run(FetchOptions(name, catalog, politeness=Politeness(rate, tries), **options)))


@click.command()
@click.option("--tower", required=True, type=UserPlace(), metavar="KIND:MODEL", help=TOWER_HELP)
@click.option("--words", type=UserPath(), metavar="FILE",
              help="The words or phrases, one a line. Required without --dataset.")  # fmt: skip
@click.option("--dataset", type=DatasetName(), metavar="NAME",
              help="The data set whose class names are the words. Required without --words.")  # fmt: skip
@click.option("--template", "templates", multiple=True, metavar="TEXT", help=TEMPLATE_HELP)
@click.option(
    "--out", default="vectors.npz", show_default=True, type=UserPath(), metavar="FILE", help="The file to write."
)
@click.option("--overwrite", is_flag=True, help="Replace the file at --out.")
@click.pass_obj
def vectors(catalog: Path | None, /, out: Path, tower: str, **options: Any) -> None:
    """Write class vectors of any words or phrases, by a text tower on this machine."""
    from .vectors import write_vectors

    click.echo(write_vectors(out, tower, catalog=catalog, **options))


COMMANDS = (
    extract,
    backbones,
    inspect,
    verify,
    migrate,
    merge,
    revector,
    catalog,
    vectors,
    fetch,
    import_features,
    import_biam,
)
