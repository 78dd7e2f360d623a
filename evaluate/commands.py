"""The commands of evaluation: parse, call one function, print one summary. Heavy imports stay inside the commands."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..common.click_options import Name, RunPath, UserPlace, device_option
from .names import PROTOCOLS, TIES

if TYPE_CHECKING:
    from ..common.average_precision import Ties

PATH = RunPath()
LEAST_RESAMPLES = 100  # of few resamples an interval is too narrow: of one it has no width


class Resamples(click.IntRange):
    """A number of bootstrap resamples, or 0 for none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number."""
        number = int(super().convert(value, param, ctx))
        if 0 < number < LEAST_RESAMPLES:
            self.fail(f"{number} is not 0 (no intervals) or at least {LEAST_RESAMPLES}.", param, ctx)
        return number


@click.command()
@click.option("--run", "run_path", required=True, type=PATH, metavar="FOLDER", help="The folder of a finished run.")
@click.option(
    "--split", default="test", show_default=True, help="The split to measure: choose settings on val, report test."
)
@click.option(
    "--cache",
    type=UserPlace(),
    metavar="STORE",
    help="The store to score the run on: another one, or the same in another place. Default: that of the training.",
)
@click.option(
    "--protocol", "protocols", multiple=True, type=Name("protocol", PROTOCOLS), metavar="NAME",
    help=f"How to average: {', '.join(PROTOCOLS)}; may be repeated. Default: by the name of the data set.",
)  # fmt: skip
@click.option("--ties", default="grouped", show_default=True, type=Name("rule of ties", TIES),
              help="How AP takes equal scores: as one rank (grouped, as scikit-learn) or by row (stable).")  # fmt: skip
@click.option(
    "--resamples",
    default=1000,
    show_default=True,
    type=Resamples(min=0),
    metavar="N",
    help="Bootstrap resamples of the images, 100 or more; 0 leaves out intervals.",
)
@device_option
def evaluate(
    run_path: Path, split: str, cache: str | None, protocols: tuple[str, ...], ties: Ties, resamples: int, device: str
) -> None:
    """Measure a run: write mAP and F1@K for ZSL and GZSL to metrics.json, AP of every class to per_class.csv."""
    from .record import summary
    from .run import EvaluateOptions
    from .run import evaluate as run

    done = run(run_path, split, cache, device, EvaluateOptions(protocols, ties, resamples))
    if done.metrics:
        click.echo(summary(done, done.metrics))
        click.echo(f"Next: {_next(run_path, split)}")


def _next(run: Path, split: str) -> str:
    """Return the command that follows: test after val, and after test what the run is for."""
    from ..train.run_folder import evaluate_command, report_command

    if split != "test":
        return evaluate_command(run)
    return f"{report_command(run.parent)}, or c3 predict IMAGES --run {shlex.quote(str(run))}"


@click.command()
@click.argument("first", metavar="RUN", type=PATH)
@click.argument("second", metavar="RUN", type=PATH)
@click.option("--split", default="test", show_default=True, help="The split to compare on.")
@click.option(
    "--cache",
    type=UserPlace(),
    metavar="STORE",
    help="The store to score both runs on. Default: for each run the store of its training.",
)
@click.option(
    "--resamples",
    default=1000,
    show_default=True,
    type=click.IntRange(min=LEAST_RESAMPLES),
    metavar="N",
    help="Bootstrap resamples of the images.",
)
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(min=0), metavar="N", help="Seed of the resampling."
)
@device_option
def compare(first: Path, second: Path, split: str, cache: str | None, resamples: int, seed: int, device: str) -> None:
    """Compare two runs metric by metric, with paired bootstrap intervals over images."""
    from .bootstrap import Resampling
    from .run import compare as run

    click.echo(run(first, second, split, cache, device, Resampling(resamples, seed)))


COMMANDS = (evaluate, compare)
