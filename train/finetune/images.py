"""The images of a data set in place of a store: training and validation read them as one array of pixels.

Rows, labels and classes come from the manifest. Pixels are decoded as in extraction, in threads, when they are needed.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence

import numpy as np
import torch

from ...common.errors import C3Error
from ...common.progress import progress
from ...extract.backbone.pictures.crop_loader import CropBatch, CropLoader, CropSource
from ...extract.backbone.pictures.crops import Crop
from ...extract.backbone.pictures.decode_options import DEFAULT, DecodeOptions
from ...extract.backbone.specs import Resize
from ...extract.datasets.manifest import Manifest
from ...extract.store.cache import Status
from ...extract.store.layout import Layout
from ...extract.store.tables import SparseLabels, absent_label
from ..data.batches import ShuffledBatches
from ..data.shuffle_buffers import ShuffleBuffer

LOG = logging.getLogger(__name__)
PIXELS = "pixels"  # the one array: (rows, 3, side, side) uint8
CHECKED_AT_ONCE = 64  # images, when only their status matters


class Pixels:
    """The pixels of a split: `pixels[rows]` decodes rows by number to (rows, 3, side, side) uint8.

    Raises C3Error with the path of an image that cannot be read.
    """

    def __init__(self, manifest: Manifest, split: str, loader: CropLoader) -> None:
        self._root, self._split, self._loader = manifest.root, manifest.splits[split], loader

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        ((_, pixels),) = self.batches([rows])
        return pixels

    def batches(self, parts: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the row numbers and the pixels of every part; the next parts are decoded meanwhile."""
        for rows, batch in self.crops(parts):
            for place in batch.failed:
                raise C3Error(
                    f"{self.described(rows[place], batch.crops[place])}, but it was read when the features were made; "
                    f"is the image folder {self._root} whole?"
                )
            yield rows, batch.pixels()

    def read(self, order: Sequence[np.ndarray]) -> Generator[ShuffleBuffer, None, None]:
        """Yield a buffer for each part of the order; the next ones are decoded while one is in use."""
        for rows, pixels in self.batches(order):
            yield ShuffleBuffer(rows, torch.arange(len(rows)), {PIXELS: torch.from_numpy(pixels)})

    def crops(self, parts: Iterable[np.ndarray]) -> Generator[tuple[np.ndarray, CropBatch], None, None]:
        """Yield the row numbers and the crops of every part, failed ones too."""
        path, box = self._split.path, self._split.crop
        sources = ((rows, [CropSource(self._root / str(path[row]), box[row]) for row in rows]) for rows in parts)
        return self._loader.load(sources)

    def described(self, row: int, crop: Crop) -> str:
        """Say which row failed, and why."""
        return f"{self._split.path[row]}: {crop.status.name.lower()}, {crop.reason}"


class ImageTable:
    """The images of a manifest, with the part of a store's interface that training and validation use.

    Images of the splits `read_before` count as readable; those of the other splits are decoded once to find out.
    """

    layout = Layout(chunk_rows=1, shard_rows=1)  # no two rows are read together, so an epoch is one free shuffle

    def __init__(
        self,
        manifest: Manifest,
        read_before: Sequence[str] = (),
        decoding: DecodeOptions = DEFAULT,
        resize: Resize = Resize(),
    ) -> None:
        self.classes, self.absent_label = manifest.classes, absent_label(manifest.labelling)
        self.location = str(manifest.root)
        self._manifest, self._read_before = manifest, tuple(read_before)
        self._loader = CropLoader(options=decoding, resize=resize)
        self._status: dict[str, np.ndarray] = {}

    def labels(self, split: str) -> SparseLabels:
        """Return the labels of every row of a split."""
        return self._manifest.splits[split].labels

    def maps(self, split: str, name: str) -> Pixels:
        """Return the pixels of a split, the only array of an image table."""
        return Pixels(self._manifest, split, self._loader)

    def take(self, split: str, name: str, rows: np.ndarray) -> np.ndarray:
        """Return the pixels of rows by number."""
        return self.maps(split, name)[rows]

    def status(self, split: str) -> np.ndarray:
        """Return the status (rows,) uint8 of every image of a split, as in a store."""
        if split not in self._status:
            rows = len(self._manifest.splits[split])
            known = np.full(rows, Status.OK, np.uint8)
            self._status[split] = known if split in self._read_before else self._checked(split, rows)
        return self._status[split]

    def _checked(self, split: str, rows: int) -> np.ndarray:
        pixels, status, first = self.maps(split, PIXELS), np.zeros(rows, np.uint8), ""
        parts = (np.arange(start, min(start + CHECKED_AT_ONCE, rows)) for start in range(0, rows, CHECKED_AT_ONCE))
        with progress(f"check {split}", rows, "images") as bar:
            for some, batch in pixels.crops(parts):
                status[some] = [crop.status for crop in batch.crops]
                if batch.failed and not first:
                    place = batch.failed[0]
                    first = pixels.described(some[place], batch.crops[place])
                bar.advance(len(some), failed=len(batch.failed))
        if first:
            LOG.warning("%d of %d images of %s cannot be read and are left out (first: %s)",
                        (status != Status.OK).sum(), rows, split, first)  # fmt: skip
        return status


class ImageStream(ShuffledBatches):
    """Batches of the images that can be trained on, in an order that depends on seed and epoch alone."""

    def __init__(self, table: ImageTable, split: str, batch_size: int, seed: int, device: torch.device) -> None:
        super().__init__(table, split, batch_size, seed, lambda _rows: table.maps(split, PIXELS), batch_size, device)
