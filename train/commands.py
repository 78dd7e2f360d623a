"""The commands of training: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ..common.click_options import ManyValues, device_option, runs_option
from ..common.errors import C3Error

METHOD_HELP = "A method (fast0tag, lesa, biam, c3, ...) or all of a table: table1, table3, table5."


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--residency, --checkpoint-minutes and --checkpoint-steps: how runs are computed, whatever their settings."""
    for option in (
        click.option("--checkpoint-steps", default=0, type=click.IntRange(min=0),
                     help="Save it every so many steps as well."),
        click.option("--checkpoint-minutes", default=5.0, show_default=True, type=click.FloatRange(min=0),
                     help="Save a run so often."),
        click.option("--residency", default="auto", show_default=True,
                     help="Where the arrays are: stream, ram or device."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=ManyValues)
@click.option("--cache", help="A complete store: a path or an fsspec URL.")
@click.option("--end-to-end", is_flag=True, help="Train the backbone of a finished run with its head, from images.")
@click.option("--dataset", metavar="NAME", help="With --end-to-end: the data set of that run, in the catalog.")
@click.option("--from", "start", metavar="RUN", type=click.Path(path_type=Path),
              help="With --end-to-end: that run. Default: the newest of data set and method.")  # fmt: skip
@click.option("--method", metavar="NAME", help=f"{METHOD_HELP} Default: c3.")
@runs_option
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--lr", type=float, help="Learning rate of Adam.")
@click.option("--weight-decay", type=float)
@click.option("--groups", type=int, help="g, the number of semantic vectors (c3).")
@click.option("--lambda", "lambda_reg", type=float, help="Weight of the regulariser, eq. 12 (c3).")
@click.option("--objective", help="The loss of class scores: ranknet, sdl, hinge, warp, bce or asl.")
@click.option("--seeds", "--seed", multiple=True, type=int, help="--seeds 0 1 2. Default: 0; end to end the run's.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting of the loop or the method."
)
@device_option
@running_options
@click.option("--tensorboard", is_flag=True, help="Write the log as TensorBoard scalars too.")
@click.option("--overwrite", is_flag=True, help="Train again from the start, whatever the run folder holds.")
@click.pass_obj
def train(
    catalog: Path | None,
    cache: str | None,
    end_to_end: bool,
    dataset: str | None,
    start: Path | None,
    method: str | None,
    seeds: tuple[int, ...],
    settings: tuple[str, ...],
    residency: str,
    runs: Path,
    device: str,
    overwrite: bool,
    checkpoint_minutes: float,
    checkpoint_steps: int,
    tensorboard: bool,
    **named: Any,
) -> None:
    """Train a method on a store, or a finished run end to end with its backbone.

    Settings not given come from the recipe of the data set in the catalog, or from the finished run.
    """
    overrides = {name: value for name, value in named.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise C3Error(f"--set {setting!r}: expected NAME=VALUE")
        overrides[name] = value
    shared = {
        "runs": runs, "settings": overrides, "catalog": catalog, "device": device, "overwrite": overwrite,
        "checkpoint_minutes": checkpoint_minutes, "checkpoint_steps": checkpoint_steps, "tensorboard": tensorboard,
    }  # fmt: skip
    if end_to_end:
        _require_end_to_end(cache, dataset, start, method, residency)
        from .finetune.run import finetune, summary
        from .finetune.start import FineTuneOptions

        asked = FineTuneOptions(dataset, start, method or "c3", **shared)
        for seed in seeds or (None,):
            chosen = {} if seed is None else {"seed": seed}
            click.echo(summary(finetune(replace(asked, settings=overrides | chosen))))
        return
    if cache is None or dataset or start:
        raise C3Error("expected --cache STORE, or --end-to-end --dataset NAME [--from RUN]")
    from .run import TrainOptions, train_each

    done = []
    for run in train_each(TrainOptions(cache, method or "c3", residency=residency, **shared), seeds or (0,)):
        click.echo(f"{run.path} is trained: {_timing(run.record)}")
        done.append(run)
    if done:  # of several processes only the first
        click.echo(f"Next: c3 evaluate --run {done[0].path}" if len(done) == 1 else f"Next: c3 report --runs {runs}")


def _require_end_to_end(
    cache: str | None, dataset: str | None, start: Path | None, method: str | None, residency: str
) -> None:
    """Refuse what does not go with --end-to-end."""
    if cache is not None:
        raise C3Error("--cache does not go with --end-to-end, which trains from images: give --dataset NAME instead")
    if dataset is None:
        raise C3Error("--end-to-end needs --dataset NAME, a data set of the catalog; see: c3 catalog list")
    if residency != "auto":
        raise C3Error("--residency goes with --cache; end to end images are decoded as they are needed")
    if start and method:
        raise C3Error(f"--method chooses a run where none is named; leave it out with --from {start}")


def _timing(record: dict[str, Any]) -> str:
    timings = record["timings"]
    size = f"{record['parameters'] / 1e6:.2f} M parameters"
    return f"{size}, {timings['seconds']:.0f} s, {timings['rows_per_s']:.0f} images/s"


COMMANDS = (train,)
