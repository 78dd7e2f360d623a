"""Measure how much speed of the bare training step remains when its data comes from a store or from pictures.

    python benchmarks/training.py STORE

STORE is a complete feature store. The first --rows rows of its train split are copied to the stores and the h5 file
that are compared. Every way feeds the same head, from the same initial weights, in the same process. Each round
measures all ways; the table has the median of rows per second, and of the milliseconds of a processor that a row takes
(those of the workers of a DataLoader are not counted). Where the step alone keeps every core busy, a way cannot be
faster than the bare step by more than the ratio of these.

    bare            the step alone on batches in memory, without the loop around it
    device          c3 train, --residency device, where the device is not the CPU
    ram             c3 train, --residency ram
    stream          c3 train, --residency stream, from the lossless store
    device int8, ram int8, stream int8: the same from an int8 store
    DataLoader, h5  the loop of c3 train fed by torch's DataLoader with two workers over one h5 file in the layout of
                    BiAM: one gzip float32 data set per image (needs h5py)
    end to end      --images N: the loop fed by N pictures of the store's data set, which are decoded and run through
                    the backbone in every epoch, as in training without stored features
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from c3.common.devices import resolve_device
from c3.common.memory import freed_memory_kept
from c3.extract.options import ExtractOptions
from c3.extract.request import Request, prepare
from c3.extract.store.cache import FeatureCache
from c3.extract.store.layout import Layout
from c3.predict.images import read_pictures
from c3.train.data.batches import BUFFER_ROWS, Batch, BatchStream, batch_sizes
from c3.train.data.placement import Placement
from c3.train.loop import Job, batch_loss, fit
from c3.train.recipes import LoopOptions
from c3.train.registry import inputs_of, method_class
from c3.train.scorer import word_form
from c3.train.training_state import Checkpointer, TrainingState
from store_systems import Source, write_hdf5_images

WORKERS = 2  # of the DataLoader
SLOW = ("DataLoader, h5", "end to end")  # measured for one epoch
SEED = 0


@dataclass(frozen=True)
class Feed:
    """The stream that `fit` reads, over any function that yields the batches of an epoch."""

    rows: np.ndarray
    batch_size: int
    batches: Callable[[int], Iterator[Batch]]
    split: str = "train"

    @property
    def sizes(self) -> list[int]:
        """The number of rows of every batch."""
        return batch_sizes(len(self.rows), self.batch_size)

    def epoch(self, epoch: int, skip: int = 0) -> Iterator[Batch]:
        """Yield all batches of an epoch."""
        return self.batches(epoch)


@dataclass(frozen=True)
class Setup:
    """The settings that all ways share."""

    cache: FeatureCache
    method: str
    options: LoopOptions
    device: torch.device
    folder: Path
    buffer_rows: int = BUFFER_ROWS

    def job(self, stream: Feed | BatchStream | None) -> Job:
        """Return a job that trains a new head, always with the same initial weights, on a stream."""
        torch.manual_seed(SEED)
        kind = method_class(self.method)
        model = kind(inputs_of(self.cache), kind.Options())
        vectors = word_form(self.cache.classes, "l2").trained
        model.prepare(vectors)
        keeper = Checkpointer(self.folder / "checkpoint.safetensors", {}, minutes=1e9)
        return Job(model, stream, vectors, self.options, self.device, self.folder, keeper)

    @property
    def arrays(self) -> tuple[str, ...]:
        """The names of the arrays that the head reads."""
        return method_class(self.method).reads(inputs_of(self.cache))

    def stream(self, cache: FeatureCache, residency: str) -> BatchStream:
        """Return the stream that `c3 train` reads from a store."""
        return BatchStream(
            cache,
            "train",
            self.arrays,
            self.options.batch_size,
            SEED,
            self.buffer_rows,
            Placement(residency, self.device),
        )


def copy_of(cache: FeatureCache, folder: Path, rows: int, dtype: str) -> FeatureCache:
    """Copy the first rows of train to a new store, with the same classes and labels."""
    table = cache.table("train")
    first = np.arange(min(rows, len(table.image_id)))
    layout = replace(cache.layout, dtype=dtype, codec="auto")
    copy = FeatureCache.create(
        folder / f"{dtype}.zarr",
        origin=replace(cache.origin, dtype=dtype),
        provenance=cache.provenance,
        levels=cache.arrays,
        classes=cache.classes,
        splits={"train": table.take(first)},
        layout=Layout(**vars(layout)),
    )
    for shard in range(copy.shards("train")):
        held = copy.shard_rows("train", shard)
        maps = {array.name: cache.read("train", array.name, held.start, held.stop) for array in cache.arrays}
        copy.write_shard("train", shard, maps, cache.status("train")[held.start : held.stop])
    return copy


@freed_memory_kept()
def bare(setup: Setup, batches: list[Batch], epochs: int) -> dict[str, float]:
    """Time the step of the loop alone, with memory kept as the loop keeps it."""
    job = setup.job(None)
    model = job.model.to(setup.device).train()
    optimiser, vectors = TrainingState(model, setup.options, setup.device).optimiser, job.vectors.to(setup.device)
    started, rows = time.perf_counter(), 0
    for _ in range(epochs):
        for batch in batches:
            loss = batch_loss(model, batch.features(), batch.labels, vectors, setup.options.precision)["loss"]
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            model.after_step()
            rows += len(batch.rows)
            loss.item()
    return {"rows_per_s": rows / (time.perf_counter() - started), "wait_share": 0.0}


class ImagesInH5(torch.utils.data.Dataset):
    """A data set of images by name, in the layout of BiAM's file."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows, self.file = path, rows, None

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> tuple[np.ndarray, np.ndarray, int]:
        import h5py

        self.file = self.file or h5py.File(self.path)  # every worker opens the file for itself
        return self.file[f"{row}-features"][()], self.file[f"{row}-labels"][()], row


