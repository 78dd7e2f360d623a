"""Feature arrays that other tools wrote (.npy, .npz, .h5, .parquet): opened, checked, and read row by row."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import C3Error
from ..common.files import require_file
from ..common.optional_packages import optional_package
from .store.layout import GRID
from .store.quantise import FLOAT16_MAX

CHECKED = 1024  # rows read at a time
FLOAT32_MAX = float(np.finfo(np.float32).max)
HASHED = 2**24  # bytes of a file hashed at a time


@dataclass(frozen=True)
class SourceArray:
    """An array of a file: vectors (rows, D) or maps (rows, C, H, W), of any floating or integer type.

    `values[rows]` reads rows by ascending number.
    """

    path: Path
    key: str
    values: Any

    @property
    def name(self) -> str:
        """The key of the array in its file, or the name of the file where it has none."""
        return self.key or self.path.name.split(".")[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, rows first."""
        return tuple(self.values.shape)

    @property
    def title(self) -> str:
        """Name the array in messages."""
        return f"{self.path}{f' ({self.key})' if self.key else ''}"

    def require_finite(self) -> None:
        """Read all rows once. Raises C3Error that names the first one with NaN, infinity or a number beyond float32."""
        for start in range(0, len(self.values), CHECKED):
            part = np.abs(self.values[start : start + CHECKED].reshape(-1, math.prod(self.shape[1:])))
            bad = ~(part <= np.float32(FLOAT32_MAX)).all(axis=1)  # a number of Python would become float16 infinity
            if bad.any():
                raise C3Error(f"{self.title}: row {start + int(bad.argmax())} has a value that is not a finite float32")

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by number, in any order: (rows, D), or (rows, C, 7, 7) pooled from maps by maximum.

        float16, or float32 where a value is beyond it.
        """
        order = np.argsort(rows)
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        found[order] = self.values[rows[order]]
        found = pooled(found) if found.ndim == 4 else found
        return found if np.abs(found).max(initial=0) > FLOAT16_MAX else found.astype(np.float16)


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
    require_file(path, "feature array")
    if path.suffix not in _OPENERS:
        raise C3Error(f"{path}: expected a file that ends in {', '.join(_OPENERS)}")
    try:
        arrays = _OPENERS[path.suffix](path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise C3Error(f"{path} cannot be read as {path.suffix}: {str(error).splitlines()[0]}") from error
    if key is None and len(arrays) != 1:
        raise C3Error(f"{path} has the arrays {', '.join(arrays) or '(none)'}; name one of them with --array")
    found = next(iter(arrays)) if key is None else key
    if found not in arrays:
        raise C3Error(f"{path} has no array {found!r}; it has {', '.join(arrays)}")
    source = SourceArray(path, found, arrays[found])
    if source.values.dtype.kind not in "fiu" or len(source.shape) not in (2, 4) or 0 in source.shape:
        raise C3Error(
            f"{source.title} has shape {source.shape} and type {source.values.dtype}; expected numbers, vectors "
            "(rows, D) or maps (rows, C, H, W)"
        )
    return source


def file_hash(path: Path) -> str:
    """Return the sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(HASHED):
            digest.update(part)
    return digest.hexdigest()


def _npy(path: Path) -> dict[str, Any]:
    return {"": np.load(path, mmap_mode="r", allow_pickle=False)}


def _npz(path: Path) -> dict[str, Any]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no zip archive of arrays")
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _h5(path: Path) -> dict[str, Any]:
    h5py = optional_package("h5py", "biam", "reading HDF5")
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    h5py.File(path, "r").visititems(note)
    return found


def _parquet(path: Path) -> dict[str, Any]:
    """Return the columns of a table whose cells are lists of numbers, (rows, D) each."""
    optional_package("pyarrow", "parquet", "reading parquet")
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import parquet

    table = parquet.read_table(path)
    found = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        if not (pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type)
                or pa.types.is_large_list(column.type)):  # fmt: skip
            continue
        flat = column.flatten()
        if column.null_count or flat.null_count or len(pc.unique(pc.list_value_length(column))) > 1:
            raise C3Error(f"{path}: column {name!r} has cells that are empty or of different lengths")
        found[name] = flat.to_numpy().reshape(len(column), -1)
    return found


_OPENERS: Mapping[str, Callable[[Path], dict[str, Any]]] = {
    ".npy": _npy, ".npz": _npz, ".h5": _h5, ".hdf5": _h5, ".parquet": _parquet,
}  # fmt: skip
