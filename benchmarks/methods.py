"""Measure size and speed of every method on arrays shaped like VGG19 features.

    python benchmarks/methods.py

The arrays are seeded, in memory and float16 as in a store: levels p8 (256 channels), p16 (512) and p32 (512), with the
means and the share of zeros of real ones. There are 249 classes, 199 of them trained, with vectors of 300 numbers; an
image has 1 to 5 positives, and all other labels are negative. Methods have their default options. A training step is
that of the loop: the arrays to float32, loss, backward pass, Adam. Scoring is that of evaluation, for all 249 classes,
or for the 199 where a method knows no others.

Each round measures all methods, half of the time training and half scoring. Rows per second are the batch size over the
median of all steps; the first step of each kind is not counted. GFLOPs are per picture.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch
from c3.train.loop import batch_loss
from c3.train.models.base import Inputs
from c3.train.recipes import LoopOptions
from c3.train.registry import METHODS, method_class
from c3.train.scorer import Scorer, gflops
from torch import Tensor
from torch.nn.functional import normalize

CPU = torch.device("cpu")
DEFAULT = [name for name, kind in METHODS.items() if not kind.image_text]  # those read an embedding, not maps
POSITIVES = 5
BATCHES = 4  # distinct batches, used in turn
SCALES = {"p8": (1485.0, 0.97), "p16": (181.0, 0.5), "p32": (1.4, 0.11)}  # mean of the nonzero values, and their share


@dataclass(frozen=True)
class Size:
    """The shapes that the methods are built for."""

    inputs: Inputs
    classes: int
    batch: int


VGG19 = Size(Inputs({"p8": 256, "p16": 512, "p32": 512}, 300, 199), 249, 48)
SMALL = Size(Inputs({"p8": 8, "p16": 16, "p32": 16}, 12, 20), 25, 4)


@dataclass(frozen=True)
class Data:
    """Arrays and labels of every batch, and the word vectors of all classes, trained ones first."""

    arrays: list[dict[str, np.ndarray]]
    labels: list[Tensor]
    vectors: Tensor


def data_of(size: Size, seed: int) -> Data:
    """Draw the arrays and labels of a few batches."""
    rng = np.random.default_rng(seed)
    arrays, labels = [], []
    for _ in range(BATCHES):
        arrays.append({})
        for name, (mean, share) in SCALES.items():
            shape = (size.batch, *size.inputs.shape(name))
            arrays[-1][name] = (rng.exponential(mean, shape) * (rng.random(shape) < share)).astype(np.float16)
        signs = np.full((size.batch, size.inputs.classes), -1, np.int8)
        for row in signs:
            row[rng.choice(len(row), rng.integers(1, POSITIVES + 1), replace=False)] = 1
        labels.append(torch.from_numpy(signs))
    vectors = torch.from_numpy(rng.standard_normal((size.classes, size.inputs.d_w), np.float32))
    return Data(arrays, labels, normalize(vectors, dim=1))


class Subject:
    """A method under measurement, and the seconds of its steps so far."""

    def __init__(self, name: str, size: Size, data: Data, seed: int) -> None:
        torch.manual_seed(seed)
        kind, options = method_class(name), LoopOptions()
        self.name, self.size, self.data = name, size, data
        self.trained = data.vectors[: size.inputs.classes]
        self.model = kind(size.inputs, kind.Options())
        self.model.prepare(self.trained)
        self.optimiser = torch.optim.Adam(
            self.model.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True
        )
        self.scorer = Scorer(self.model, data.vectors, CPU)
        self.seconds: dict[str, list[float]] = {"train": [], "score": []}
        self.steps: dict[str, Callable[[int], None]] = {"train": self.train, "score": self.score}

    def train(self, number: int, precision: str = "fp32") -> None:
        arrays = {name: torch.from_numpy(values).float() for name, values in self.read(number).items()}
        loss = batch_loss(self.model, arrays, self.data.labels[number], self.trained, precision)["loss"]
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.model.after_step()

    def score(self, number: int) -> None:
        self.scorer(self.read(number))

    def read(self, number: int) -> dict[str, np.ndarray]:
        return {name: self.data.arrays[number][name] for name in self.scorer.arrays}

    def measure(self, seconds: float) -> None:
        """Time training and scoring steps, each for half of `seconds` and at least once."""
        for kind, step in self.steps.items():
            self.model.train(kind == "train")
            if not self.seconds[kind]:
                step(0)
            until = time.perf_counter() + seconds / 2
            while True:
                began = time.perf_counter()
                step(len(self.seconds[kind]) % BATCHES)
                self.seconds[kind].append(time.perf_counter() - began)
                if time.perf_counter() > until:
                    break

    def line(self) -> str:
        """Return the markdown line of the method."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        rates = [f"{self.size.batch / median(seconds):,.0f}" for seconds in self.seconds.values()]
        steps = " + ".join(str(len(seconds)) for seconds in self.seconds.values())
        flops = [f"{gflops(self.model, vectors):.4f}" for vectors in (None, self.data.vectors)]
        return f"| {' | '.join([self.name, f'{parameters:,}', *flops, *rates, steps])} |"


def main() -> None:
    """Measure the methods in rounds; print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=DEFAULT, metavar="METHOD")
    parser.add_argument("--seconds", type=float, default=4.0, help="seconds per method")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--quick", action="store_true", help="narrow arrays and one round, to check that everything runs"
    )
    given = parser.parse_args()
    size = SMALL if given.quick else VGG19
    if given.quick:
        given.seconds, given.rounds = 0.0, 1
    torch.set_num_threads(given.threads)
    data = data_of(size, given.seed)
    subjects = [Subject(name, size, data, given.seed) for name in given.methods]
    load = os.getloadavg()[0]
    for _ in range(given.rounds):
        for subject in subjects:
            subject.measure(given.seconds / given.rounds)
    print(f"batch {size.batch}, {size.classes} classes, {size.inputs.classes} of them trained, seed {given.seed}, "
          f"{given.rounds} rounds of {given.seconds / given.rounds:.1f} s a method, {given.threads} threads of "
          f"{os.cpu_count()} {platform.machine()} cores; python {platform.python_version()}, torch "
          f"{torch.__version__}; load {load:.1f} before, {os.getloadavg()[0]:.1f} after\n")  # fmt: skip
    print("| method | parameters | GFLOPs | with scores | training rows/s | scoring rows/s | steps |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for subject in subjects:
        print(subject.line())


if __name__ == "__main__":
    main()