def from_h5(setup: Setup, cache: FeatureCache, rows: np.ndarray) -> Feed:
    """Feed the rows through a DataLoader from a file in the layout of BiAM."""
    source = Source(
        np.concatenate([cache.maps("train", level.name)[rows] for level in cache.levels], axis=1),
        cache.labels("train").take(rows).dense(len(cache.classes), cache.absent_label)[:, cache.classes.seen],
        tuple(cache.levels),
    )
    write_hdf5_images(source, setup.folder)
    loader = torch.utils.data.DataLoader(
        ImagesInH5(setup.folder / "images.h5", len(rows)), setup.options.batch_size, shuffle=True, num_workers=WORKERS
    )
    widths = [level.channels for level in cache.levels]

    def epoch(number: int) -> Iterator[Batch]:
        for maps, labels, row in loader:
            parts = dict(zip([level.name for level in cache.levels], maps.split(widths, dim=1), strict=True))
            arrays = {name: parts[name].to(setup.device) for name in setup.arrays}
            yield Batch(arrays, labels.to(setup.device), row.numpy())

    return Feed(rows, setup.options.batch_size, epoch)


def from_pictures(setup: Setup, request: Request, rows: np.ndarray) -> Feed:
    """Feed maps that are decoded and computed again in every epoch; the backbone is not trained."""
    table, root = request.manifest.splits["train"], request.manifest.root
    labels = table.labels.dense(len(setup.cache.classes), setup.cache.absent_label)[:, setup.cache.classes.seen]

    def epoch(number: int) -> Iterator[Batch]:
        order = np.random.default_rng([SEED, number]).permutation(rows)
        paths = [root / table.path[row] for row in order]
        done = 0
        for batch in read_pictures(request.backbone, paths, [[0, 0, 1, 1]], setup.options.batch_size):
            taken = order[done : done + len(batch.paths)]
            done += len(taken)
            arrays = {
                name: batch.arrays[name].clone() for name in setup.arrays
            }  # the backbone returns inference tensors
            yield Batch(arrays, torch.from_numpy(labels[taken]).to(setup.device), taken)

    return Feed(rows, setup.options.batch_size, epoch)


