"""Find the pictures of a user and compute their features, batch by batch, without a store.

Pictures are decoded and cropped as in extraction, so that a model sees features of the kind it was trained on.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..common.errors import C3Error
from ..extract.backbone.crop_loader import CropBatch, CropLoader, CropSource
from ..extract.backbone.crops import Crop
from ..extract.backbone.network import Backbone

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")  # looked for in folders


@dataclass(frozen=True)
class Pictures:
    """A batch: its paths, the crops of each, and the arrays of the readable ones.

    crops[i] are the crops of paths[i]; a failed crop fails its picture. `readable` are indices into paths. An array has
    a row for every crop of every readable picture, in that order; there are no arrays when no picture is readable.
    """

    paths: tuple[Path, ...]
    crops: tuple[tuple[Crop, ...], ...]
    readable: tuple[int, ...]
    arrays: dict[str, Tensor]


def find_pictures(places: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Return files as they are given, and the pictures of folders (all below, by suffix) and globs, each path once.

    A file that does not exist stays in the list: reading it will fail by name. Hidden files in folders are left out.
    Raises C3Error for a folder or glob without a picture, and when nothing was given.
    """
    found: dict[Path, None] = {}
    for given in places:
        place, path = os.fspath(given), Path(given)
        if path.is_dir():
            here = _inside(path)
        elif glob.has_magic(place) and not path.exists():
            # Path.glob takes no absolute pattern
            matches = [Path(match) for match in sorted(glob.glob(place, recursive=True))]  # noqa: PTH207
            here = [file for match in matches for file in (_inside(match) if match.is_dir() else [match])]
        else:
            here = [path]
        if not here:
            raise C3Error(f"no pictures at {place}: expected files that end in {' '.join(SUFFIXES)}")
        found |= dict.fromkeys(here)
    if not found:
        raise C3Error("no pictures: give files, folders or globs")
    return list(found)


def read_pictures(
    backbone: Backbone, paths: Sequence[Path], boxes: Sequence[Sequence[float]], batch_size: int
) -> Iterator[Pictures]:
    """Decode pictures in threads and run the backbone on them, `batch_size` pictures at a time, in order.

    `boxes` are the crops of every picture (x0, y0, x1, y1 in 0..1). The next batches are decoded while the device
    computes on the current one.
    """
    shares = [np.asarray(box, np.float32) for box in boxes]
    batches = (tuple(paths[start : start + batch_size]) for start in range(0, len(paths), batch_size))
    asked = ((batch, [CropSource(path, box) for path in batch for box in shares]) for batch in batches)
    for batch, decoded in CropLoader().load(asked):
        yield _computed(backbone, batch, decoded, len(shares))


def _computed(backbone: Backbone, paths: tuple[Path, ...], decoded: CropBatch, per_picture: int) -> Pictures:
    starts = range(0, len(decoded.crops), per_picture)
    crops = tuple(decoded.crops[start : start + per_picture] for start in starts)
    readable = tuple(i for i, own in enumerate(crops) if all(crop.pixels is not None for crop in own))
    if not readable:
        return Pictures(paths, crops, (), {})
    arrays: dict[str, Tensor] = backbone(decoded.on(backbone.device))
    if len(readable) < len(paths):
        rows = [row for i in readable for row in range(i * per_picture, (i + 1) * per_picture)]
        arrays = {name: values[rows] for name, values in arrays.items()}
    return Pictures(paths, crops, readable, arrays)


def _inside(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))
