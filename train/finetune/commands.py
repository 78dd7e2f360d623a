"""`c3 finetune`. Heavy imports stay inside the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from ...common.click_options import (
    DatasetName,
    ManyValues,
    Name,
    Numbers,
    RunPath,
    each_number,
    running_options,
    runs_option,
)
from ...common.errors import C3Error
from ..commands import loop_options, output_options, refuse_seed
from ..names import METHODS, default_method

FINETUNE_SECTIONS = {
    "What to train": ("dataset", "method", "seeds", "runs", "overwrite"),
    "Settings": ("epochs", "batch_size", "lr", "weight_decay", "set"),
    "How to compute": ("device", "checkpoint_minutes", "checkpoint_steps", "tensorboard"),
}


@click.command(cls=ManyValues, sections=FINETUNE_SECTIONS)
@click.argument("run", required=False, type=RunPath())
@click.option(
    "--dataset", required=True, type=DatasetName(), metavar="NAME", help="The data set of the run, in the catalog."
)
@click.option("--method", metavar="NAME", type=Name("method", METHODS),
              help="Without RUN: start from the newest finished run of this method. "
                   "Default: as in c3 train.")  # fmt: skip
@runs_option
@click.option(
    "--seeds",
    "--seed",
    multiple=True,
    type=Numbers(),
    metavar="N",
    help="One run each: --seeds 0 1 2, or 0..2. Default: the seed of RUN.",
)
@loop_options("as in RUN", epochs="3", lr="a tenth of that of RUN", weight_decay="0", set="as there")
@running_options
@output_options
@click.pass_obj
def finetune(
    catalog: Path | None,
    run: Path | None,
    dataset: str,
    method: str | None,
    runs: Path,
    seeds: tuple[tuple[int, ...], ...],
    settings: dict[str, Any],
    running: dict[str, Any],
) -> None:
    """Train the backbone of a finished RUN together with its head, from images.

    Without RUN, start from the newest finished run of the data set and the method. The settings of RUN are used where
    none are given here. The backbone learns at a share of --lr: --set backbone_lr=0.1 is a tenth of it.
    """
    if run and method:
        raise C3Error(f"--method chooses a run where none is named; leave it out to start from {run}")
    from ..run_folder import open_run

    if run:
        open_run(run).require_finished()  # before torch is imported, which takes seconds
    from .run import finetune as run_finetune
    from .run import summary
    from .start import FineTuneOptions

    options = FineTuneOptions(dataset, run, method or default_method(dataset), runs, settings, catalog, **running)
    if seeds:
        refuse_seed(settings)
    for seed in each_number(seeds) or (None,):
        chosen = settings if seed is None else settings | {"seed": seed}
        click.echo(summary(run_finetune(replace(options, settings=chosen))))


COMMANDS = (finetune,)
