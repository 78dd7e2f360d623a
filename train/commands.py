"""`c3 train`, and the options that it shares with `c3 finetune`. Heavy imports stay inside the command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..common.click_options import (
    Command,
    ManyValues,
    Name,
    Numbers,
    UserPlace,
    each_number,
    grouped,
    named_values,
    running_options,
    runs_option,
    together,
)
from ..common.errors import C3Error
from .names import GROUPS, METHODS, OBJECTIVES, RESIDENCIES, default_method

if TYPE_CHECKING:
    from .run_folder import RunRecord

METHOD_HELP = (
    "A method, or all of a table: table1, table3, table5. Default: c3-plus, which had the best mAP where both were "
    "measured; on NUS-WIDE and Open Images c3, the method of the paper."
)


AS_IN_RECIPE = "as in the recipe"


def loop_options(others: str, **defaults: str) -> Callable[[Command], Command]:
    """Add the settings of the training loop, and any other by its name.

    `defaults` say in words what a setting is where it is not given, by its name, and `others` the same of the rest.
    """

    def said(text: str, name: str = "") -> str:
        return f"{text} Default: {defaults.get(name, others)}."

    return together(
        grouped("settings", "--epochs", type=int, metavar="N", help=said("Passes over the training split.", "epochs")),
        grouped("settings", "--batch-size", type=int, metavar="N", help=said("Images in a batch.")),
        grouped("settings", "--lr", type=float, metavar="X", help=said("Learning rate of Adam.", "lr")),
        grouped("settings", "--weight-decay", type=float, metavar="X",
                help=said("Weight decay; optimizer=adamw decouples it from the gradient.", "weight_decay")),
        named_values("settings", "--set", metavar="NAME=VALUE",
                     help=said("Any other setting of docs/training.md; may be repeated.", "set")),
    )  # fmt: skip


output_options = together(
    grouped("running", "--tensorboard", is_flag=True, help="Write the log as TensorBoard scalars too."),
    grouped("running", "--overwrite", is_flag=True, help="Train again from the start; replace the run folder."),
)
residency_option = grouped(
    "running",
    "--residency",
    default="auto",
    show_default=True,
    type=click.Choice(RESIDENCIES),
    help="Where the arrays are during training; auto is the fastest that fits.",
)


def refuse_seed(settings: Mapping[str, Any]) -> None:
    """Raise C3Error for a seed among the settings, where --seeds gives it."""
    if "seed" in settings:
        raise C3Error(f"--set seed={settings['seed']}: --seeds gives the seeds; leave it out, and use --seeds")


TRAIN_SECTIONS = {
    "What to train": ("caches", "method", "seeds", "runs", "overwrite"),
    "Settings": ("epochs", "batch_size", "lr", "weight_decay", "groups", "lambda_reg", "objective", "set"),
    "How to compute": ("device", "residency", "checkpoint_minutes", "checkpoint_steps", "tensorboard"),
}  # fmt: skip


class _Train(ManyValues):
    """`c3 train`, which names the command that took over one of its options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--end-to-end" in args:
            raise C3Error("c3 train --end-to-end is a command of its own now: c3 finetune [RUN] --dataset NAME")
        return super().parse_args(ctx, args)


@click.command(cls=_Train, sections=TRAIN_SECTIONS)
@click.option("--cache", "--caches", "caches", multiple=True, required=True, type=UserPlace(), metavar="STORE",
              help="A complete store: a path or an fsspec URL. Several are trained on one after the other: "
                   "--cache a.zarr b.zarr.")  # fmt: skip
@click.option("--method", metavar="NAME", type=Name("method", (*METHODS, *GROUPS)), help=METHOD_HELP)
@runs_option
@click.option(
    "--seeds",
    "--seed",
    multiple=True,
    type=Numbers(),
    metavar="N",
    default=("0",),
    help="One run each: --seeds 0 1 2, or 0..2. Default: 0.",
)
@loop_options(AS_IN_RECIPE)
@grouped("settings", "--groups", type=int, metavar="N",
         help=f"The number of semantic vectors, g (c3). Default: {AS_IN_RECIPE}.")  # fmt: skip
@grouped("settings", "--lambda", "lambda_reg", type=float, metavar="X",
         help=f"Weight of the regulariser, eq. 12 (c3). Default: {AS_IN_RECIPE}.")  # fmt: skip
@grouped("settings", "--objective", type=Name("objective", OBJECTIVES),
         help=f"The loss of class scores. Default: {AS_IN_RECIPE}.")  # fmt: skip
@residency_option
@running_options
@output_options
@click.pass_obj
def train(
    catalog: Path | None,
    caches: tuple[str, ...],
    method: str | None,
    runs: Path,
    seeds: tuple[tuple[int, ...], ...],
    settings: dict[str, Any],
    running: dict[str, Any],
) -> None:
    """Train a method on a feature store, or on each of several.

    The recipe of the method and the data set, in the catalog, gives the settings that are not given here.
    """
    from ..extract.store.cache import FeatureCache

    refuse_seed(settings)
    opened = [FeatureCache.open(cache) for cache in caches]
    for cache in opened:  # before torch is imported, which takes seconds, and before the first is trained on for hours
        cache.require_complete()
    defaults = dict.fromkeys(default_method(cache.origin.dataset) for cache in opened)
    if method is None and len(defaults) > 1:
        raise C3Error(f"the default method differs between these stores ({', '.join(defaults)}): give --method")
    method = method or next(iter(defaults))
    from .run import TrainOptions, train_each
    from .run_folder import evaluate_command, report_command

    done = []
    options = TrainOptions(caches[0], method, runs, settings, catalog, **running)
    for run in train_each(options, each_number(seeds), caches[1:]):
        click.echo(f"{run.path} is trained: {_timing(run.record)}")
        done.append(run)
    if done:  # of several processes only the first
        click.echo(f"Next: {evaluate_command(done[0].path) if len(done) == 1 else report_command(runs)}")


def _timing(record: RunRecord) -> str:
    size, timings = f"{record.parameters / 1e6:.2f} M parameters", record.timings
    return f"{size}, {timings.seconds:.0f} s, {timings.rows_per_s:.0f} images/s" if timings else size


COMMANDS = (train,)
