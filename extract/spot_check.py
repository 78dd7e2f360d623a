"""Compute a few rows of a store again, and compare them with what its images and backbone give today."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..common.errors import C3Error
from .backbone.pictures.crop_loader import CropBatch, CropLoader, CropSource
from .remake import Remake, prepare_remake
from .store.cache import FeatureCache, Status
from .store.quantise import along_channels
from .store.tables import UNKNOWN_PATH

SEED = 0
# A picture alone and the same picture in a batch differ by float rounding; so do two processors. As a share of the
# largest value of the row and array.
TOLERANCE = 2e-3


def check_images(path: Path | str, count: int, images: Path | None = None, catalog: Path | None = None) -> str:
    """Compute `count` random rows again and return what was found.

    `images` and `catalog` are as in `prepare_remake`.

    Raises C3Error naming the first image whose status or maps differ, and when its images cannot be found.
    """
    cache = FeatureCache.open(path)
    remake = prepare_remake(cache, images, catalog)
    rng = np.random.default_rng(SEED)
    done = [
        (split, row)
        for split in cache.splits
        for row in np.flatnonzero((cache.status(split) > 0) & (remake.paths[split] != UNKNOWN_PATH)).tolist()
    ]
    crops = {split: cache.crops(split) for split in cache.splits}
    picked = [done[place] for place in np.sort(rng.choice(len(done), min(count, len(done)), replace=False))]
    sources = (  # batches of one: no neighbours
        ((split, row), [CropSource(remake.root / str(remake.paths[split][row]), crops[split][row])])
        for split, row in picked
    )
    largest = 0.0
    for (split, row), batch in CropLoader(options=remake.decoding, resize=remake.backbone.resize).load(sources):
        largest = max(largest, _share_of_tolerance(cache, remake, split, row, batch))
    return (
        f"{len(picked)} random rows extracted again (seed {SEED}): equal within {100 * largest:.0f} % of the tolerance"
    )


def _share_of_tolerance(cache: FeatureCache, remake: Remake, split: str, row: int, batch: CropBatch) -> float:
    """Return the largest difference of a row from what its image gives now, as a share of the tolerance."""
    (crop,) = batch.crops
    stored = Status(cache.status(split, range(row, row + 1))[0])
    where = f"{cache.location}: image {remake.paths[split][row]}, row {row} of {split}"
    if crop.status != stored:
        raise C3Error(f"{where}, is {crop.status.name.lower()} now and was {stored.name.lower()}")
    if batch.empty:
        return 0.0
    largest = 0.0
    for name, array in remake.backbone(batch.on(remake.backbone.device)).items():
        maps = cache.maps(split, name)
        step = maps.scales[row // cache.layout.shard_rows][:, 0] if cache.layout.dtype == "int8" else np.zeros(1)
        apart = np.abs(array[0].float().cpu().numpy() - maps[row].astype(np.float32))
        allowed = along_channels(step, apart.ndim) / 2 + TOLERANCE * float(array.abs().max())
        largest = max(largest, float((apart / allowed).max()))
        if largest > 1:
            raise C3Error(f"{where}, differs in {name} by {apart.max():.4g} from what it gives now")
    return largest
