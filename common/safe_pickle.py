"""Read pickles without running code from them: only plain containers, numbers, texts and numpy values are allowed."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from .errors import C3Error


def _reconstruct(kind: object, shape: object, _typecode: object) -> np.ndarray:
    if kind is not np.ndarray or shape != (0,):
        raise pickle.UnpicklingError("an array of an unusual kind")
    return np.empty(0, np.int8)  # the next opcode sets its contents, shape and type


def _frombuffer(
    data: bytes | bytearray,
    dtype: np.dtype,
    shape: tuple[int, ...],
    order: Literal["C", "F", "K"],
    axes: tuple[int, ...] | None = None,
) -> np.ndarray:
    values: np.ndarray = np.frombuffer(data, dtype)  # numpy itself refuses objects here
    if order == "K":  # written by numpy since 2.3 for arrays whose axes were exchanged
        return values.reshape(shape).transpose(axes)
    return values.reshape(shape, order=order)


def _scalar(dtype: object, data: object) -> np.generic:
    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise pickle.UnpicklingError("a number of an unusual kind")
    value: np.generic = np.frombuffer(data, dtype)[0]
    return value


def _encode(text: object, encoding: object) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError("a text in an unusual encoding")
    return text.encode("latin1")


# What numpy 1 and 2 write. A name is only looked up in this table, so nothing is ever imported.
ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ALLOWED[module, name]


def load_pickle(path: Path) -> Any:
    """Read a pickle of numpy arrays, lists, dicts, texts and numbers; refuse anything else before it runs.

    Raises C3Error when the file is damaged or holds something that is not plain data.
    """
    try:
        with path.open("rb") as file:
            return _Unpickler(file).load()
    except pickle.UnpicklingError as error:
        raise C3Error(f"{path} is refused: {error}. Only pickles of plain data and numpy arrays are read") from error
    except (EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, ImportError, MemoryError,
            OverflowError) as error:  # fmt: skip
        raise C3Error(f"{path} is not a readable pickle ({type(error).__name__}: {error})") from error
