"""The program: it collects the commands of every stage and has the two that cross stages, `demo` and `sweep`."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import click

from . import __version__
from .common.click_options import (
    ManyValues,
    Name,
    Numbers,
    RealNumber,
    UserPath,
    cache_option,
    device_option,
    grouped,
    named_values,
    running_options,
    runs_option,
)
from .common.errors import C3Error
from .common.help_page import with_examples
from .common.memory import told_when_full
from .evaluate import commands as evaluation
from .evaluate.report import commands as reporting
from .extract import commands as extraction
from .predict import commands as prediction
from .train import commands as training
from .train.commands import AS_IN_RECIPE, residency_option
from .train.finetune import commands as finetuning
from .train.names import GROUPS, METHODS, default_method

SELECT_FOLDS = 3
MOST_FOLDS = 1000
# Heading -> command -> its line in `c3 --help`, and two examples; in the order of work.
PAGES: dict[str, dict[str, tuple[str, str, str]]] = {
    "See it work": {
        "demo": ("Draw pictures, extract, train, print the table: offline.", "c3 demo",
                 "c3 demo --method c3-plus --seeds 1"),
    },
    "Data": {
        "catalog": ("List, show and check data sets.", "c3 catalog list",
                    "c3 --catalog my_catalog.yaml catalog check holidays"),
        "vectors": ("Make word vectors with a text tower.",
                    "c3 vectors --words words.txt --tower model2vec:potion-base-8M --out words.npz",
                    "c3 vectors --dataset holidays --tower open_clip:ViT-B-32:clip.pt --out holidays.npz"),
        "fetch": ("Download a data set from its official addresses.", "c3 fetch openimages",
                  "c3 fetch openimages --images --splits test --limit 1000"),
        "backbones": ("List the networks that compute features.", "c3 backbones", "c3 backbones convnext"),
        "extract": ("Turn images into a store of feature maps.",
                    "c3 --catalog my_catalog.yaml extract --dataset holidays --out holidays.zarr",
                    "c3 extract --dataset coco --plan"),
        "import-features": ("Turn feature arrays of other tools into a store.",
                            "c3 import-features clip.npy --table labels.csv --vectors glove.6B.300d.txt",
                            "c3 import-features p8.npy p16.npy p32.npy --dataset holidays --out holidays.zarr"),
        "import-biam": ("Turn the published features of BiAM into a store.",
                        "c3 import-biam --train train.h5 --test test.h5 --out biam.zarr",
                        "c3 import-biam --train train.h5 --test test.h5 --dataset openimages"),
    },
    "Stores": {
        "inspect": ("Show what a store holds.", "c3 inspect holidays.zarr",
                    "c3 inspect holidays.zarr --check-images 10"),
        "verify": ("Check every byte of a store, and repair it.", "c3 verify holidays.zarr",
                   "c3 verify holidays.zarr --repair --images moved/holidays"),
        "merge": ("Join stores.", "c3 merge part-1.zarr part-2.zarr --out all.zarr",
                  "c3 merge 2024.zarr 2025.zarr --out holidays.zarr"),
        "revector": ("Give a store other class vectors.",
                     "c3 revector holidays.zarr --vectors glove.6B.300d.txt --out holidays-glove.zarr",
                     "c3 --catalog my_catalog.yaml revector holidays.zarr --vectors fasttext --out holidays-ft.zarr"),
        "migrate": ("Bring a store of an older version up to date.", "c3 migrate features.zarr",
                    "c3 --catalog my_catalog.yaml migrate holidays.zarr"),
    },
    "Training": {
        "train": ("Train a method on a store.", "c3 train --cache holidays.zarr",
                  "c3 train --cache features.zarr --method table1 --seeds 0 1 2"),
        "finetune": ("Train the backbone of a run together with its head.", "c3 finetune --dataset holidays",
                     "c3 finetune runs/c3-plus-holidays-s0-1234abcd --dataset holidays --epochs 5"),
        "sweep": ("Train and evaluate many settings on a store.",
                  "c3 sweep --cache holidays.zarr --lr 3e-3 1e-2 --seeds 0 1 2",
                  "c3 sweep --cache holidays.zarr --method c3 --groups 1 3 5 7"),
    },
    "Results": {
        "evaluate": ("Measure a run: mAP and F1@K for ZSL and GZSL.",
                     "c3 evaluate --run runs/c3-plus-holidays-s0-1234abcd",
                     "c3 evaluate --run runs/c3-plus-holidays-s0-1234abcd --split val"),
        "compare": ("Compare two runs with paired intervals.", "c3 compare runs/c3-a runs/c3-b",
                    "c3 compare runs/c3-a runs/c3-b --split val"),
        "report": ("Print the tables, draw the figures, write the page.", "c3 report --tables 1 2",
                   "c3 report --html report.html"),
    },
    "Use": {
        "predict": ("Tag images by a trained run, with any words.", "c3 predict photos/ --top 3",
                    "c3 predict photos/ --run runs/c3-plus-holidays-s0-1234abcd --vocabulary words.txt --json"),
        "search": ("Rank the images of a store by any words.",
                   'c3 search holidays.zarr "red boat" tram',
                   "c3 search holidays.zarr harbour --run runs/c3-plus-holidays-s0-1234abcd --html harbour.html"),
        "export": ("Write a run as ONNX, as safetensors, as a model card.",
                   "c3 export runs/c3-plus-holidays-s0-1234abcd --onnx model.onnx",
                   "c3 export runs/c3-plus-holidays-s0-1234abcd --safetensors head.safetensors --card"),
    },
}  # fmt: skip
DEMO_BACKBONE, DEMO_WEIGHTS = "squeezenet1_1", "random:0"  # fetching ImageNet weights needs a network


class _Program(click.Group):
    """Print every C3Error as one line with exit code 2, and an interrupt with the next command and exit code 130."""

    def list_commands(self, _: click.Context) -> list[str]:
        """Return the commands in the order of work."""
        ordered = [name for commands in PAGES.values() for name in commands]
        return [*ordered, *sorted(self.commands.keys() - ordered)]

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a line for every command, under headings."""
        for heading, commands in PAGES.items():
            with formatter.section(heading):
                formatter.write_dl([(name, line) for name, (line, *_) in commands.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _one_line(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _one_line(ctx):
            return super().invoke(ctx)


@contextmanager
def _one_line(ctx: click.Context) -> Iterator[None]:
    try:
        with told_when_full("free some memory, or use a machine that has more"):
            yield
    except C3Error as error:
        click.echo(f"c3: {' '.join(str(error).split())}", err=True)
        ctx.exit(2)
    except OSError as error:
        if error.filename is None:  # not about a file: a closed pipe, a connection
            raise
        click.echo(f"c3: {os.fsdecode(error.filename)}: {error.strerror}", err=True)
        ctx.exit(2)
    except KeyboardInterrupt as interrupt:
        click.echo(f"c3: interrupted. {str(interrupt) or 'The same command starts this step again'}", err=True)
        ctx.exit(130)


def _print_all_names() -> None:
    """Let output carry every name: in a locale without UTF-8, and for file names that are no text."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            stream.reconfigure(
                encoding="utf-8" if ascii_only else None,
                errors="surrogateescape" if ascii_only else "backslashreplace",
            )


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="c3")
@click.option("--catalog", type=UserPath(), metavar="FILE",
              help="Your own catalog; it extends the built-in one. Default: the "
              "built-in one alone.")  # fmt: skip
@click.pass_context
def main(ctx: click.Context, catalog: Path | None) -> None:
    """Tag images with many labels, also unseen ones: extract features once, train many times, report."""
    _print_all_names()
    ctx.obj = catalog
    # the handler of this invocation writes to this invocation's stderr
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)


for _command in (
    *extraction.COMMANDS,
    *training.COMMANDS,
    *finetuning.COMMANDS,
    *evaluation.COMMANDS,
    *reporting.COMMANDS,
    *prediction.COMMANDS,
):
    main.add_command(_command)


@main.command()
@click.option(
    "--out",
    default="c3-demo",
    show_default=True,
    type=UserPath(),
    metavar="FOLDER",
    help="Folder for the store and the runs.",
)
@click.option(
    "--seeds",
    default=3,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Training runs of each method.",
)
@click.option("--method", "methods", multiple=True, default=("fast0tag", "c3"), show_default=True, metavar="NAME",
              type=Name("method", (*METHODS, *GROUPS)),
              help="A method, or all of a table: --method table1; may be repeated.")  # fmt: skip
@device_option
def demo(out: Path, seeds: int, methods: tuple[str, ...], device: str) -> None:
    """Show the whole idea in minutes, offline: draw pictures, extract, train C3 and a baseline, print the table."""
    from .evaluate.report.run import report as make_report
    from .evaluate.run import evaluate as score
    from .extract.options import ExtractOptions
    from .extract.run import extract as run_extract
    from .train.run import TrainOptions, train_each
    from .train.run_folder import report_command

    store, runs = out / "features.zarr", out / "runs"
    click.echo(run_extract(ExtractOptions("demo", DEMO_BACKBONE, DEMO_WEIGHTS, store, device=device)))
    for method in methods:
        for run in train_each(TrainOptions(store, method, runs, device=device), range(seeds)):
            score(run.path, device=device)
    click.echo(make_report((1,), runs))
    click.echo(f"Next: {report_command(runs, '--html report.html')}; then your own pictures: docs/own-data.md")


SWEEP_SECTIONS = {
    "What to train": ("cache", "methods", "runs"),
    "Settings to combine": ("groups", "lambda_reg", "lr", "epochs", "seed", "set", "listed"),
    "Other unseen classes, and the choice of settings": ("hide_seed", "folds", "held_images", "select", "select_only"),
    "How to compute": ("jobs", "device", "residency", "checkpoint_minutes", "checkpoint_steps"),
}


@main.command(cls=ManyValues, sections=SWEEP_SECTIONS)
@cache_option
@click.option("--method", "methods", multiple=True, metavar="NAME", type=Name("method", (*METHODS, *GROUPS)),
              help="Methods, or all of a table: --method conse c3, table1. Default: as in `c3 train`.",
              )  # fmt: skip
@runs_option
@grouped("grid", "--groups", multiple=True, type=int, metavar="N",
         help=f"Values of g: --groups 1 3 5 7 9. Default: {AS_IN_RECIPE}.")  # fmt: skip
@grouped("grid", "--lambda", "lambda_reg", multiple=True, type=float, metavar="X",
         help=f"Values of lambda: --lambda 0 0.2 0.4. Default: {AS_IN_RECIPE}.")  # fmt: skip
@grouped("grid", "--lr", multiple=True, type=float, metavar="X",
         help=f"Learning rates of Adam: --lr 1e-4 1e-3. Default: {AS_IN_RECIPE}.")  # fmt: skip
@grouped("grid", "--epochs", multiple=True, type=int, metavar="N",
         help=f"Numbers of epochs: --epochs 5 10. Default: {AS_IN_RECIPE}.")  # fmt: skip
@grouped(
    "grid",
    "--seeds",
    "seed",
    multiple=True,
    type=Numbers(),
    metavar="N",
    help="Seeds: --seeds 0 1 2, or 0..2. Default: 0.",
)
@grouped("grid", "--hide-seeds", "hide_seed", multiple=True, type=Numbers(), metavar="N",
         help="Draw other unseen classes with each of these seeds: --hide-seeds 0..9. Default: those of the "
              "store.")  # fmt: skip
@click.option("--folds", type=click.IntRange(2, MOST_FOLDS), metavar="N",
              help="Divide the seen classes into this number of parts, and hold back one part at a time. Default: "
                   f"none; with --select {SELECT_FOLDS}.")  # fmt: skip
@click.option("--held-images", default=0.0, type=RealNumber(0, 1, max_open=True), metavar="X",
              help="Every fold also holds back this share of the images of train, which is scored with val: "
                   "--held-images 0.2. Default: 0, none.")  # fmt: skip
@click.option("--select", is_flag=True, help="Choose settings for each method by folds, then train them.")
@click.option("--select-only", is_flag=True, help="Choose settings and stop.")
@named_values("grid", "--set", many=True, metavar="NAME=V1,V2",
              help="Values of any other setting of docs/training.md; may be repeated. "
                   f"Default: {AS_IN_RECIPE}.")  # fmt: skip
@click.option(
    "--list",
    "listed",
    type=UserPath(),
    metavar="FILE",
    help="A YAML list of settings; each entry is combined with all values of the other options. Default: no list.",
)
@click.option(
    "--jobs",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Runs that train at the same time, each in a process of its own.",
)
@residency_option
@running_options
@click.pass_obj
def sweep(
    catalog: Path | None,
    cache: str,
    methods: tuple[str, ...],
    runs: Path,
    grid: dict[str, tuple[Any, ...]],
    folds: int | None,
    held_images: float,
    select: bool,
    select_only: bool,
    listed: Path | None,
    jobs: int,
    running: dict[str, Any],
) -> None:
    """Train and evaluate every combination of settings on one store. Finished runs are not repeated.

    --select tries the combinations on folds of the seen classes, without labels of unseen classes, and trains the best.
    """
    from .extract.store.cache import FeatureCache

    store = FeatureCache.open(cache)
    store.require_complete()  # before torch is imported, which takes seconds
    methods = methods or (default_method(store.origin.dataset),)
    from .evaluate.sweep import evaluate_sweep, sweep_summary
    from .train.registry import methods_named
    from .train.run import TrainOptions
    from .train.sweep import combinations, for_methods, read_list, varied
    from .train.sweep import sweep as run

    names = tuple(dict.fromkeys(method for name in methods for method in methods_named(name)))
    # a range arrives as a tuple of its numbers
    grid = {name: tuple(chain(*(v if isinstance(v, tuple) else (v,) for v in values))) for name, values in grid.items()}
    if not (select or select_only):
        of_folds: dict[str, tuple[Any, ...]] = {"folds": (folds,), "fold": tuple(range(folds))} if folds else {}
        of_folds |= {"held_images": (held_images,)} if held_images else {}
        if twice := [name for name in of_folds if name in grid]:
            raise C3Error(f"--set: {twice[0]} is given by --folds and --held-images too; give it once")
        grid |= of_folds
    entries = read_list(listed, names, grid) if listed else ({},)
    base = TrainOptions(cache, names[0], runs, {}, catalog, **running)
    if select or select_only:
        from .evaluate.select import final_settings
        from .evaluate.select import select as choose
        from .evaluate.selection_files import command_of, write_selection

        if any("seed" in entry for entry in entries):
            raise C3Error(f"list {listed}: --select takes its seeds from --seeds; leave seed out of the entries")
        folds, seeds = folds or SELECT_FOLDS, grid.pop("seed", (0,))
        tried = for_methods(names, combinations(grid | {"seed": seeds[:1]}, entries))
        chosen = choose(base, tried, folds, jobs, held_images)
        written = write_selection(base, chosen, command_of(cache, names, grid, listed, folds, held_images))
        click.echo("\n\n".join(selection.table() for selection in chosen))
        click.echo(f"Chosen settings: {', '.join(map(str, written))}")
        if select_only:
            return
        settings = final_settings(chosen, seeds)
    else:
        settings = for_methods(names, combinations(grid, entries))
    done = run(base, settings, evaluate_sweep, jobs)
    click.echo(sweep_summary(done.runs, varied(settings)))
    if done.failures:
        raise C3Error(f"{len(done.failures)} of {len(done.runs) + len(done.failures)} failed: {done.first_failure()}")


for _pages in PAGES.values():
    for _name, (_, *_examples) in _pages.items():
        with_examples(main.commands[_name], _examples)
