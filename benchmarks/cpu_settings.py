"""Compare ways to run a frozen backbone on a CPU with the way that extraction does.

    python benchmarks/cpu_settings.py --catalog CATALOG --dataset NAME --backbone vgg19 --weights FILE

Every way runs in processes of its own, in turn, on the same pictures in memory, pooled maps in float32:

    as it is               channels_last, oneDNN, all threads
    contiguous             the same in the layout of channels first
    without oneDNN         torch's own kernels
    compiled               torch.compile
    compiled, frozen       the same with weights as constants, so that batch norms vanish into convolutions: --compile
    a process per thread   as many processes of one thread as there are threads, each with its own batches
    onnxruntime            the network as an ONNX graph, in float32
    onnxruntime, int8      the same, quantised statically: weights by channel, maps by tensor (range of 64 pictures)

Rates are pictures a second, the median of the rounds. The error is the mean distance to the features of `as it is` over
their mean size, for every level. Seconds to prepare are what compiling or exporting takes before the first batch.
onnxruntime needs pip install '.[onnx]' onnxruntime.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from c3.extract.backbone.network import Backbone
from c3.extract.options import ExtractOptions
from c3.extract.request import prepare
from c3.predict.export import pooled
from extraction import pictures_of
from quiet import require_quiet
from torch import Tensor, nn

CALIBRATION = 64  # pictures
Run = Callable[[Tensor], Mapping[str, Tensor]]


def as_it_is(backbone: Backbone, pictures: Tensor, size: int) -> Run:
    """Return the backbone itself."""
    return backbone


def contiguous(backbone: Backbone, pictures: Tensor, size: int) -> Run:
    """Return the backbone with weights, and so maps, in the layout of channels first."""
    backbone.body.to(memory_format=torch.contiguous_format)
    body = backbone.body.forward
    backbone.body.forward = lambda inputs: body(inputs.contiguous())
    return backbone


def without_onednn(backbone: Backbone, pictures: Tensor, size: int) -> Run:
    """Return the backbone as torch computes it by itself."""
    torch.backends.mkldnn.enabled = False  # of this process
    return backbone


def compiled(backbone: Backbone, pictures: Tensor, size: int) -> Run:
    """Return the backbone with a compiled network."""
    backbone.body.compile()
    return backbone


def compiled_by_extract(backbone: Backbone, pictures: Tensor, size: int) -> Run:
    """Return the backbone as `c3 extract --compile` runs it."""
    backbone.compile_for(size)
    return backbone


class Exportable(nn.Module):
    """Pictures in, levels out, with operators that ONNX has."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the levels of (batch, 3, H, W) uint8."""
        return tuple(self.backbone.features(pixels, lambda taps: [pooled(tap) for tap in taps]).values())


def as_onnx(backbone: Backbone, pictures: Tensor, size: int, int8: bool = False) -> Run:
    """Return the network as onnxruntime runs it."""
    import onnxruntime

    names = [array.name for array in backbone.arrays]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.onnx")
        torch.onnx.export(
            Exportable(backbone), (pictures[:2],), path, dynamo=True, verbose=False, input_names=["pixels"],
            output_names=names, dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False,
        )  # fmt: skip
        if int8:
            path = quantised(path, pictures[:CALIBRATION])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda batch: {
        name: torch.from_numpy(values)
        for name, values in zip(names, session.run(names, {"pixels": batch.numpy()}), strict=True)
    }


