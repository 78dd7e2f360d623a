"""Run on a GPU what otherwise only runs on CPUs, each part once and timed: one command of a few minutes.

    make gpu-check
    python benchmarks/gpu_check.py --out FOLDER [--device cpu] [--quick]

Pictures are drawn and weights are random, so that nothing is downloaded. In a copy of the source without an
installation, make a link that carries the package's name: mkdir build; ln -s .. build/c3; PYTHONPATH=build python ...

Every check stands alone: one that fails is a row with its reason, and the exit code is 1 at the end. What a machine
cannot do (a second device, a package) is a row `left out`. gpu_check.json and gpu_check.md in --out hold figures, peak
memory of the device and seconds of every check.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import extraction
import numpy as np
import torch
import training
from c3.cli import main as c3
from c3.common.devices import resolve_device
from c3.common.errors import C3Error
from c3.extract.datasets.demo.data_set import DemoSpec, write_demo
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.train.data.batches import Batch
from c3.train.loop import batch_loss
from c3.train.recipes import LoopOptions
from c3.train.registry import METHODS
from c3.train.run import TrainOptions, train
from click.testing import CliRunner
from torch.profiler import ProfilerActivity, profile

CATALOG = """version: 1
datasets:
  drawn: {kind: table, root: ., images: images, table: labels.csv, unseen: unseen.txt, vectors: words,
    labels: complete, label_separator: "|"}
vectors:
  words: {kind: text, path: vectors.txt}
