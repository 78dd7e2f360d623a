"""Arrays that stay in memory from one training to the next, and that processes share."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from multiprocessing.reduction import DupFd
from typing import Any

import torch
from torch import Tensor

Content = tuple[str, ...]  # digest of a store, split, names of arrays: what memory holds


class SharedArrays:
    """What trainings on one store have read, for the trainings after them: content -> name -> tensor.

    Tensors on the CPU are in files without a name. Pickled for a child process they are not copied: it maps the same
    memory, and what it would write there only it would see. A context manager; the files end with the last user.
    """

    def __init__(self) -> None:
        self._tensors: dict[Content, dict[str, Tensor]] = {}
        self._files: dict[int, int] = {}  # address of a tensor -> descriptor of its file

    @property
    def size(self) -> int:
        """Bytes that are held."""
        return sum(tensor.nbytes for tensors in self._tensors.values() for tensor in tensors.values())

    def get(self, content: Content) -> dict[str, Tensor] | None:
        """Name -> tensor, or None where nobody has read this content yet."""
        return self._tensors.get(content)

    def put(self, content: Content, tensors: dict[str, Tensor]) -> None:
        """Keep tensors that `empty` made and that are filled now."""
        self._tensors[content] = tensors

    def empty(self, shape: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        """A tensor to be filled and kept."""
        if device.type != "cpu":
            return torch.empty(*shape, dtype=dtype, device=device)
        file = _nameless_file()
        os.ftruncate(file, torch.Size(shape).numel() * dtype.itemsize)
        tensor = _mapped(file, shape, dtype, mmap.ACCESS_WRITE)
        self._files[tensor.data_ptr()] = file
        return tensor

    def close(self) -> None:
        """Let go of everything; a child that was started keeps what it has."""
        self._tensors = {}
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> SharedArrays:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[Content, dict[str, Any]]:
        """For a child that is being started: descriptors, shapes and dtypes."""
        return {
            content: {
                name: (DupFd(self._files[tensor.data_ptr()]), tuple(tensor.shape), tensor.dtype)
                for name, tensor in tensors.items()
            }
            for content, tensors in self._tensors.items()
        }

    def __setstate__(self, state: dict[Content, dict[str, Any]]) -> None:
        self.__init__()
        for content, parts in state.items():
            self._tensors[content] = {}
            for name, (handle, shape, dtype) in parts.items():
                file = handle.detach()
                self._tensors[content][name] = _mapped(file, shape, dtype, mmap.ACCESS_COPY)
                os.close(file)  # the mapping stays


def _nameless_file() -> int:
    """The descriptor of a file that is memory on Linux, and a temporary file elsewhere."""
    if hasattr(os, "memfd_create"):  # /dev/shm, where torch would put it, has 64 MB in most containers
        return os.memfd_create("c3")
    file, name = tempfile.mkstemp()
    os.unlink(name)  # noqa: PTH108
    return file


def _mapped(file: int, shape: Sequence[int], dtype: torch.dtype, access: int) -> Tensor:
    return torch.frombuffer(mmap.mmap(file, 0, access=access), dtype=dtype).view(*shape)
