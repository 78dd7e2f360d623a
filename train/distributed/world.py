"""The processes that train one model together, as torchrun starts them; of one alone every operation is the identity.

Every process computes its rows of a batch. What the loss compares is gathered from all, so that each computes the loss
of the whole batch; gradients are then averaged. Operations are collective: all processes call the same ones in the same
order.
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

LOG = logging.getLogger(__name__)
PATIENCE = timedelta(hours=1)  # with a process that reads or writes meanwhile; one that died is noticed at once


@dataclass(frozen=True)
class World:
    """Process `rank` of `size`, `local_size` of them on this machine, and the device that it computes on."""

    device: torch.device = torch.device("cpu")
    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def largest(self, *numbers: float) -> list[float]:
        """The largest value of each number over the ranks: what all have to agree on before they go on."""
        if self.size == 1:
            return list(numbers)
        found = torch.tensor(numbers, dtype=torch.float64, device=self.device)
        return _reduced(found, dist.ReduceOp.MAX).tolist()

    def gather(self, rows: Tensor, counts: Sequence[int] | None = None) -> Tensor:
        """The rows (n, ...) of all ranks, rank 0's first, where the given ones are; `counts` are their numbers by rank.

        It can be differentiated: the gradient of a row is the sum of what all ranks have for it.
        """
        if self.size == 1:
            return rows
        if counts is None:
            counts = self.gather(torch.tensor([len(rows)]), [1] * self.size).tolist()
        # a sum with zeros, not all_gather, which wants equal counts and has no gradient
        before, after = sum(counts[: self.rank]), sum(counts[self.rank + 1 :])
        own = rows.to(self.device)
        padded = torch.cat([own.new_zeros(before, *own.shape[1:]), own, own.new_zeros(after, *own.shape[1:])])
        return _Sum.apply(padded).to(rows.device)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace float tensors by their mean over the ranks, all at once.

        `gather` makes the gradient of every weight `size` times too large, whether the weight comes before it or after:
        their mean is the gradient of the whole batch.
        """
        if self.size > 1:
            flat = _reduced(torch.cat([values.flatten() for values in tensors]), dist.ReduceOp.SUM) / self.size
            for values, mean in zip(tensors, flat.split([values.numel() for values in tensors]), strict=True):
                values.copy_(mean.view_as(values))

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by those of the first rank."""
        if self.size > 1:
            for values in tensors:
                dist.broadcast(values, 0)

    @contextmanager
    def alike(self) -> Iterator[None]:
        """The block succeeds on all ranks or raises on all; no other operation may stand in it.

        A rank whose own block succeeded raises a C3Error that names one that failed.
        """
        failure = None
        try:
            yield
        except Exception as error:
            if self.size == 1:
                raise
            failure = error
        (failed,) = self.largest(self.failed(failure))
        if failed:
            raise failure or self.failure_of(failed)

    def failed(self, failure: Exception | None) -> int:
        """What a rank tells the others of its failure, in `largest`."""
        return self.rank + 1 if failure else 0

    def failure_of(self, failed: float) -> C3Error:
        """What a rank raises that heard of a failure."""
        return C3Error(f"rank {failed - 1:.0f} of the training failed and says why; rank {self.rank} ends with it")

    def require_same(self, what: str, number: int) -> None:
        """Raises C3Error on all ranks when a whole number below 2^53 is not the same on all."""
        most, least = self.largest(number, -number)
        if most != -least:
            raise C3Error(f"the ranks disagree about {what}; give all machines the same command and the same files")


@contextmanager
def launched(device: str) -> Iterator[World]:
    """The world that torchrun started this process in, or one of its own; `device` is the name that was asked for.

    nccl connects CUDA devices, gloo CPUs. Only the first process logs, and speaks of an interrupt. Raises C3Error for a
    device of which another process would want the same.
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
    level = LOG.level
    dist.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    if rank:
        LOG.setLevel(logging.WARNING)
    try:
        yield World(own, rank, size, local_size)
    except KeyboardInterrupt:
        if rank == 0:
            raise
        sys.exit(130)
    finally:
        LOG.setLevel(level)
        dist.destroy_process_group()


def require_alone(what: str) -> None:
    """Refuse work that several processes would do at once, one like the other."""
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
    if device.index is not None:
        raise C3Error(f"--device {name}: torchrun gives every process a device of its own; use --device cuda")
    if local_size > (devices := torch.cuda.device_count()):
        raise C3Error(
            f"torchrun started {local_size} processes on this machine, which has {devices} CUDA devices; "
            "use --nproc-per-node gpu"
        )
    return torch.device("cuda", local_rank)


def _reduced(values: Tensor, operation: Any) -> Tensor:
    """Replace a contiguous tensor by its reduction over the ranks."""
    try:
        dist.all_reduce(values, operation)
    except RuntimeError as error:  # what both backends raise when a connection is closed
        reason = str(error).split(". ")[0]
        raise C3Error(
            f"a process of the training is gone ({reason}); the same command continues from the last checkpoint"
        ) from error
    return values


class _Sum(Function):
    """The sum over the ranks; so is its gradient, as the loss of every rank depends on it."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        return _reduced(values.clone(memory_format=torch.contiguous_format), dist.ReduceOp.SUM)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _reduced(gradient.clone(memory_format=torch.contiguous_format), dist.ReduceOp.SUM)
