"""Find the pictures of a user and compute their features, batch by batch, without a store.

Pictures are decoded and cropped as in extraction, so that a model sees features of the kind it was trained on.
"""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from ..common.errors import C3Error
from ..extract.backbone.network import Backbone
from ..extract.backbone.pictures.crop_loader import CropBatch, CropLoader, CropSource
from ..extract.backbone.pictures.crops import Crop
from ..extract.backbone.pictures.decode_options import DEFAULT, DecodeOptions
from ..extract.backbone.pictures.remarks import RemarkCounts, shared_remarks
from .walk import Walk, is_sidecar

LOG = logging.getLogger(__name__)


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
    """Return files as they are given, and the pictures of folders (see `Walk`) and globs, each once; no sidecars.

    A file that does not exist stays in the list: reading it will fail by name. The log says which files in folders are
    no pictures. Raises C3Error for a folder or glob without a picture, and when nothing was given.
    """
    found: dict[Path, Path] = {}
    walk = Walk()
    for given in places:
        place, path, walk.met_again = os.fspath(given), Path(given), False
        if _is_folder(path):
            here = walk.pictures(path)
        elif glob.has_magic(place) and not os.path.lexists(path):
            here = [
                file
                for match in walk.matches(place)
                for file in (walk.pictures(match) if _is_folder(match) else [match])
                if not is_sidecar(file)
            ]
        elif is_sidecar(path):  # a shell's photos/* names these too
            continue
        else:
            here = [path]
        if not here and not walk.met_again:
            raise C3Error(f"no pictures at {place}{walk.left_out(' (left out: {})')}: expected files such as "
                          "a.jpg, a.png, a.webp or a.tif")  # fmt: skip
        for file in here:
            found.setdefault(walk.identity(file), file)
    if not found:
        raise C3Error("no pictures: give files, folders or globs")
    if told := walk.left_out("left out: {}"):
        LOG.warning("%s", told)
    return list(found.values())


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that no folder can have
        return False


def read_pictures(
    backbone: Backbone,
    paths: Sequence[Path],
    boxes: Sequence[Sequence[float]],
    batch_size: int,
    decoding: DecodeOptions = DEFAULT,
) -> Iterator[Pictures]:
    """Decode pictures in threads and run the backbone on them, `batch_size` pictures at a time, in order.

    `boxes` are the crops of every picture (x0, y0, x1, y1 in 0..1). The next batches are decoded while the device
    computes on the current one. At the end the log counts the pictures that are odd.
    """
    shares = [np.asarray(box, np.float32) for box in boxes]
    batches = (tuple(paths[start : start + batch_size]) for start in range(0, len(paths), batch_size))
    asked = ((batch, [CropSource(path, box) for path in batch for box in shares]) for batch in batches)
    remarks = RemarkCounts()
    for batch, decoded in CropLoader(options=decoding, resize=backbone.resize).load(asked):
        pictures = _computed(backbone, batch, decoded, len(shares))
        for place in pictures.readable:
            remarks.note(str(batch[place]), shared_remarks([crop.remarks for crop in pictures.crops[place]]))
        yield pictures
    for line in remarks.lines():
        LOG.warning("%s", line)


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
