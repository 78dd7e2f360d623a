"""Measure how much speed of the bare backbone remains when extraction decodes, compresses and writes around it.

    python benchmarks/extraction.py --catalog CATALOG --dataset NAME --backbone vgg19 --weights FILE --images 256

Each round runs both in one process: (a) the backbone alone on batches in memory, (b) the whole extraction of the same
pictures into a new store. The ratio b / a is the result; the rates depend on the machine. The processor time of a
picture, over all threads, is printed beside: on a CPU, (b) cannot be faster than the cores that (a) leaves to decode
and compress.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from c3.extract.backbone.names import PRECISIONS
from c3.extract.backbone.pictures.crop_loader import CropLoader, CropSource
from c3.extract.options import ExtractOptions
from c3.extract.request import Request, open_or_create, prepare
from c3.extract.run import tasks_of
from c3.extract.worker import Report, ShardWorker


def bare(request: Request, batches: list[torch.Tensor]) -> float:
    """Return the seconds that the backbone takes for batches in memory, copies to the host included."""
    device = request.backbone.device
    start = time.perf_counter()
    for batch in batches:
        for level in request.backbone(batch.to(device)).values():
            level.cpu()
    return time.perf_counter() - start


def whole(request: Request) -> tuple[float, Report]:
    """Extract into a new store; return the seconds and the report of its phases."""
    cache = open_or_create(request)
    tasks = tasks_of(request.manifest, cache, {split: cache.pending(split) for split in cache.splits})
    report = Report()
    start = time.perf_counter()
    for done in ShardWorker(request.backbone, cache, request.options.batch_size).run(tasks, lambda rows, failed: None):
        report.add(done)
    return time.perf_counter() - start, report


def pictures_of(request: Request) -> torch.Tensor:
    """Return the pictures of train, decoded to the network's own size: (rows, 3, side, side) uint8."""
    root, split = request.manifest.root, request.manifest.splits["train"]
    sources = [CropSource(root / str(split.path[row]), split.crop[row]) for row in range(len(split))]
    ((_, crops),) = CropLoader(resize=request.backbone.resize).load([(None, sources)])
    return torch.from_numpy(crops.pixels())


def compare(asked: ExtractOptions, rounds: int) -> tuple[float, float]:
    """Return the images a second of the backbone alone and of the whole extraction, medians of the rounds."""
    request = prepare(asked)
    split = request.manifest.splits["train"]
    batches = list(pictures_of(request).split(asked.batch_size))
    bare(request, batches[:1])
    rates = []
    for number in range(rounds):
        started = time.process_time()
        alone = len(split) / bare(request, batches)
        between = time.process_time()
        seconds, report = whole(request)
        spent = [1000 * (end - start) / len(split) for start, end in
                 ((started, between), (between, time.process_time()))]  # fmt: skip
        rates.append((alone, len(split) / seconds))
        click.echo(
            f"round {number + 1}: backbone alone {alone:.2f}, extraction {rates[-1][1]:.2f} images/s; "
            f"{spent[0]:.1f} and {spent[1]:.1f} ms of processor time an image ({report.shares()})",
            err=True,
        )
    alone, together = np.median(rates, axis=0).tolist()
    return alone, together


@click.command()
@click.option("--catalog", type=click.Path(path_type=Path))
@click.option("--dataset", default="demo")
@click.option("--backbone", default="squeezenet1_1")
@click.option("--weights", default="random:0")
@click.option("--images", default=256)
@click.option("--batch-size", default=32)
@click.option("--device", default="auto")
@click.option("--dtype", default="float16")
@click.option("--precision", default="fp32", type=click.Choice(PRECISIONS))
@click.option("--compile", "compiled", is_flag=True)
@click.option("--rounds", default=3)
@click.option("--quick", is_flag=True, help="One round on 16 pictures, to check that everything runs.")
def main(images: int, rounds: int, quick: bool, **options: object) -> None:
    """Print both rates of every round, and the ratio of their medians."""
    images, rounds = (16, 1) if quick else (images, rounds)
    with tempfile.TemporaryDirectory(prefix="c3-extraction-") as folder:
        asked = ExtractOptions(**options, splits=("train",), limit=images, out=Path(folder, "f.zarr"), overwrite=True)
        alone, together = compare(asked, rounds)
    click.echo(
        f"{asked.backbone}{' compiled' * asked.compiled}, {images} images, batches of {asked.batch_size}, "
        f"{asked.precision}, {asked.dtype}, "
        f"{asked.device}, {torch.get_num_threads()} threads: extraction is {together / alone:.3f} of the "
        f"backbone alone (medians of {rounds})"
    )


if __name__ == "__main__":
    main()
