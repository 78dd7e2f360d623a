"""Feature arrays that other tools wrote (.npy, .npz, .h5, .parquet): opened, checked, and read row by row."""

from __future__ import annotations

import hashlib
import logging
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ..common.errors import C3Error, clipped
from ..common.file_kinds import foreign_kind, head_of
from ..common.files import require_file
from ..common.optional_packages import optional_package
from ..common.unicode_forms import nfc
from .store.layout import GRID
from .store.quantise import FLOAT16_MAX

LOG = logging.getLogger(__name__)
CHECKED = 1024  # rows read at a time
FLOAT16_TINY = float(np.finfo(np.float16).smallest_normal)  # below, a store loses digits, and then the number
FLOAT32_MAX = float(np.finfo(np.float32).max)
HASHED = 2**24  # bytes of a file hashed at a time

Readers = Mapping[str, Callable[[], Any]]  # what reads each array of a file, by its key


@dataclass(frozen=True)
class SourceArray:
    """An array of a file: vectors (rows, D) or maps (rows, C, H, W), of any floating or integer type.

    `values[rows]` reads rows by ascending number. `names` read the arrays of texts beside it, by their keys.
    """

    path: Path
    key: str
    values: Any
    names: Mapping[str, Callable[[], list[str]]]

    @property
    def name(self) -> str:
        """The key of the array in its file without groups, or the name of the file where it has none."""
        return self.key.rpartition("/")[2] or self.path.name.split(".")[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, rows first. Maps of one position, as pooling layers leave them, are vectors."""
        shape = tuple(self.values.shape)
        return shape[:2] if shape[2:] == (1, 1) else shape

    @property
    def title(self) -> str:
        """Name the array in messages."""
        return f"{self.path}{f' ({self.key})' if self.key else ''}"

    def require_numbers(self) -> None:
        """Read all rows once, and warn of rows of zeros.

        Raises C3Error that names the first row with NaN, infinity or a number beyond float32, or with nothing but
        numbers that float16 cannot keep.
        """
        zeros: list[int] = []
        for start in range(0, len(self.values), CHECKED):
            part = np.abs(self._rows(slice(start, start + CHECKED)).reshape(-1, math.prod(self.shape[1:])))
            bad = ~(part <= np.float32(FLOAT32_MAX)).all(axis=1)  # a number of Python would become float16 infinity
            if bad.any():
                raise C3Error(f"{self.title}: row {start + int(bad.argmax())} has a value that is not a finite float32")
            largest = part.max(axis=1)
            if (tiny := (largest > 0) & (largest < FLOAT16_TINY)).any():
                raise C3Error(f"{self.title}: row {start + int(tiny.argmax())} has no value of {FLOAT16_TINY:.1e} or "
                              "more, and a store keeps float16; multiply the array, for example by 1000")  # fmt: skip
            zeros += (start + np.flatnonzero(largest == 0)).tolist()
        if zeros:
            LOG.warning("%s: %d of %d rows hold nothing but zeros, the first is row %d; was the file written to its "
                        "end?", self.title, len(zeros), len(self.values), zeros[0])  # fmt: skip

    def require_order(self, images: Sequence[str]) -> None:
        """Refuse an array whose file also names its rows, and has these `images` in another order.

        Names are compared without folders and endings.
        """
        expected = [_stem(image) for image in images]
        for name, read in self.names.items():
            with self._reading():
                texts = read()
            found = [_stem(text) for text in texts]
            if found != expected and sorted(found) == sorted(expected):
                row = next(row for row, image in enumerate(expected) if found[row] != image)
                raise C3Error(
                    f"{self.title}: the rows are not in the order of the table: in {name!r} of the file, row {row} is "
                    f"{texts[row]}, and in the table it is {images[row]}; sort one like the other"
                )

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by number, in any order: (rows, D), or (rows, C, 7, 7) pooled from maps by maximum.

        float16, or float32 where a value is beyond it.
        """
        order = np.argsort(rows)
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        found[order] = self._rows(rows[order])
        found = pooled(found) if found.ndim == 4 else found
        return found if np.abs(found).max(initial=0) > FLOAT16_MAX else found.astype(np.float16)

    def _rows(self, rows: slice | np.ndarray) -> np.ndarray:
        with self._reading():
            return np.asarray(self.values[rows]).reshape(-1, *self.shape[1:])

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (OSError, KeyError) as error:  # a damaged part, or a compression of HDF5 whose plugin is not installed
            raise C3Error(f"{self.title} cannot be read: {str(error).splitlines()[0]}") from error


def pooled(maps: np.ndarray) -> np.ndarray:
    """Max-pool maps (rows, C, H, W) to (rows, C, 7, 7), with the windows of torch's adaptive pooling."""
    for axis in (2, 3):
        side = maps.shape[axis]
        windows = [slice(i * side // GRID, -(-(i + 1) * side // GRID)) for i in range(GRID)]
        maps = np.stack([maps[(slice(None),) * axis + (window,)].max(axis=axis) for window in windows], axis=axis)
    return maps


def open_array(path: Path, key: str | None = None) -> SourceArray:
    """Open an array of a file: the one named `key`, or the only one.

    Raises C3Error for a file of another kind, an array that is missing or ambiguous, and a shape that holds neither
    vectors nor maps. Nothing in a file is executed.
    """
    if path.is_dir():
        raise C3Error(f"{path} is a folder; join its parts in the order of the table, and write one file")
    require_file(path, "feature array")
    if path.suffix not in _KINDS:
        raise C3Error(f"{path}: expected a file that ends in {', '.join(_KINDS)}")
    begins, opener = _KINDS[path.suffix]
    head = head_of(path)
    if not head.startswith(begins) and (kind := foreign_kind(head)):
        raise C3Error(f"{path} is {kind}")
    try:
        arrays, texts = opener(path)
        found = _chosen(path, arrays, key)
        values = arrays[found]()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise C3Error(f"{path} cannot be read as {path.suffix}: {str(error).splitlines()[0]}") from error
    source = SourceArray(path, found, values, {name: read for name, read in texts.items() if name != found})
    if values.dtype.kind not in "fiu" or len(source.shape) not in (2, 4) or 0 in source.shape:
        raise C3Error(
            f"{source.title} has shape {source.shape} and type {values.dtype}; expected numbers, vectors (rows, D) or "
            "maps (rows, C, H, W)"
        )
    if len(source.shape) == 4 and source.shape[1] == source.shape[2] != source.shape[3]:
        raise C3Error(f"{source.title} has shape {source.shape}, which looks like channels last; expected maps "
                      "(rows, C, H, W), which numpy.moveaxis(maps, -1, 1) makes of them")  # fmt: skip
    return source


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(HASHED):
            digest.update(part)
    return digest.hexdigest()


def _chosen(path: Path, arrays: Readers, key: str | None) -> str:
    """Return the key of the array to read."""
    if len(arrays) == 1 and (key is None or "" in arrays):  # that of an .npy has no name
        return next(iter(arrays))
    has = f"the arrays {clipped(', '.join(arrays))}" if arrays else "no array of numbers"
    if key is None or not arrays:
        raise C3Error(f"{path} has {has}{'; name those to read with --array' if arrays else ''}")
    if key not in arrays:
        raise C3Error(f"{path} has no array {key!r}; it has {has}")
    return key


def _stem(name: str) -> str:
    return nfc(PurePosixPath(name.replace("\\", "/")).stem)


def _texts(read: Callable[[], Any]) -> list[str]:
    """Return the texts of an array (rows,); none of one that holds something else."""
    try:
        values = read()
    except ValueError:  # Python objects, which are not read
        return []
    found = values.tolist() if values.ndim == 1 and values.dtype.kind in "US" else []
    return [text.decode(errors="replace") if isinstance(text, bytes) else text for text in found]


def _npy(path: Path) -> tuple[Readers, Readers]:
    return {"": partial(np.lib.format.open_memmap, path, mode="r")}, {}


def _npz(path: Path) -> tuple[Readers, Readers]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive of arrays")
    file = np.load(path, allow_pickle=False)
    readers = {name: partial(file.__getitem__, name) for name in file.files}
    return readers, {name: partial(_texts, read) for name, read in readers.items()}


def _h5(path: Path) -> tuple[Readers, Readers]:
    h5py = optional_package("h5py", "biam", "reading HDF5")
    numbers: dict[str, Any] = {}
    texts: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.shape is None:
            return
        if h5py.check_string_dtype(item.dtype):
            texts[name] = lambda: item.asstr(errors="replace")[()].tolist() if item.ndim == 1 else []
        else:
            numbers[name] = lambda: item

    h5py.File(path, "r").visititems(note)
    return numbers, texts


def _parquet(path: Path) -> tuple[Readers, Readers]:
    """Return the columns of a table whose cells are lists of numbers, (rows, D) each, and those of texts."""
    optional_package("pyarrow", "parquet", "reading parquet")
    from pyarrow import parquet
    from pyarrow import types as kinds

    file = parquet.ParquetFile(path)
    columns = {field.name: field.type for field in file.schema_arrow}
    lists = {name: kind.value_type for name, kind in columns.items()
             if kinds.is_list(kind) or kinds.is_fixed_size_list(kind) or kinds.is_large_list(kind)}  # fmt: skip
    numbers = [name for name, kind in lists.items() if kinds.is_floating(kind) or kinds.is_integer(kind)]
    texts = [name for name, kind in columns.items() if kinds.is_string(kind) or kinds.is_large_string(kind)]
    if not numbers:
        shown = clipped(", ".join(f"{name} ({kind})" for name, kind in columns.items()))
        raise C3Error(f"{path}: expected a column of lists of numbers, such as frame['x'] = frame[columns].to_numpy()."
                      f"tolist() makes of columns; found {shown}")  # fmt: skip
    return ({name: partial(_lists, path, file, name) for name in numbers},
            {name: partial(_column, file, name) for name in texts})  # fmt: skip


def _column(file: Any, name: str) -> list[str]:
    return ["" if text is None else text for text in file.read([name])[name].to_pylist()]


def _lists(path: Path, file: Any, name: str) -> np.ndarray:
    import pyarrow.compute as pc

    column = file.read([name])[name]
    flat = [chunk.flatten() for chunk in column.chunks]  # not joined first: lists of more than 2^31 numbers cannot be
    if column.null_count or any(part.null_count for part in flat) or len(pc.unique(pc.list_value_length(column))) > 1:
        raise C3Error(f"{path}: column {name!r} has cells that are empty or of different lengths")
    values = np.concatenate([part.to_numpy() for part in flat]) if flat else np.empty(0)
    return values.reshape(len(column), len(values) // max(1, len(column)))


_KINDS: Mapping[str, tuple[bytes, Callable[[Path], tuple[Readers, Readers]]]] = {
    ".npy": (b"\x93NUMPY", _npy), ".npz": (b"PK", _npz), ".h5": (b"\x89HDF", _h5), ".hdf5": (b"\x89HDF", _h5),
    ".parquet": (b"PAR1", _parquet),
}  # fmt: skip
