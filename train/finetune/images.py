"""The images of a data set in the place of a store: a stream of batches and a validation read them as one array.

Rows, labels and classes are those of the manifest; pixels are decoded in threads when they are asked for, as
extraction decodes them.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ...common.errors import C3Error
from ...common.progress import progress
from ...extract.backbone.crops import Crop, load_crop
from ...extract.backbone.specs import INPUT_SIZE
from ...extract.datasets.manifest import Manifest
from ...extract.store.cache import Status
from ...extract.store.layout import Layout
from ...extract.store.tables import SparseLabels, absent_label
from ..data.batches import BatchStream
from ..data.placement import Placement
from ..data.shuffle_buffers import BufferSource, ShuffleBuffer

LOG = logging.getLogger(__name__)
PIXELS = "pixels"  # the one array: (rows, 3, 224, 224) uint8
AHEAD = 2  # batches that are being decoded while one is given away
LOOKED_AT = 256  # images decoded at a time where it is only asked whether they can be read


class Pixels:
    """`pixels[rows]` is (rows, 3, 224, 224) uint8 of a split, decoded now; rows are row numbers.

    An image that cannot be read raises a C3Error with its path.
    """

    def __init__(self, manifest: Manifest, split: str, decoders: ThreadPoolExecutor) -> None:
        self._root, self._split, self._decoders = manifest.root, manifest.splits[split], decoders

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.stacked(rows, self.asked(rows))

    def asked(self, rows: np.ndarray) -> list[Future[Crop]]:
        """The crops of some rows, under way."""
        boxes = self._split.crop
        return [
            self._decoders.submit(load_crop, self._root / str(self._split.path[row]), boxes[row], INPUT_SIZE)
            for row in rows.tolist()
        ]

    def stacked(self, rows: np.ndarray, asked: Sequence[Future[Crop]]) -> np.ndarray:
        """What `asked` gave of these rows."""
        crops = [future.result() for future in asked]
        for row, crop in zip(rows.tolist(), crops, strict=True):
            if crop.pixels is None:
                raise C3Error(
                    f"{self.described(row, crop)}, but it was read when the features were made; is the image folder "
                    f"{self._root} whole?"
                )
        return np.stack([crop.pixels for crop in crops]).transpose(0, 3, 1, 2)

    def described(self, row: int, crop: Crop) -> str:
        """A failed row in words."""
        return f"{self._split.path[row]}: {crop.status.name.lower()}, {crop.reason}"


class ImageTable:
    """The images of a manifest, with as much of the interface of a store as training and validation need.

    Images of the splits `read_before` are taken for readable until they are asked for; those of the others are decoded
    once to find out.
    """

    layout = Layout(chunk_rows=1, shard_rows=1)  # no two rows are read together, so an epoch is one free shuffle

    def __init__(self, manifest: Manifest, read_before: Sequence[str] = ()) -> None:
        self.classes, self.absent_label = manifest.classes, absent_label(manifest.labelling)
        self.location = str(manifest.root)
        self._manifest, self._read_before = manifest, tuple(read_before)
        self._decoders = ThreadPoolExecutor(os.cpu_count(), "decode")
        self._status: dict[str, np.ndarray] = {}

    def labels(self, split: str) -> SparseLabels:
        """The labels of every row."""
        return self._manifest.splits[split].labels

    def maps(self, split: str, name: str) -> Pixels:
        """The one array that there is."""
        return Pixels(self._manifest, split, self._decoders)

    def status(self, split: str) -> np.ndarray:
        """(rows,) uint8 what becomes of every image, as a store has it."""
        if split not in self._status:
            rows = len(self._manifest.splits[split])
            known = np.full(rows, Status.OK, np.uint8)
            self._status[split] = known if split in self._read_before else self._looked_at(split, rows)
        return self._status[split]

    def _looked_at(self, split: str, rows: int) -> np.ndarray:
        pixels, status, first = self.maps(split, PIXELS), np.zeros(rows, np.uint8), ""
        with progress(f"look at {split}", rows, "images") as bar:
            for start in range(0, rows, LOOKED_AT):
                some = np.arange(start, min(start + LOOKED_AT, rows))
                crops = [future.result() for future in pixels.asked(some)]
                status[some] = [crop.status for crop in crops]
                bad = [
                    pixels.described(row, crop) for row, crop in zip(some, crops, strict=True) if crop.pixels is None
                ]
                first = first or next(iter(bad), "")
                bar.advance(len(some), failed=len(bad))
        if first:
            LOG.warning("%d of %d images of %s cannot be read and are left out (first: %s)",
                        (status != Status.OK).sum(), rows, split, first)  # fmt: skip
        return status


class DecodedBuffers:
    """Pools of pixels, the next ones decoded while one is used."""

    def __init__(self, pixels: Pixels) -> None:
        self._pixels = pixels

    def of(self, order: Sequence[np.ndarray]) -> Iterator[ShuffleBuffer]:
        """A pool for each part of the order."""
        waiting: deque[tuple[np.ndarray, list[Future[Crop]]]] = deque()
        for rows in order:
            waiting.append((rows, self._pixels.asked(rows)))
            if len(waiting) > AHEAD:
                yield self._pool(*waiting.popleft())
        while waiting:
            yield self._pool(*waiting.popleft())

    def _pool(self, rows: np.ndarray, asked: list[Future[Crop]]) -> ShuffleBuffer:
        pixels = torch.from_numpy(self._pixels.stacked(rows, asked))
        return ShuffleBuffer(rows, torch.arange(len(rows)), {PIXELS: pixels})


class ImageStream(BatchStream):
    """Batches of the images that can be trained on, in an order that is a function of seed and epoch alone."""

    def __init__(self, table: ImageTable, split: str, batch_size: int, seed: int, device: torch.device) -> None:
        super().__init__(table, split, (PIXELS,), batch_size, seed, batch_size, Placement("stream", device))

    def _opened(self, place: Placement) -> BufferSource:
        return DecodedBuffers(self.cache.maps(self.split, PIXELS))
