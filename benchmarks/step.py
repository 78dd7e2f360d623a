"""Measure where a training step of C3 spends its time, and how far it is from the time of its arithmetic.

    python benchmarks/step.py

The step is that of the loop (arrays to float32, loss, backward pass, Adam) at batch 48, d_w 300 and 7 groups, on the
seeded arrays of benchmarks/methods.py. Several ways to compute it are measured in turn in one process:

    as it is           attention between channels by torch's fused kernel; the gradient of the shuffle is gathered
    attention, math    attention as torch computes it where no kernel fits: all of R, (48, 7, 300, 300), in memory
    shuffle, indexing  the shuffle by indexing, whose gradient is scattered
    both               the two together, as it was until 2026-11-24

The floor is the arithmetic of a step, counted by torch, over the rate of its largest product (2,352 x 2,048 by
2,048 x 2,100), measured in the same rounds and the same number type. --compiled adds the setting `compile`; --profile
prints the tables of torch's profiler.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from statistics import median
from unittest.mock import patch

import torch
from c3.train.models import encoder
from methods import BATCHES, SMALL, VGG19, Data, Size, Subject, data_of
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

METHOD = "c3"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@contextmanager
def by_indexing() -> Iterator[None]:
    """Compute the shuffle by indexing the rows."""
    with patch.object(encoder.Permuted, "apply", lambda rows, order: rows[:, order]):
        yield


@contextmanager
def both() -> Iterator[None]:
    """Compute both as they were."""
    with by_indexing(), sdpa_kernel(SDPBackend.MATH):
        yield


WAYS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "as it is": nullcontext,
    "attention, math": partial(sdpa_kernel, SDPBackend.MATH),
    "shuffle, indexing": by_indexing,
    "both": both,
}


class Step:
    """A training step of one head on batches in memory."""

    def __init__(self, size: Size, data: Data, precision: str, compiled: bool = False) -> None:
        self.subject, self.precision, self.number = Subject(METHOD, size, data, 0), precision, 0
        self.subject.model.train()
        if compiled:
            self.subject.model.compile()

    def __call__(self) -> None:
        self.subject.train(self.number % BATCHES, self.precision)
        self.number += 1


def product(size: Size, dtype: torch.dtype) -> tuple[Callable[[], Tensor], float]:
    """Return the projection of the pyramid as a function, and its floating-point operations."""
    rows, inner, columns = size.batch * encoder.POSITIONS, 2 * encoder.WIDTH, 7 * size.inputs.d_w
    left, right = torch.randn(rows, inner, dtype=dtype), torch.randn(inner, columns, dtype=dtype)
    return lambda: left @ right, 2.0 * rows * inner * columns


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    """Measure every way; print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--compiled", action="store_true")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument(
        "--quick", action="store_true", help="Tiny shapes, to check that everything runs; the figures mean nothing."
    )
    asked = parser.parse_args()
    size, rounds = (SMALL, 2) if asked.quick else (VGG19, asked.rounds)
    data = data_of(size, 0)
    step = Step(size, data, asked.precision)
    steps = {name: (way, step) for name, way in WAYS.items()}
    if asked.compiled:
        steps["compiled"] = (nullcontext, Step(size, data, asked.precision, compiled=True))
    load = os.getloadavg()[0]
    with FlopCounterMode(display=False) as counter:
        step()
    multiply, operations = product(size, PRECISIONS[asked.precision])
    seconds: dict[str, list[float]] = {name: [] for name in (*steps, "product")}
    for number in range(rounds + 1):
        for name, (way, work) in steps.items():
            with way():
                taken = timed(work)
            seconds[name] += [taken] if number else []  # the first of each is not counted
        taken = timed(multiply)
        seconds["product"] += [taken] if number else []
    rate = operations / median(seconds["product"])
    floor = counter.get_total_flops() / rate
    print(f"{METHOD}, {asked.precision}, batch {size.batch}, {torch.get_num_threads()} threads, torch "
          f"{torch.__version__}, load {load:.1f}: {counter.get_total_flops() / 1e9:.1f} GFLOP a step, product at "
          f"{rate / 1e9:.0f} GFLOP/s, floor {1e3 * floor:.0f} ms")  # fmt: skip
    print("\n| way | ms | times the floor | times as it is |\n|---|---:|---:|---:|")
    for name in steps:
        taken = median(seconds[name])
        print(f"| {name} | {1e3 * taken:,.0f} | {taken / floor:.2f} | {taken / median(seconds['as it is']):.2f} |")
    if asked.profile:
        for name, way in WAYS.items():
            with way(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
                step()
            averages = found.key_averages(group_by_input_shape=True)
            print(f"\n{name}\n{averages.table(sort_by='self_cpu_time_total', row_limit=20)}")


if __name__ == "__main__":
    main()
