"""Estimate an extraction before it begins: rows, shards, files, bytes and hours, measured on a few batches."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from rich.filesize import decimal

from ..common.errors import C3Error
from ..common.progress import progress
from ..common.words import counted
from .backbone.pictures.crop_loader import CropBatch, CropLoader, CropSource
from .options import ExtractOptions
from .request import Request, prepare
from .store import quantise
from .store.layout import CODECS, Layout, row_bytes
from .store.names import DTYPES
from .store.storage import open_storage

BATCHES = 3  # measured, after one that warms up
SEED = 0


@dataclass(frozen=True)
class Measured:
    """Rates on this machine (images a second) and stored bytes as a share of float16, by dtype."""

    decode: float
    forward: float
    ratios: dict[str, float]
    images: int

    @property
    def rate(self) -> float:
        """Images a second: decoding and computing overlap, so the slower one decides."""
        return min(self.decode, self.forward)


def plan(options: ExtractOptions, rows: int | None = None) -> str:
    """Measure a few batches of the request and return, in lines, what all of it will take; nothing is written.

    `rows` plans for that many rows instead of those of the data set. Raises C3Error when no image can be read.
    """
    request = prepare(options)
    measured = measure(request)
    count = rows or request.rows
    layout = request.layout(count)
    sizes = [rows] if rows else [len(split) for split in request.manifest.splits.values()]
    shards = sum(-(-size // layout.shard_rows) for size in sizes)
    raw = row_bytes(request.backbone.arrays) * count
    free = open_storage(options.out).free_bytes()
    arrays = ", ".join(map(str, request.backbone.arrays))
    own = ", ".join(f"{name} {len(split):,}" for name, split in request.manifest.splits.items())
    lines = [
        f"rows      {count:,}" + (f" (planned; the data set has {own})" if rows else f" ({own})"),
        f"levels    {arrays}: {row_bytes(request.backbone.arrays) / 1e3:,.1f} kB a row in float16",
        f"shards    {shards:,} of {layout.shard_rows} rows, chunks of {layout.chunk_rows}; "
        f"about {shards * (len(request.backbone.arrays) + 3):,} files",
        f"measured  {measured.images} images: forward {measured.forward:.1f} images/s on "
        f"{request.backbone.device} ({options.backbone} in {request.backbone.precision}, batches of "
        f"{options.batch_size}), "
        f"decoding {measured.decode:.0f} images/s",
        f"time      {_hours(count / measured.rate)} at {measured.rate:.1f} images/s on one such machine; "
        f"{_hours(count / measured.rate / 8)} on eight",
        f"raw       {decimal(raw)}",
    ]
    for dtype in DTYPES:
        size = raw * measured.ratios[dtype]
        fits = "" if free is None else f"; {decimal(free)} free" + ("" if size < free else ": DOES NOT FIT")
        lines.append(f"{dtype:<9} {decimal(round(size))} expected ({measured.ratios[dtype]:.2f} of raw){fits}")
    return "\n".join(lines)


def measure(request: Request) -> Measured:
    """Decode, compute and pack random rows of the data set."""
    size = request.options.batch_size
    picked = _sample(request, size * (BATCHES + 1))
    backbone = request.backbone
    loader = CropLoader(options=request.options.decoding, resize=backbone.resize)
    with progress("measuring", len(picked), "images") as bar:
        start = time.perf_counter()
        ((_, found),) = loader.load([(None, picked)])
        decode = len(picked) / (time.perf_counter() - start)
        if found.empty:
            raise C3Error(f"none of {len(picked)} images could be read (first: {picked[0].path}: "
                          f"{found.crops[0].reason})")  # fmt: skip
        read = [crop for crop in found.crops if crop.pixels is not None]
        rates, features = [], []
        for first in range(0, len(read), size):
            batch = CropBatch(tuple(read[first : first + size]), backbone.resize.side)
            start = time.perf_counter()
            arrays = backbone(batch.on(backbone.device))
            features.append({name: values.float().cpu().numpy() for name, values in arrays.items()})
            rates.append(len(batch.crops) / (time.perf_counter() - start))
            bar.advance(len(batch.crops))
    return Measured(decode, float(np.median(rates[1:] or rates)), _ratios(request, features), len(read))


def _sample(request: Request, count: int) -> list[CropSource]:
    splits = list(request.manifest.splits.values())
    ends = np.cumsum([len(split) for split in splits])
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.choice(ends[-1], min(count, ends[-1]), replace=False))
    numbers = np.searchsorted(ends, rows, side="right")
    return [
        CropSource(request.manifest.root / str(splits[n].path[r]), splits[n].crop[r])
        for n, r in zip(numbers, rows - np.concatenate([[0], ends[:-1]])[numbers], strict=True)
    ]


def _ratios(request: Request, features: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Return stored bytes as a share of float16 for both dtypes, with the codecs of the layout."""
    ratios = {}
    for dtype in DTYPES:
        layout = Layout(dtype=dtype, codec=request.options.codec or "auto")
        stored = raw = 0
        for array in request.backbone.arrays:
            maps = np.concatenate([batch[array.name] for batch in features]).astype(np.float16)
            packed, _ = quantise.encode(maps, dtype)
            stored += CODECS[layout.codec_of(array, request.backbone.arrays)].packed_bytes(packed)
            raw += maps.nbytes
        ratios[dtype] = stored / raw
    return ratios


def _hours(seconds: float) -> str:
    if seconds < 60:
        return "less than a minute"
    if seconds < 5400:
        return counted(round(seconds / 60), "minute")
    hours = seconds / 3600
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"
