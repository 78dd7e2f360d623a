"""A small data set with a finished run on it, for training end to end."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from c3.cli import main
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.train.finetune.end_to_end import EndToEnd, EndToEndOptions
from c3.train.finetune.images import ImageTable
from c3.train.finetune.start import FineTuneOptions, request_of
from c3.train.run import TrainOptions, train
from c3.train.run_folder import Run, open_run
from c3.train.scorer import rebuild
from click.testing import CliRunner, Result
from safetensors.torch import load_file

# a run that has hardly begun to learn, so that there is much left; with dropout, so that random numbers count
QUICK = {"epochs": 1, "batch_size": 3, "lr": 1e-5, "hidden1": 16, "hidden2": 8, "seed": 5}
SIDE = 64  # of the pictures: a step takes a tenth of the time that it takes with 224
TUNING = {"epochs": 2, "lr": 1e-3, "warmup": 2, "backbone_lr": 0.5}


@dataclass(frozen=True)
class Placement:
    """A table data set, its store and a finished run on it."""

    root: Path
    store: Path
    start: Path

    @property
    def catalog(self) -> Path:
        return self.root / "catalog.yaml"

    def asked(self, runs: Path, **settings: object) -> FineTuneOptions:
        """A request that tunes the run, into `runs`."""
        return FineTuneOptions("tiny", self.start, "fast0tag", runs, TUNING | settings, self.catalog, "cpu")

    def copied(self, folder: Path) -> Placement:
        """The same data set and run, to be changed."""
        root, start = folder / "copy", folder / "start"
        shutil.copytree(self.root, root)
        shutil.copytree(self.start, start)
        return Placement(root, self.store, start)


def made(folder: Path, draw_table: Callable[[Path, int], Path], broken: tuple[str, ...] = ()) -> Placement:
    """A place with sixteen drawn pictures, some of which are broken."""
    root = draw_table(folder / "tiny", 16)
    for name in broken:
        (root / "images" / name).write_bytes(b"no picture")
    store = folder / "f.zarr"
    extract(
        ExtractOptions("tiny", "squeezenet1_1", "random:0", store, root / "catalog.yaml", device="cpu", input_size=SIDE)
    )
    settings = {"objective": "ranknet", "vectors": "l2", **QUICK}
    return Placement(root, store, train(TrainOptions(store, "fast0tag", folder / "runs", settings, device="cpu")).path)


def c3(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tensors(run: Run | Path, name: str = "weights") -> dict[str, torch.Tensor]:
    return load_file((run if isinstance(run, Path) else run.path) / f"{name}.safetensors")


def joined(place: Placement) -> tuple[EndToEnd, ImageTable]:
    """The model before its first step, and its images."""
    start = open_run(place.start)
    request = request_of(start, place.asked(place.start))
    table = ImageTable(request.manifest, resize=request.backbone.resize)
    return EndToEnd(rebuild(start), request.backbone, EndToEndOptions()), table
