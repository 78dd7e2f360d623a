"""Read pickles without running code from them: only plain containers, numbers, texts and numpy values are allowed."""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from .errors import C3Error


class PickleRefused(C3Error):
    """A pickle needs something that is not plain data; `asks_for` is its full name, empty where it has none."""

    def __init__(self, path: Path, reason: str, asks_for: str = "") -> None:
        super().__init__(f"{path} is refused: {reason}. Only pickles of plain data and numpy arrays are read")
        self.path, self.reason, self.asks_for = path, reason, asks_for

    def __reduce__(self) -> tuple[type[PickleRefused], tuple[Path, str, str]]:
        return type(self), (self.path, self.reason, self.asks_for)  # workers send errors by pickle


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
    ("builtins", "float"): float,  # what a defaultdict makes
    ("builtins", "int"): int,
    ("builtins", "list"): list,
    ("builtins", "dict"): dict,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
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
    refused = ""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            self.refused = f"{module}.{name}"
            raise pickle.UnpicklingError(f"it asks for {self.refused}")
        return ALLOWED[module, name]


def load_pickle(path: Path, stream: IO[bytes] | None = None) -> Any:
    """Read a pickle of numpy arrays, lists, dicts, texts and numbers; refuse anything else before it runs.

    `stream` holds the content where it is not the file `path` as it is. Texts of Python 2 beyond ASCII arrive as bytes.
    Raises C3Error when the file is damaged, and PickleRefused when it holds something that is not plain data.
    """
    if stream is None:
        with path.open("rb") as file:
            return load_pickle(path, file)
    start = stream.tell()
    try:
        return _load(path, stream, "ASCII")
    except UnicodeDecodeError:  # texts of Python 2
        stream.seek(start)
    try:
        return _load(path, stream, "bytes")
    except UnicodeDecodeError as error:
        raise _unreadable(path, error) from error


def _load(path: Path, stream: IO[bytes], encoding: str) -> Any:
    unpickler = _Unpickler(stream, encoding=encoding)
    try:
        return unpickler.load()
    except pickle.UnpicklingError as error:
        raise PickleRefused(path, str(error), unpickler.refused) from error
    except UnicodeDecodeError:
        raise
    except (EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, ImportError, MemoryError,
            OverflowError) as error:  # fmt: skip
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> C3Error:
    return C3Error(f"{path} is not a readable pickle ({type(error).__name__}: {error})")