"""
SETTINGS = {"fp32": {}, "bf16": {"precision": "bf16"}, "compiled": {"compiled": True}}
Figures = dict[str, float | str | bool]


class LeftOut(Exception):
    """This machine cannot do what a check asks."""


@dataclass(frozen=True)
class Size:
    """How much to do: pictures, backbones and their settings, methods, and seconds and rows of each way to train."""

    images: int = 512
    backbones: tuple[str, ...] = ("vgg19", "resnet50", "resnet101")
    settings: tuple[str, ...] = tuple(SETTINGS)
    methods: tuple[str, ...] = tuple(name for name in METHODS if not name.startswith("clip"))  # those need CLIP's store
    seconds: float = 0.4
    rows: int = 384


QUICK = Size(32, ("squeezenet1_1",), ("fp32",), ("c3-plus",), 0.01, 16)


class Check:
    """The checks, and what several of them need; that is made when the first asks for it."""

    def __init__(self, folder: Path, device: torch.device, size: Size) -> None:
        self.folder, self.device, self.size = folder, device, size

    @cached_property
    def options(self) -> ExtractOptions:
        """The extraction of the drawn pictures by the first backbone."""
        root, count = self.folder / "drawn", self.size.images
        write_demo(root, DemoSpec(train=count, val=max(count // 8, 4), test=max(count // 4, 8)))
        (root / "catalog.yaml").write_text(CATALOG)
        return ExtractOptions(
            "drawn", self.size.backbones[0], "random:0", self.folder / "features.zarr", root / "catalog.yaml",
            device=str(self.device), chunk_rows=8, shard_rows=16,
        )  # fmt: skip

    @cached_property
    def store(self) -> FeatureCache:
        """The store of the drawn pictures."""
        extract(self.options)
        return FeatureCache.open(self.options.out)

    @cached_property
    def run(self) -> Path:
        """A run trained for one epoch."""
        asked = TrainOptions(self.store.path, "c3-plus", self.folder / "runs", {"epochs": 1}, device=str(self.device))
        return train(asked).path

    def setup(self, method: str, precision: str = "fp32") -> tuple[training.Setup, list[Batch]]:
        """Return the setting of a training, and the batches of an epoch."""
        options = LoopOptions(precision=precision, seed=training.SEED)
        setup = training.Setup(self.store, method, options, self.device, self.folder)
        return setup, list(setup.stream(self.store, "ram").epoch(0))

    def extraction(self, backbone: str, setting: str) -> Figures:
        """Compare the whole extraction with the bare forward pass."""
        asked = replace(self.options, backbone=backbone, out=self.folder / "timed.zarr", overwrite=True,
                        splits=("train",), shard_rows=None, chunk_rows=None, **SETTINGS[setting])  # fmt: skip
        alone, whole = extraction.compare(asked, rounds=2)
        return {"bare images/s": alone, "images/s": whole, "of bare": whole / alone}

    def resume(self) -> Figures:
        """Extract half of the shards, go on, and compare every value with the store that was made at once."""
        asked = replace(self.options, out=self.folder / "resumed.zarr")
        extract(replace(asked, part=(1, 2)))
        extract(asked)
        found, differing = FeatureCache.open(asked.out), 0
        for split in found.splits:
            for array in found.arrays:
                ours, whole = (store.read(split, array.name, 0, store.rows(split)) for store in (found, self.store))
                differing += int(np.count_nonzero(ours != whole))
        if differing:
            raise ValueError(f"{differing:,} values differ from those of an extraction without a stop")
        return {"bit-identical": True}

    def decoding(self) -> Figures:
        """Decode JPEG files on the device."""
        self.require_cuda("a JPEG decoder of its own")
        from torchvision.io import decode_jpeg, read_file

        files = [read_file(str(path)) for path in sorted((self.options.catalog.parent / "images").iterdir())]
        decode_jpeg(files[:8], device=self.device)
        rates = {}
        for place in ("cpu", self.device):
            began = self.now()
            decode_jpeg(files, device=place)
            rates[f"{place} images/s"] = len(files) / (self.now() - began)
        return rates

    def copies(self) -> Figures:
        """Copy pinned and other memory to the device, alone and beside a matrix product."""
        self.require_cuda("memory of its own")
        plain = torch.empty(1 << 27, dtype=torch.float16)
        pinned, target = plain.pin_memory(), torch.empty_like(plain, device=self.device)
        left = torch.randn(8192, 8192, device=self.device, dtype=torch.bfloat16)
        beside = torch.cuda.Stream()

        def copy(source: torch.Tensor) -> None:
            with torch.cuda.stream(beside):
                target.copy_(source, non_blocking=True)

        def both() -> None:
            copy(pinned)
            _ = left @ left

        def seconds(work: Callable[[], object]) -> float:
            work()
            taken = []
            for _ in range(5):
                began = self.now()
                work()
                taken.append(self.now() - began)
            return median(taken)

        times = {name: seconds(partial(copy, source)) for name, source in (("pageable", plain), ("pinned", pinned))}
        gigabytes, product, together = plain.nbytes / 1e9, seconds(lambda: left @ left), seconds(both)
        return {f"{name} GB/s": gigabytes / taken for name, taken in times.items()} | {
            "copy and product of the longer": together / max(times["pinned"], product)
        }

    def attention(self, precision: str) -> Figures:
        """Name the kernels of attention that torch takes in a training step of c3."""
        setup, batches = self.setup("c3", precision)
        with profile(activities=[ProfilerActivity.CPU]) as found:
            training.bare(setup, batches[:1], 1)
        names = {event.key for event in found.key_averages() if event.key.startswith("aten::_scaled_dot_product")}
        return {"kernels": ", ".join(sorted(name.removeprefix("aten::_") for name in names)) or "none"}

    def training(self, method: str) -> Figures:
        """Compare every residency, from float16 and from int8, with the bare step."""
        ways = ["device", "ram", "stream", "device int8", "ram int8"]
        asked = argparse.Namespace(rows=self.size.rows, seconds=self.size.seconds, rounds=1, images=0, ways=ways)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            found = training.measure(asked, replace(self.setup(method)[0], folder=Path(folder)), None)
        rates = {name: results[0]["rows_per_s"] for name, results in found.items()}
        figures: Figures = {"bare rows/s": rates.pop("bare")}
        for name, rate in rates.items():
            figures |= {f"{name} of bare": rate / float(figures["bare rows/s"])}
            figures |= {f"{name} waiting": found[name][0]["wait_share"]}
        return figures

    def autocast(self) -> Figures:
        """Compare a step in bf16 with one in fp32: rate, and the difference of the loss."""
        rates, losses = {}, {}
        for precision in ("fp32", "bf16"):
            setup, batches = self.setup("c3", precision)
            job = setup.job(None)
            model, vectors, batch = job.model.to(self.device), job.vectors.to(self.device), batches[0]
            losses[precision] = batch_loss(model, batch.features(), batch.labels, vectors, precision)["loss"].item()
            training.bare(setup, batches[:1], 1)
            rates[precision] = training.bare(setup, batches[:4], 1)["rows_per_s"]
        change = abs(losses["bf16"] / losses["fp32"] - 1)
        if not change < 0.05:
            raise ValueError(f"the loss is {losses['bf16']:.4g} in bf16 and {losses['fp32']:.4g} in fp32")
        return {"fp32 rows/s": rates["fp32"], "bf16 rows/s": rates["bf16"], "change of the loss": change}

    def processes(self) -> Figures:
        """Train on two devices that nccl connects."""
        if torch.cuda.device_count() < 2:
            raise LeftOut(f"two CUDA devices are needed, here are {torch.cuda.device_count()}")
        command = [
            *("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "c3", "train", "--method", "c3-plus"),
            *("--cache", str(self.store.path), "--epochs", "1", "--runs", str(self.folder / "two")),
        ]
        began = time.perf_counter()
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, timeout=120)
        if done.returncode:
            raise ValueError(done.stderr[-500:])
        return {"seconds in all": time.perf_counter() - began}

    def command(self, *arguments: str) -> Figures:
        """Run a command of c3 on the run."""
        done = CliRunner().invoke(c3, [str(self.run) if part == "RUN" else part for part in arguments])
        if done.exit_code:
            raise ValueError(done.output[-500:] or repr(done.exception))
        return {"exit code": 0.0}

    def export(self) -> Figures:
        """Write backbone and head as one graph."""
        if not find_spec("onnxscript"):
            raise LeftOut("onnxscript is not installed")
        return self.command("export", "RUN", "--onnx", str(self.folder / "model.onnx"))

    def require_cuda(self, what: str) -> None:
        """Leave a check out on a device without CUDA."""
        if self.device.type != "cuda":
            raise LeftOut(f"{self.device} is not a CUDA device, with {what}")

    def now(self) -> float:
        """Return the clock once the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def all(self) -> Iterator[tuple[str, Callable[[], Figures]]]:
        """Yield every check by its name, what matters most first."""
        pictures, device = str(self.options.catalog.parent / "images"), ["--device", str(self.device)]
        yield "resume", self.resume
        yield from ((f"attention {name}", partial(self.attention, name)) for name in ("fp32", "bf16"))
        yield "copies", self.copies
        yield "autocast", self.autocast
        yield "evaluate", partial(self.command, "evaluate", "--run", "RUN", "--resamples", "0", *device)
        yield "predict", partial(self.command, "predict", "--run", "RUN", "--json", *device, pictures)
        yield "export", self.export
        yield "processes", self.processes
        yield "decode JPEG", self.decoding
        for setting in self.size.settings:
            for backbone in self.size.backbones:
                yield f"extract {backbone} {setting}", partial(self.extraction, backbone, setting)
        yield from ((f"train {method}", partial(self.training, method)) for method in self.size.methods)


