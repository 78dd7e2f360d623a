"""The processes that train one model together, as torchrun starts them.

Every process computes its rows of a batch. Scores, embeddings and labels are gathered, so that every process computes
the loss of the whole batch; then gradients are averaged. The operations are collective: all processes call the same
ones in the same order. With one process alone they change nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from ...common.devices import resolve_device
from ...common.errors import C3Error

PROGRAM_LOG = logging.getLogger("c3")  # above the loggers of all modules
TIMEOUT = timedelta(hours=1)  # for a process that is reading or writing; one that died is noticed at once


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`, of which `local_size` run on this machine, and the device that it computes on."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def maximum(self, *numbers: float) -> list[float]:
        """Return the largest value of each number over the ranks, so that all ranks decide alike."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        largest: list[float] = _reduced(found, dist.ReduceOp.MAX).tolist()
        return largest

    def gather(self, rows: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """Return the rows (n, ...) of all ranks in the order of the ranks, on the device of `rows`.

        `counts` are the numbers of rows by rank; without them they are asked for. Differentiable: the gradient of a
        row is the sum of its gradients on all ranks.
        """
        if self.size == 1:
            return rows
        if counts is None:
            counts = self.gather(torch.tensor([len(rows)]), [1] * self.size).tolist()
        # a sum with zeros, not all_gather, which wants equal counts and has no gradient
        before, after = sum(counts[: self.rank]), sum(counts[self.rank + 1 :])
        own = rows.to(self.device)
        padded = torch.cat([own.new_zeros(before, *own.shape[1:]), own, own.new_zeros(after, *own.shape[1:])])
        gathered: Tensor = _Sum.apply(padded)
        return gathered.to(rows.device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors in place by their mean over the ranks, in one reduction.

        The loss of the whole batch on every rank makes every gradient `size` times too large in sum, so the mean is the
        gradient of the whole batch.
        """
        if self.size > 1:
            flat = _reduced(torch.cat([values.flatten() for values in tensors]), dist.ReduceOp.SUM) / self.size
            means = torch.split_with_sizes(flat, [values.numel() for values in tensors])
            for values, mean in zip(tensors, means, strict=True):
                values.copy_(mean.view_as(values))

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors in place by those of the first rank."""
        if self.size > 1:
            for values in tensors:
                dist.broadcast(values, 0)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let a block succeed on all ranks or raise on all; it may contain no other collective operation.

        A rank whose own block succeeded raises a C3Error that names a rank that failed.
        """
        failure = None
        try:
            yield
        except Exception as error:
            if self.size == 1:
                raise
            failure = error
        (failed,) = self.maximum(self.failure_code(failure))
        if failed:
            raise failure or self.error_of(failed)

    def failure_code(self, failure: Exception | None) -> int:
        """Return the number that tells the other ranks, by `maximum`, that this one failed; 0 if it did not."""
        return self.rank + 1 if failure else 0

    def error_of(self, code: float) -> C3Error:
        """Return the error for the failure of another rank."""
        return C3Error(f"rank {code - 1:.0f} of the training failed and says why; rank {self.rank} ends with it")

    def require_same(self, what: str, number: int) -> None:
        """Raise C3Error on all ranks if a whole number below 2^53 differs between them."""
        most, least = self.maximum(number, -number)
        if most != -least:
            raise C3Error(f"the ranks disagree about {what}; give all machines the same command and the same files")


@contextmanager
def launched(device: str) -> Iterator[World]:
    """Give the world that torchrun started this process in, or the world of this process alone.

    `device` is the value of --device. nccl connects CUDA devices, gloo CPUs. Only the first process logs and reports an
    interrupt. Raises C3Error for a device that another process would use too.
    """
    if not _launched():
        yield World(resolve_device(device))
        return
    rank, size, local_rank, local_size = (
        int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    own = _own_device(device, local_rank, local_size)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    level = PROGRAM_LOG.level
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=TIMEOUT)
    if rank:
        PROGRAM_LOG.setLevel(logging.WARNING)
    try:
        yield World(own, rank, size, local_size)
    except KeyboardInterrupt:
        if rank == 0:
            raise
        sys.exit(130)
    finally:
        PROGRAM_LOG.setLevel(level)
        dist.destroy_process_group()


def require_alone(what: str) -> None:
    """Raise C3Error if torchrun started several processes, which would all do the same work."""
    if _launched():
        raise C3Error(
            f"torchrun started {what} in several processes, which only c3 train --cache can share; start it without"
        )


def _launched() -> bool:
    return dist.is_available() and dist.is_torchelastic_launched() and os.environ["WORLD_SIZE"] != "1"


def _own_device(name: str, local_rank: int, local_size: int) -> torch.device:
    device = resolve_device(name)
    if device.type == "cpu":
        return device
    if device != torch.device("cuda"):
        raise C3Error(f"--device {name}: torchrun gives every process a device of its own; use --device cuda")
    if local_size > (devices := torch.cuda.device_count()):
        raise C3Error(
            f"torchrun started {local_size} processes on this machine, which has {devices} CUDA devices; "
            "use --nproc-per-node gpu"
        )
    return torch.device("cuda", local_rank)


def _reduced(values: Tensor, operation: Any) -> Tensor:
    """Replace a contiguous tensor by its reduction over the ranks, and return it."""
    try:
        dist.all_reduce(values, operation)
    except RuntimeError as error:  # both backends raise it when a connection closes
        reason = str(error).split(". ")[0]
        raise C3Error(
            f"a process of the training is gone ({reason}); the same command continues from the last checkpoint"
        ) from error
    return values


class _Sum(Function):
    """The sum over the ranks. Its gradient is the sum too, because the loss of every rank depends on it."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return _reduced(values.clone(memory_format=torch.contiguous_format), dist.ReduceOp.SUM)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient.clone(memory_format=torch.contiguous_format), dist.ReduceOp.SUM)
