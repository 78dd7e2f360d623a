"""Any pictures of a user -> what a backbone sees of them, batch by batch, without a store.

Pictures are decoded and cropped as in extraction, so that a model finds the features it was trained on.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.errors import C3Error
from ..extract.backbone.crops import Crop, load_crop
from ..extract.backbone.network import Backbone
from ..extract.backbone.specs import INPUT_SIZE

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")  # looked for in folders


@dataclass(frozen=True)
class Pictures:
    """A batch: its paths, the crops of each, and the arrays of the readable ones.

    crops[i] are the crops of paths[i], and a failed one fails its picture. An array has the rows of the pictures
    `readable` (indices into paths), one after the other, each with all its crops; it is empty where none is readable.
    """

    paths: tuple[Path, ...]
    crops: tuple[tuple[Crop, ...], ...]
    readable: tuple[int, ...]
    arrays: dict[str, Tensor]


def find_pictures(places: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Files as they are given, pictures of folders (with all folders below, by suffix) and of globs, each path once.

    A file that does not exist stays in the list: reading it will fail by name. Hidden files of folders are left out.
    Raises C3Error for a folder or glob without a picture, and when nothing was given.
    """
    found: dict[Path, None] = {}
    for place in map(os.fspath, places):
        path = Path(place)
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

    `boxes` are the crops of every picture (x0, y0, x1, y1 in 0..1). The next batch is decoded while the device
    computes this one.
    """
    batches = [tuple(paths[start : start + batch_size]) for start in range(0, len(paths), batch_size)]
    shares = [np.asarray(box, np.float32) for box in boxes]
    with ThreadPoolExecutor(os.cpu_count(), "decode") as decoders:

        def decode(batch: tuple[Path, ...]) -> list[list[Future[Crop]]]:
            return [[decoders.submit(load_crop, path, box, INPUT_SIZE) for box in shares] for path in batch]

        ahead = decode(batches[0]) if batches else []
        for number, batch in enumerate(batches):
            crops = tuple(tuple(future.result() for future in futures) for futures in ahead)
            ahead = decode(batches[number + 1]) if number + 1 < len(batches) else []
            yield _computed(backbone, batch, crops)


def _computed(backbone: Backbone, paths: tuple[Path, ...], crops: tuple[tuple[Crop, ...], ...]) -> Pictures:
    readable = tuple(i for i, own in enumerate(crops) if all(crop.pixels is not None for crop in own))
    if not readable:
        return Pictures(paths, crops, (), {})
    pixels = torch.from_numpy(np.stack([crop.pixels for i in readable for crop in crops[i]]))
    return Pictures(paths, crops, readable, backbone(pixels.permute(0, 3, 1, 2).to(backbone.mean.device)))


def _inside(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in files if not path.name.startswith("."))