def result(name: str, work: Callable[[], Figures], device: torch.device) -> dict[str, object]:
    """Run a check; return its name, its figures or why there are none, its seconds and the device's peak in GiB."""
    cuda, began = device.type == "cuda", time.perf_counter()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    row: dict[str, object] = {"check": name}
    try:
        row["figures"] = work()
    except LeftOut as why:
        row["left out"] = str(why)
    except Exception as error:  # the others shall run all the same
        traceback.print_exc()
        row["failed"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if cuda else None
    return row | {"seconds": round(time.perf_counter() - began, 1), "peak GiB": peak}


def line(row: dict[str, object]) -> str:
    """Return the row of a check in a markdown table."""
    said = next(f"{key}: {row[key]}" for key in ("failed", "left out", "figures") if key in row)
    if isinstance(row.get("figures"), dict):
        said = ", ".join(f"{k} {v:,.3g}" if type(v) is float else f"{k} {v}" for k, v in row["figures"].items())
    peak = "" if row["peak GiB"] is None else f"{row['peak GiB']:.2f}"
    return f"| {row['check']} | {said.replace('|', '/')} | {peak} | {row['seconds']} |"


def machine(device: torch.device) -> dict[str, object]:
    """Say what the figures were measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "threads": threads}


def main() -> None:
    """Run every check, write the json and the table, and exit with 1 if one failed or was not reached."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu-check"), help="folder of gpu_check.json and gpu_check.md")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=420.0, help="no check begins after these")
    parser.add_argument("--only", nargs="+", metavar="CHECK", help="only the checks whose names begin so")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    asked = parser.parse_args()
    logging.getLogger("c3").setLevel(logging.WARNING)
    try:
        device, began = resolve_device(asked.device), time.perf_counter()
    except C3Error as error:
        parser.error(str(error))
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    print("| check | figures | peak GiB | seconds |\n|---|---|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="c3-gpu-") as folder:
        for name, work in Check(Path(folder), device, QUICK if asked.quick else Size()).all():
            if asked.only and not name.startswith(tuple(asked.only)):
                continue
            if time.perf_counter() - began < asked.seconds:
                rows.append(result(name, work, device))
            else:
                rows.append({"check": name, "failed": "not reached in time", "seconds": 0, "peak GiB": None})
            print(line(rows[-1]), flush=True)
            content = {"machine": machine(device), "checks": rows}  # written each time: a stop loses nothing
            (asked.out / "gpu_check.json").write_text(json.dumps(content, indent=2))
            table = ["| check | figures | peak GiB | seconds |", "|---|---|---:|---:|", *map(line, rows)]
            (asked.out / "gpu_check.md").write_text("\n".join(table) + "\n")
    if not rows:
        parser.error(f"no check begins with {' or '.join(asked.only)}")
    sys.exit(any("failed" in row for row in rows))


if __name__ == "__main__":
    main()
