"""Decode crops in threads, ahead of their use, and stack them for the device."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from ....common.lookahead import look_ahead
from ...store.cache import Status
from ..specs import INPUT_SIZE, Resize
from .crops import Crop, load_crop
from .decode_options import DEFAULT, DecodeOptions

BATCHES_AHEAD = 2  # decoded, or being decoded, while one is in use

Key = TypeVar("Key")


@dataclass(frozen=True)
class CropSource:
    """A picture, and the part of it to cut: `box` (4,) is x0, y0, x1, y1 in 0..1."""

    path: Path
    box: np.ndarray


@dataclass(frozen=True)
class CropBatch:
    """The crops of a batch, in the order of their sources; `status` says which of them failed.

    `side` is the edge of their pixels.
    """

    crops: tuple[Crop, ...]
    side: int = INPUT_SIZE

    @property
    def failed(self) -> list[int]:
        """The places of the crops without pixels."""
        return [place for place, crop in enumerate(self.crops) if crop.status != Status.OK]

    @property
    def empty(self) -> bool:
        """Whether no crop has pixels."""
        return len(self.failed) == len(self.crops)

    def pixels(self) -> np.ndarray:
        """Return (batch, 3, side, side) uint8; a failed crop is black."""
        return self._stacked().transpose(0, 3, 1, 2)

    def on(self, device: torch.device) -> Tensor:
        """Return `pixels` on a device; the copy to CUDA starts from pinned memory and is not waited for."""
        stacked = torch.from_numpy(self._stacked())
        if device.type == "cuda":
            stacked = stacked.pin_memory()
        return stacked.permute(0, 3, 1, 2).to(device, non_blocking=True)

    def _stacked(self) -> np.ndarray:
        # A failed crop keeps its place: the batch keeps its shape, so that its neighbours get the same features to the
        # last bit as without the failure.
        black = np.zeros((self.side, self.side, 3), np.uint8)
        return np.stack([black if crop.pixels is None else crop.pixels for crop in self.crops])


class CropLoader:
    """Threads that decode crops. `load` may be called again and again, and from several places at once."""

    def __init__(
        self,
        threads: int | None = None,
        ahead: int = BATCHES_AHEAD,
        options: DecodeOptions = DEFAULT,
        resize: Resize = Resize(),
    ) -> None:
        self._threads = ThreadPoolExecutor(threads or os.cpu_count(), "decode")
        self._ahead, self._options, self._resize = ahead, options, resize

    def load(self, batches: Iterable[tuple[Key, Sequence[CropSource]]]) -> Generator[tuple[Key, CropBatch], None, None]:
        """Yield every batch decoded, in order, with the key it was asked for by; `ahead` more are under way.

        Batches are taken from the iterable only as far as that needs. A bad picture is a failed crop, never an error.
        """
        return look_ahead(self._start, batches, self._ahead)

    def _start(self, batch: tuple[Key, Sequence[CropSource]]) -> _Decoding[Key]:
        key, sources = batch
        asked = self._resize
        load = partial(
            load_crop, size=asked.side, options=self._options, interpolation=asked.interpolation, fit=asked.fit
        )
        crops = [self._threads.submit(load, source.path, source.box) for source in sources]
        return _Decoding(key, crops, asked.side)


@dataclass(frozen=True)
class _Decoding(Generic[Key]):
    """A batch under way."""

    key: Key
    crops: list[Future[Crop]]
    side: int

    def result(self) -> tuple[Key, CropBatch]:
        return self.key, CropBatch(tuple(future.result() for future in self.crops), self.side)

    def cancel(self) -> None:
        for future in self.crops:
            future.cancel()
