"""The command line: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import __version__
from .errors import C3Error

FORMATS = ("text", "markdown", "csv", "latex")
DEMO_BACKBONE, DEMO_WEIGHTS = "squeezenet1_1", "random:0"  # fetching ImageNet weights needs a network


class _Program(click.Group):
    """Turns every C3Error into one line and exit code 2, and an interrupt into what to do next."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except C3Error as error:
            click.echo(f"c3: {' '.join(str(error).split())}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo(
                "c3: interrupted; the same command continues an extraction and starts a training again", err=True
            )
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


def _device_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")(command)


def _runs_option(command: Callable[..., Any]) -> Callable[..., Any]:
    path = click.Path(path_type=Path)
    return click.option("--runs", default="runs", show_default=True, type=path, help="Folder of run folders.")(command)


@main.command()
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
@click.option("--batch-size", default=32, show_default=True, type=click.IntRange(min=1))
@_device_option
@click.option("--overwrite", is_flag=True, help="Start again, deleting the store at --out.")
@click.pass_obj
def extract(catalog: Path | None, **options: Any) -> None:
    """Turn the images of a data set into a store of pooled feature maps; the same command continues a stopped one."""
    from .extract.run import ExtractOptions
    from .extract.run import extract as run

    click.echo(run(ExtractOptions(catalog=catalog, **options)))


@main.command()
@click.option("--cache", required=True, type=click.Path(path_type=Path), help="A complete store made by c3 extract.")
@click.option("--method", default="c3", show_default=True, metavar="NAME", help="c3, c3-released or fast0tag.")
@_runs_option
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--lr", type=float, help="Learning rate of Adam.")
@click.option("--weight-decay", type=float)
@click.option("--groups", type=int, help="g, the number of semantic vectors (c3).")
@click.option("--lambda", "lambda_reg", type=float, help="Weight of the regulariser, eq. 12 (c3).")
@click.option("--seed", type=int)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting of the loop or the method."
)
@_device_option
@click.option("--overwrite", is_flag=True, help="Train again although the run is finished.")
@click.pass_obj
def train(
    catalog: Path | None,
    cache: Path,
    method: str,
    runs: Path,
    settings: tuple[str, ...],
    device: str,
    overwrite: bool,
    **named: Any,
) -> None:
    """Train a method on a store. Settings not given come from the recipe of the data set in the catalog."""
    from .train.run import TrainOptions
    from .train.run import train as run

    overrides = {name: value for name, value in named.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise C3Error(f"--set {setting!r}: expected NAME=VALUE")
        overrides[name] = value
    done = run(TrainOptions(cache, method, runs, overrides, catalog, device, overwrite))
    click.echo(f"{done.path} is trained: {_timing(done.record)}. Next: c3 evaluate --run {done.path}")


@main.command()
@click.option("--run", "run_path", required=True, type=click.Path(path_type=Path), help="A run folder.")
@click.option("--split", default="test", show_default=True, help="Choose settings on val, report test.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where the store is now, if it has moved.")
@_device_option
def evaluate(run_path: Path, split: str, cache: Path | None, device: str) -> None:
    """Score a run: mAP and F1@K for ZSL and GZSL into metrics.json, AP of every class into per_class.csv."""
    from .evaluate.run import evaluate as run
    from .evaluate.run import summary

    click.echo(summary(run(run_path, split, cache, device)))


@main.command()
@click.option("--tables", is_flag=True, help="Followed by table numbers: --tables 1 2.")
@click.argument("numbers", nargs=-1, type=click.IntRange(1, 2))
@_runs_option
@click.option("--format", "form", default="text", show_default=True, type=click.Choice(FORMATS))
def report(tables: bool, numbers: tuple[int, ...], runs: Path, form: str) -> None:
    """Print the paper's tables, measured beside published: c3 report --tables 1 2."""
    if numbers and not tables:
        raise C3Error(f"table numbers follow --tables: c3 report --tables {' '.join(map(str, numbers))}")
    from .evaluate.run import report as run

    click.echo(run(numbers or (1, 2), runs, form))


@main.command()
@click.argument("cache", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Machine-readable.")
def inspect(cache: Path, as_json: bool) -> None:
    """Show what a store holds: splits, levels, sizes, statuses, classes and provenance."""
    from .extract.inspect import inspect_store

    click.echo(inspect_store(cache, as_json))


@main.group()
def catalog() -> None:
    """The data sets, word vectors and weights that c3 knows."""


@catalog.command("list")
@click.pass_obj
def catalog_list(path: Path | None) -> None:
    """The names in the catalog."""
    from .extract.catalog import listing

    click.echo(listing(path))


@catalog.command("show")
@click.argument("name")
@click.pass_obj
def catalog_show(path: Path | None, name: str) -> None:
    """The entry of one data set, with its paths resolved."""
    from .extract.catalog import show

    click.echo(show(path, name))


@catalog.command("check")
@click.argument("name")
@click.pass_obj
def catalog_check(path: Path | None, name: str) -> None:
    """Which files of a data set are there, which are missing, and where the missing ones come from."""
    from .extract.catalog import check

    text, complete = check(path, name)
    click.echo(text)
    if not complete:
        raise C3Error(f"data set {name} is not complete; place the missing files and run: c3 catalog check {name}")


@main.command()
@click.option(
    "--out", default="c3-demo", show_default=True, type=click.Path(path_type=Path), help="Folder for store and runs."
)
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1), help="Training runs of each method.")
@_device_option
def demo(out: Path, seeds: int, device: str) -> None:
    """The whole idea in minutes, offline: draw pictures, extract, train C3 and a baseline, print the table."""
    from .evaluate.run import evaluate as score
    from .evaluate.run import report as make_report
    from .extract.run import ExtractOptions
    from .extract.run import extract as run_extract
    from .train.run import TrainOptions
    from .train.run import train as run_train

    store, runs = out / "features.zarr", out / "runs"
    click.echo(run_extract(ExtractOptions("demo", DEMO_BACKBONE, DEMO_WEIGHTS, store, device=device)))
    for method in ("fast0tag", "c3"):
        for seed in range(seeds):
            score(run_train(TrainOptions(store, method, runs, {"seed": seed}, device=device)).path, device=device)
    click.echo(make_report((1,), runs))


def _timing(record: dict[str, Any]) -> str:
    timings = record["timings"]
    size = f"{record['parameters'] / 1e6:.2f} M parameters"
    return f"{size}, {timings['seconds']:.0f} s, {timings['rows_per_s']:.0f} images/s"