def measure(asked: argparse.Namespace, setup: Setup, images: Request | None) -> dict[str, list[dict[str, float]]]:
    """Return way -> the result of every round."""
    stores = {dtype: copy_of(setup.cache, setup.folder, asked.rows, dtype) for dtype in ("float16", "int8")}
    held = setup.stream(stores["float16"], "ram")
    batches, rows = list(held.epoch(0)), held.rows
    makers: dict[str, Callable[[], Any]] = {
        f"{residency}{suffix}": partial(setup.stream, stores[dtype], residency)
        for dtype, suffix in (("float16", ""), ("int8", " int8"))
        for residency in (("device",) if setup.device.type == "cuda" else ()) + ("ram", "stream")
    }
    makers["DataLoader, h5"] = partial(from_h5, setup, stores["float16"], rows)
    if images:
        makers["end to end"] = partial(from_pictures, setup, images, rows[: asked.images])
    streams = {name: make() for name, make in makers.items() if not asked.ways or name in asked.ways}
    rate = bare(setup, batches[:4], 1)["rows_per_s"]  # also warms up
    epochs = max(1, round(asked.seconds * rate / len(rows)))
    found: dict[str, list[dict[str, float]]] = {"bare": [], **{name: [] for name in streams}}
    for number in range(asked.rounds):
        names = list(found)
        for name in names[number:] + names[:number]:  # in another order each round
            options = replace(setup.options, epochs=1 if name in SLOW else epochs)
            job = None if name == "bare" else replace(setup.job(streams[name]), options=options)
            began = time.process_time()
            done = bare(setup, batches, epochs) if job is None else fit(job)
            busy = (time.process_time() - began) / (options.epochs * len(streams[name].rows if job else rows))
            found[name].append({**done, "processor": busy})
    return found


def table(found: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """Yield a line per way: rows per second, the ratio to the bare step, processor time, and the share of waiting."""
    yield "| way | rows/s | of bare | waiting | processor ms a row | rounds |"
    yield "|---|---:|---:|---:|---:|---|"
    base = median(result["rows_per_s"] for result in found["bare"])
    for name, results in found.items():
        rates = [result["rows_per_s"] for result in results]
        wait, busy = (median(result[name] for result in results) for name in ("wait_share", "processor"))
        rounds = ", ".join(f"{rate:,.1f}" for rate in rates)
        cells = [
            name,
            f"{median(rates):,.1f}",
            f"{median(rates) / base:.3f}",
            f"{wait:.1%}",
            f"{1000 * busy:.3f}",
            rounds,
        ]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure every method; print a markdown table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--methods", nargs="+", default=["c3", "fast0tag", "c3-plus"])
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--seconds", type=float, default=15.0, help="Seconds per way and round.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--ways", nargs="+", help="Only these, beside the bare step.")
    parser.add_argument("--buffer-rows", type=int, default=BUFFER_ROWS, help="Rows that are shuffled at a time.")
    parser.add_argument("--images", type=int, default=0, help="Pictures for the way `end to end`; 0 leaves it out.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="A run of seconds, to check that everything runs; the figures mean nothing.",
    )
    asked = parser.parse_args()
    if asked.quick:
        asked.rows, asked.seconds, asked.rounds = 32, 0.01, 1
    logging.getLogger("c3").setLevel(logging.WARNING)
    cache, device = FeatureCache.open(asked.store), resolve_device(asked.device)
    images = None
    if asked.images:
        images = prepare(replace(ExtractOptions.from_record(cache.provenance.request, asked.store),
                                 device=str(device)))  # fmt: skip
    load = os.getloadavg()[0]
    for method in asked.methods:
        with tempfile.TemporaryDirectory() as folder:
            options = LoopOptions(precision=asked.precision, seed=SEED)
            found = measure(asked, Setup(cache, method, options, device, Path(folder), asked.buffer_rows), images)
        what = f"{method}, {asked.precision}, {asked.rows} rows, batch {options.batch_size}"
        where = f"{device}, torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}"
        print("", f"{what}; {where}, load {load:.1f}", "", *table(found), sep="\n", flush=True)


if __name__ == "__main__":
    main()
