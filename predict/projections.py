"""What a head keeps of every image of a store, once, in files beside it: a search then reads no feature map.

`Method.condense` says what is kept. For a run and a split there are two files, whose names end with a digest of the
store, of the status of its rows and of the run's weights: when one of these differs, new files take their place.

    projections/RUN-STORE-SPLIT-DIGEST.npy        (usable rows, ...) float16; float32 where values are beyond float16
    projections/RUN-STORE-SPLIT-DIGEST.rows.npy   (usable rows,) records: row, image, crop, id and path
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..common.errors import C3Error
from ..common.files import unwritable, writing
from ..evaluate.score import usable_arrays
from ..extract.store.cache import FeatureCache, Status
from ..extract.store.storage import LocalStorage
from ..train.models.base import Embedding
from ..train.run_folder import WEIGHTS, Run
from ..train.scorer import Scorer

LOG = logging.getLogger(__name__)
FOLDER = "projections"
VERSION = 1  # of the files; another one makes them again
LARGEST = 16 * 1024  # bytes of an image in float16: a head that keeps more is asked for every search
BLOCK = 2**18  # numbers scored at once: in float32 they fit into the cache of a core, which halves the time
FLOAT16 = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class SplitImages:
    """The usable rows of a split. `rows` (n,) are records of `row`, `image`, `crop`, `id` and `path` (in bytes).

    `row` is the number in the split; rows of one image share `image`. `values` (n, ...) are the projections, or None
    where the store has to be read.
    """

    split: str
    rows: np.ndarray
    values: np.ndarray | None


class Projections:
    """The images of a store as a run condenses them, kept in `folder`; None keeps nothing.

    `scorer` is the head of the run, with whatever class vectors.
    """

    def __init__(self, run: Run, store: FeatureCache, scorer: Scorer, folder: Path | None) -> None:
        self._run, self._store, self._scorer, self._folder, self._told = run, store, scorer, folder, False
        shapes = {name: (1, *scorer.model.inputs.shape(name)) for name in scorer.arrays}
        found = scorer.condense({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
        parts = found if isinstance(found, tuple) else (found,)
        self.bytes_per_row = sum(2 * part[0].numel() for part in parts)
        self.small = isinstance(found, Tensor) and self.bytes_per_row <= LARGEST

    def images(self, split: str) -> SplitImages:
        """Return the usable rows of a split, with their projections where the head keeps little enough of an image.

        They are computed when they are not there. Where the folder cannot be written, a line of the log says so, and
        the store is read for every search. Raises C3Error for a store that is not complete or damaged.
        """
        if not self.small:
            LOG.info("method %s keeps %s bytes of an image (projections: at most %s), so every search reads the store",
                     self._run.method, f"{self.bytes_per_row:,}", f"{LARGEST:,}")  # fmt: skip
            return self._unkept(split)
        if self._folder is None:
            LOG.info("%s is not in a folder of this machine, so every search reads it; --projections FOLDER keeps the "
                     "projections of its images", self._store.location)  # fmt: skip
            return self._unkept(split)
        path = self._folder / f"{self._stem(split)}-{self._digest(split)}.npy"
        if kept := _opened(split, path):
            return kept
        if fault := _unwritable(self._folder):
            if not self._told:
                LOG.warning("no projections are kept, so every search reads the store: %s; --projections FOLDER names "
                            "another place", fault)  # fmt: skip
                self._told = True
            return self._unkept(split)
        self._store.require_complete()
        self._write(split, path)
        made = _opened(split, path)
        if made is None:
            raise C3Error(f"{path} cannot be read after it was written; is the disk damaged?")
        for old in self._folder.glob(f"{glob.escape(self._stem(split))}-{'[0-9a-f]' * 16}*.npy"):
            if old not in (path, _rows_path(path)):
                old.unlink(missing_ok=True)
        return made

    def blocks(self, images: SplitImages, words: int) -> Iterator[tuple[int, Embedding]]:
        """Yield what scores `words` words need of the rows, on the device, with the number of the first of them."""
        if images.values is not None:
            yield from kept_blocks(images.values, words, self._scorer.device)
            return
        first = 0
        for arrays in usable_arrays(self._store, images.split, self._scorer.arrays, "searching"):
            yield first, self._scorer.condense(arrays)
            first += len(next(iter(arrays.values())))

    def _unkept(self, split: str) -> SplitImages:
        self._store.require_complete()
        return SplitImages(split, row_records(self._store, split), None)

    def _stem(self, split: str) -> str:
        return f"{self._run.id}-{self._store.path.name}-{split}"

    def _digest(self, split: str) -> str:
        with (self._run.path / WEIGHTS).open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").hexdigest()
        content = [VERSION, self._store.digest, self._store.status_digest(split), weights]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def _write(self, split: str, path: Path) -> None:
        """Write the records of the rows and then the projections: where these are, both are whole."""
        records = row_records(self._store, split)
        with writing(_rows_path(path)) as scratch, scratch.open("wb") as file:
            np.save(file, records)
        try:
            self._write_values(split, path, len(records), np.dtype(np.float16))
        except OverflowError:
            LOG.info("projections of %s have values beyond float16; they are kept in float32", self._run.id)
            self._write_values(split, path, len(records), np.dtype(np.float32))

    def _write_values(self, split: str, path: Path, rows: int, dtype: np.dtype) -> None:
        """Write a file block by block; a full disk is an error then, where a memory map would kill the process."""
        with writing(path) as scratch, scratch.open("wb") as file:
            for number, arrays in enumerate(usable_arrays(self._store, split, self._scorer.arrays, "projecting")):
                condensed = self._scorer.condense(arrays)
                values = condensed.cpu().numpy() if isinstance(condensed, Tensor) else None
                if values is None or not np.isfinite(values).all():
                    raise C3Error(f"run {self._run.path} gives scores that are no finite numbers; train it again")
                if dtype == np.float16 and np.abs(values).max() > FLOAT16:
                    raise OverflowError
                if number == 0:
                    header = {"descr": dtype.str, "fortran_order": False, "shape": (rows, *values.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(values.astype(dtype).tobytes())


def kept_blocks(values: np.ndarray, words: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Yield projections (rows, ...) in float32, as many rows at once as `BLOCK` allows, and the number of the first."""
    step = max(BLOCK // max(int(np.prod(values.shape[1:])), words), 1)
    for first in range(0, len(values), step):
        yield first, torch.from_numpy(values[first : first + step]).to(device).float()


def folder_beside(store: FeatureCache) -> Path | None:
    """Return the folder of projections beside a store; None for one that is not a folder of this machine."""
    return store.storage.path.parent / FOLDER if isinstance(store.storage, LocalStorage) else None


def row_records(store: FeatureCache, split: str) -> np.ndarray:
    """Return the records of the usable rows of a split, in order; `SplitImages` says what they hold."""
    used = np.flatnonzero(store.status(split) == Status.OK)
    ids = store.image_ids(split)[used]
    texts = {
        name: np.array([text.encode("utf-8", "surrogateescape") for text in column.tolist()], np.bytes_)
        for name, column in (("id", ids), ("path", store.image_paths(split)[used]))
    }
    widths = [(name, f"S{max(column.dtype.itemsize, 1)}") for name, column in texts.items()]
    records = np.zeros(len(used), np.dtype([("row", "<i8"), ("image", "<i8"), ("crop", "<f4", 4), *widths]))
    records["row"], records["crop"] = used, store.crops(split)[used]
    records["image"][1:] = np.cumsum(ids[1:] != ids[:-1])
    for name, column in texts.items():
        records[name] = column
    return records


def _rows_path(path: Path) -> Path:
    return path.with_suffix(".rows.npy")


def _opened(split: str, path: Path) -> SplitImages | None:
    """Map the files of a split into memory; None where they are not there. A damaged one is named, and made again."""
    if not path.exists() or not _rows_path(path).exists():
        return None
    try:
        # copy on write: torch takes no array that cannot be written, and nothing writes it
        values, rows = (np.load(file, mmap_mode="c") for file in (path, _rows_path(path)))
    except (OSError, ValueError, EOFError) as error:
        LOG.warning("%s is damaged (%s); it is made again", path, error)
        return None
    if len(values) != len(rows):
        LOG.warning("%s is damaged (%d rows, expected %d); it is made again", path, len(values), len(rows))
        return None
    return SplitImages(split, rows, values)


def _unwritable(folder: Path) -> str:
    """Return why nothing can be written to a folder, which is made where it is missing; nothing where it can."""
    if fault := unwritable(folder):
        return fault
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"{folder} cannot be made ({error.strerror or error})"
    return ""
