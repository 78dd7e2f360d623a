"""What an extraction will cost, before it is begun: rows, shards, files, bytes and hours, from a few batches."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from ..common.errors import C3Error
from ..common.progress import progress
from .backbone.crops import load_crop
from .backbone.specs import INPUT_SIZE
from .options import ExtractOptions
from .request import Request, prepare
from .store import quantise
from .store.layout import CODECS, DTYPES, Layout, row_bytes
from .store.storage import open_storage

BATCHES = 3  # measured after one that warms up
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
        """Decoding and forward overlap: the slower one decides."""
        return min(self.decode, self.forward)


def plan(options: ExtractOptions, rows: int | None = None) -> str:
    """Measure a few batches of the request and print what all of it will take; nothing is written.

    `rows` plans for that many rows instead of the data set's own. Raises C3Error when no image can be read.
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
        f"{request.backbone.mean.device} ({options.backbone}, batches of {options.batch_size}), "
        f"decoding {measured.decode:.0f} images/s",
        f"time      {_hours(count / measured.rate)} at {measured.rate:.1f} images/s on one such machine; "
        f"{_hours(count / measured.rate / 8)} on eight",
        f"raw       {_bytes(raw)}",
    ]
    for dtype in DTYPES:
        size = raw * measured.ratios[dtype]
        fits = "" if free is None else f"; {_bytes(free)} free" + ("" if size < free else ": DOES NOT FIT")
        lines.append(f"{dtype:<9} {_bytes(size)} expected ({measured.ratios[dtype]:.2f} of raw){fits}")
    return "\n".join(lines)


def measure(request: Request) -> Measured:
    """Decode, run and pack random rows of the data set."""
    size = request.options.batch_size
    picked = _sample(request, size * (BATCHES + 1))
    with progress("measuring", len(picked), "images") as bar, ThreadPoolExecutor() as pool:
        start = time.perf_counter()
        crops = list(pool.map(lambda place: load_crop(*place, INPUT_SIZE), picked))
        decode = len(picked) / (time.perf_counter() - start)
        pixels = [crop.pixels for crop in crops if crop.pixels is not None]
        if not pixels:
            raise C3Error(f"none of {len(picked)} images could be read (first: {picked[0][0]}: {crops[0].reason})")
        batches = [np.stack(pixels[start : start + size]) for start in range(0, len(pixels), size)]
        seconds, features = [], []
        for batch in batches:
            start = time.perf_counter()
            found = request.backbone(torch.from_numpy(batch).permute(0, 3, 1, 2).to(request.backbone.mean.device))
            features.append({name: values.float().cpu().numpy() for name, values in found.items()})
            seconds.append(len(batch) / (time.perf_counter() - start))
            bar.advance(len(batch))
    return Measured(decode, float(np.median(seconds[1:] or seconds)), _ratios(request, features), len(pixels))


def _sample(request: Request, count: int) -> list[tuple]:
    splits = list(request.manifest.splits.values())
    ends = np.cumsum([len(split) for split in splits])
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.choice(ends[-1], min(count, ends[-1]), replace=False))
    numbers = np.searchsorted(ends, rows, side="right")
    return [
        (request.manifest.root / str(splits[n].path[r]), splits[n].crop[r])
        for n, r in zip(numbers, rows - np.concatenate([[0], ends[:-1]])[numbers], strict=True)
    ]


def _ratios(request: Request, features: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Stored bytes as a share of float16 for both dtypes, by the codecs of the layout."""
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


def _bytes(count: float) -> str:
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 1000:
            return f"{count:,.1f} {unit}"
    return f"{count / 1000:,.2f} TB"


def _hours(seconds: float) -> str:
    if seconds < 5400:
        return f"{seconds / 60:,.0f} minutes"
    hours = seconds / 3600
    return f"{hours:,.1f} hours" if hours < 72 else f"{hours / 24:,.1f} days"
