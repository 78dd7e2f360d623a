"""The commands of training: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..command_options import ManyValues, cache_option, device_option, runs_option
from ..errors import C3Error

METHOD_HELP = "A method (fast0tag, lesa, biam, c3, ...) or all of a table: table1, table3, table5."


@click.command(cls=ManyValues)
@cache_option
@click.option("--method", default="c3", show_default=True, metavar="NAME", help=METHOD_HELP)
@runs_option
@click.option("--epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--lr", type=float, help="Learning rate of Adam.")
@click.option("--weight-decay", type=float)
@click.option("--groups", type=int, help="g, the number of semantic vectors (c3).")
@click.option("--lambda", "lambda_reg", type=float, help="Weight of the regulariser, eq. 12 (c3).")
@click.option("--objective", help="The loss of class scores: ranknet, sdl, hinge, warp, bce or asl.")
@click.option("--seeds", "--seed", multiple=True, type=int, default=(0,), show_default=True, help="--seeds 0 1 2.")
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Any other setting of the loop or the method."
)
@device_option
@click.option("--residency", default="auto", show_default=True, help="Where the arrays are: stream, ram or device.")
@click.option(
    "--checkpoint-minutes", default=5.0, show_default=True, type=click.FloatRange(min=0), help="Save a run so often."
)
@click.option("--checkpoint-steps", default=0, type=click.IntRange(min=0), help="Save it every so many steps as well.")
@click.option("--tensorboard", is_flag=True, help="Write the log as TensorBoard scalars too.")
@click.option("--overwrite", is_flag=True, help="Train again from the start, whatever the run folder holds.")
@click.pass_obj
def train(
    catalog: Path | None,
    cache: str,
    method: str,
    runs: Path,
    seeds: tuple[int, ...],
    settings: tuple[str, ...],
    device: str,
    overwrite: bool,
    residency: str,
    checkpoint_minutes: float,
    checkpoint_steps: int,
    tensorboard: bool,
    **named: Any,
) -> None:
    """Train a method on a store. Settings not given come from the recipe of the data set in the catalog."""
    from .run import TrainOptions, train_each

    overrides = {name: value for name, value in named.items() if value is not None}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise C3Error(f"--set {setting!r}: expected NAME=VALUE")
        overrides[name] = value
    options = TrainOptions(
        cache, method, runs, overrides, catalog, device, overwrite,
        residency=residency, checkpoint_minutes=checkpoint_minutes, checkpoint_steps=checkpoint_steps,
        tensorboard=tensorboard,
    )  # fmt: skip
    done = []
    for run in train_each(options, seeds):
        click.echo(f"{run.path} is trained: {_timing(run.record)}")
        done.append(run)
    if done:  # of several processes only the first
        click.echo(f"Next: c3 evaluate --run {done[0].path}" if len(done) == 1 else f"Next: c3 report --runs {runs}")


def _timing(record: dict[str, Any]) -> str:
    timings = record["timings"]
    size = f"{record['parameters'] / 1e6:.2f} M parameters"
    return f"{size}, {timings['seconds']:.0f} s, {timings['rows_per_s']:.0f} images/s"


@click.command(cls=ManyValues)
@cache_option
@click.option("--method", default="c3", show_default=True, metavar="NAME", help="A method: fast0tag, lesa, c3, ...")
@runs_option
@click.option("--groups", multiple=True, type=int, help="Values of g: --groups 1 3 5 7 9.")
@click.option("--lambda", "lambda_reg", multiple=True, type=float, help="Values of lambda: --lambda 0 0.2 0.4.")
@click.option("--lr", multiple=True, type=float, help="Learning rates.")
@click.option("--epochs", multiple=True, type=int)
@click.option("--seeds", multiple=True, type=int, default=(0,), show_default=True, help="Seeds: --seeds 0 1 2.")
@click.option("--set", "settings", multiple=True, metavar="NAME=V1,V2", help="Values of any other setting.")
@device_option
@click.pass_obj
def sweep(
    catalog: Path | None,
    cache: str,
    method: str,
    runs: Path,
    seeds: tuple[int, ...],
    settings: tuple[str, ...],
    device: str,
    **named: tuple[Any, ...],
) -> None:
    """Train and evaluate every combination of settings on one store; finished runs are not done again."""
    from ..evaluate.run import evaluate_sweep, sweep_summary
    from .run import TrainOptions
    from .sweep import sweep as run

    grid = {name: values for name, values in named.items() if values}
    for setting in settings:
        name, equals, values = setting.partition("=")
        if not equals:
            raise C3Error(f"--set {setting!r}: expected NAME=VALUE or NAME=VALUE,VALUE")
        grid[name] = tuple(values.split(","))
    grid["seed"] = seeds
    done = run(TrainOptions(cache, method, runs, {}, catalog, device), grid, evaluate_sweep)
    click.echo(sweep_summary(done.runs, [name for name, values in grid.items() if len(values) > 1]))
    if done.failures:
        raise C3Error(f"{len(done.failures)} of {len(done.runs) + len(done.failures)} failed: {done.first_failure()}")


COMMANDS = (train, sweep)
