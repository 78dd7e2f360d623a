"""Arrays that stay in memory from one training to the next and are shared between processes."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from typing import Any

import torch
from torch import Tensor

Content = tuple[str, str, str]  # digest of a store, split, name of an array: what memory holds


class SharedArrays:
    """The arrays that trainings on one store have read, for later trainings: content -> tensor.

    They hold every chunk with a readable image, because class splits train on other rows.

    Tensors on the CPU are mapped from files without a name. Pickling for a child process copies nothing: the child maps
    the same memory, and only the child would see what it writes there. A context manager; the system frees the memory
    when the last process has closed it.
    """

    def __init__(self) -> None:
        self._tensors: dict[Content, Tensor] = {}
        self._files: dict[int, int] = {}  # address of a tensor -> descriptor of its file

    @property
    def size(self) -> int:
        """The bytes of all arrays."""
        return sum(tensor.nbytes for tensor in self._tensors.values())

    def get(self, content: Content) -> Tensor | None:
        """Return the tensor, or None when this content has not been read."""
        return self._tensors.get(content)

    def put(self, content: Content, tensor: Tensor) -> None:
        """Keep a tensor that `empty` made and the caller has filled."""
        self._tensors[content] = tensor

    def empty(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return an uninitialised tensor for the caller to fill and `put`."""
        if device.type != "cpu":
            return torch.empty(*shape, dtype=dtype, device=device)
        file = _nameless_file()
        os.ftruncate(file, torch.Size(shape).numel() * dtype.itemsize)
        tensor = _mapped(file, shape, dtype, mmap.ACCESS_WRITE)
        self._files[tensor.data_ptr()] = file
        return tensor

    def close(self) -> None:
        """Release everything; child processes that have started keep what they have."""
        self._tensors = {}
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> SharedArrays:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[Content, Any]:
        """Return descriptors, shapes and dtypes, for a child process that is being started."""
        return {
            content: (DupFd(self._files[tensor.data_ptr()]), tuple(tensor.shape), tensor.dtype)
            for content, tensor in self._tensors.items()
        }

    def __setstate__(self, state: dict[Content, Any]) -> None:
        self._tensors, self._files = {}, {}
        for content, (handle, shape, dtype) in state.items():
            file = handle.detach()
            self._tensors[content] = _mapped(file, shape, dtype, mmap.ACCESS_COPY)
            os.close(file)  # the mapping stays


def _nameless_file() -> int:
    """Return the descriptor of a file in memory on Linux, and of a deleted temporary file elsewhere."""
    if hasattr(os, "memfd_create"):  # /dev/shm, where torch would put it, has 64 MB in most containers
        return os.memfd_create("c3")
    file, name = tempfile.mkstemp()
    os.unlink(name)  # noqa: PTH108
    return file


def _mapped(file: int, shape: Sequence[int], dtype: torch.dtype, access: int) -> Tensor:
    return torch.frombuffer(mmap.mmap(file, 0, access=access), dtype=dtype).view(*shape)
