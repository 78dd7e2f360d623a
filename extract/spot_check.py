"""Extracts a few rows of a store again and compares: does it hold what its pictures and backbone give today?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..common.errors import C3Error
from .backbone.crop_loader import CropLoader, CropSource
from .datasets.manifest import Manifest
from .options import ExtractOptions
from .request import prepare
from .store.cache import FeatureCache, Status
from .store.quantise import along_channels

SEED = 0
# A picture alone and the same picture in a batch differ by float rounding; so do two processors. As a share of the
# largest value of the row and array.
TOLERANCE = 2e-3


def check_images(path: Path | str, count: int) -> str:
    """Extract `count` random rows again and return what was found.

    Raises C3Error naming the first image whose status or maps differ, and when the data set is not at hand.
    """
    cache = FeatureCache.open(path)
    record = cache.provenance.request
    if record is None:
        raise C3Error(f"{path} does not say how it was made, so that its images cannot be found")
    request = prepare(ExtractOptions.from_record(record, path))
    cache.require_origin(request.origin)
    rng = np.random.default_rng(SEED)
    done = [(split, row) for split in cache.splits for row in np.flatnonzero(cache.status(split)).tolist()]
    largest = 0.0
    picked = [done[place] for place in np.sort(rng.choice(len(done), min(count, len(done)), replace=False))]
    sources = ((place, [_source(request.manifest, *place)]) for place in picked)  # batches of one: no neighbours
    for (split, row), batch in CropLoader().load(sources):
        (crop,) = batch.crops
        stored = Status(cache.status(split, range(row, row + 1))[0])
        where = f"{path}: image {request.manifest.splits[split].path[row]}, row {row} of {split}"
        if crop.status != stored:
            raise C3Error(f"{where}, is {crop.status.name.lower()} now and was {stored.name.lower()}")
        if batch.empty:
            continue
        for name, array in request.backbone(batch.on(request.backbone.device)).items():
            maps = cache.maps(split, name)
            step = maps.scales[row // cache.layout.shard_rows][:, 0] if cache.layout.dtype == "int8" else np.zeros(1)
            apart = np.abs(array[0].float().cpu().numpy() - maps[row].astype(np.float32))
            allowed = along_channels(step, apart.ndim) / 2 + TOLERANCE * float(array.abs().max())
            largest = max(largest, float((apart / allowed).max()))
            if largest > 1:
                raise C3Error(f"{where}, differs in {name} by {apart.max():.4g} from what it gives now")
    return (
        f"{len(picked)} random rows extracted again (seed {SEED}): equal within {100 * largest:.0f} % of the tolerance"
    )


def _source(manifest: Manifest, split: str, row: int) -> CropSource:
    rows = manifest.splits[split]
    return CropSource(manifest.root / str(rows.path[row]), rows.crop[row])