def quantised(path: Path, pictures: Tensor) -> Path:
    """Write the graph with int8 convolutions beside itself; the range of every map is that of these pictures."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(pictures.split(8))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"pixels": batch.numpy()}

    prepared, out = path.with_name("prepared.onnx"), path.with_name("int8.onnx")
    quant_pre_process(path, prepared, skip_symbolic_shape=True)  # folds batch norms
    quantization.quantize_static(prepared, out, Reader(), per_channel=True, op_types_to_quantize=["Conv", "MaxPool"])
    return out


WAYS: dict[str, Callable[[Backbone, Tensor, int], Run]] = {
    "as it is": as_it_is,
    "contiguous": contiguous,
    "without oneDNN": without_onednn,
    "compiled": compiled,
    "compiled, frozen": compiled_by_extract,
    "a process per thread": as_it_is,
    "onnxruntime": as_onnx,
    "onnxruntime, int8": partial(as_onnx, int8=True),
}


@dataclass(frozen=True)
class Asked:
    """What every process measures: the request, the pictures of a batch, and the seconds of a round."""

    options: ExtractOptions
    seconds: float
    rounds: int


def measure(asked: Asked, way: str, threads: int, barrier: Barrier, answers: Any) -> None:
    """Run one way in this process and put its rates, seconds to prepare and errors into the queue, or what failed."""
    torch.set_num_threads(threads)
    try:
        request = prepare(asked.options)
        pictures, size = pictures_of(request), asked.options.batch_size
        wanted = request.backbone(pictures[:size])
        started = time.perf_counter()
        run = WAYS[way](request.backbone, pictures, size)
        found = run(pictures[:size])
        prepared = time.perf_counter() - started
        errors = {name: float((found[name].float() - level).abs().mean() / level.abs().mean())
                  for name, level in wanted.items()}  # fmt: skip
        rates = []
        for _ in range(asked.rounds):
            barrier.wait()
            rates.append(rate(run, pictures, size, asked.seconds))
        answers.put((rates, prepared, errors))
    except Exception as error:  # whatever a package raises is the answer of this way
        barrier.abort()
        answers.put(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def rate(run: Run, pictures: Tensor, size: int, seconds: float) -> float:
    """Return the pictures a second of whole batches, for at least as many seconds."""
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for batch in pictures.split(size):
            run(batch)
            done += len(batch)
    return done / (time.perf_counter() - started)


def lines(asked: Asked, threads: int, ways: tuple[str, ...]) -> Iterator[str]:
    """Measure the ways in turn; yield a line of markdown for each."""
    context, base = multiprocessing.get_context("spawn"), 0.0
    for way in ways:
        count = threads if way == "a process per thread" else 1
        barrier, answers = context.Barrier(count), context.Queue()
        processes = [context.Process(target=measure, args=(asked, way, threads // count, barrier, answers))
                     for _ in range(count)]  # fmt: skip
        for process in processes:
            process.start()
        found = [answers.get() for _ in processes]
        for process in processes:
            process.join()
        if failed := [answer for answer in found if isinstance(answer, str)]:
            yield f"| {way} | {failed[0]} | | | |"
            continue
        speed = median(sum(round_) for round_ in zip(*(rates for rates, _, _ in found), strict=True))
        base = base or speed
        errors = ", ".join(f"{name} {error:.1e}" for name, error in found[0][2].items())
        yield f"| {way} | {speed:.1f} | {speed / base:.2f} | {found[0][1]:.0f} | {errors} |"


@click.command()
@click.option("--catalog", type=click.Path(path_type=Path))
@click.option("--dataset", default="demo")
@click.option("--backbone", default="squeezenet1_1")
@click.option("--weights", default="random:0")
@click.option("--images", default=96)
@click.option("--batch-size", default=32)
@click.option("--seconds", default=8.0, help="Least seconds of every round.")
@click.option("--rounds", default=3)
@click.option("--ways", multiple=True, type=click.Choice(list(WAYS)), default=list(WAYS))
@click.option("--busy", is_flag=True, help="Measure although the machine does other work.")
@click.option("--quick", is_flag=True, help="A run of seconds, to check that everything runs.")
def main(
    images: int, seconds: float, rounds: int, ways: tuple[str, ...], busy: bool, quick: bool, **asked: Any
) -> None:
    """Print a table: pictures a second of every way, seconds to prepare it, and how far its features are off."""
    load = require_quiet(busy or quick)
    images, seconds, rounds = (8, 0.01, 1) if quick else (images, seconds, rounds)
    options = ExtractOptions(**asked, splits=("train",), limit=images, out=Path("never-written.zarr"), device="cpu")
    threads = torch.get_num_threads()
    click.echo(
        f"{options.backbone}, {options.weights}, {images} pictures, batches of {options.batch_size}, {threads} threads "
        f"of {os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, load {load:.1f}"
    )
    click.echo("\n| way | pictures/s | ratio | seconds to prepare | error |\n|---|---:|---:|---:|---|")
    for line in lines(Asked(options, seconds, rounds), threads, ways):
        click.echo(line)


if __name__ == "__main__":
    main()
