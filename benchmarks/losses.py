"""Compare time and peak memory of every loss with the dense form over all pairs of classes.

    python benchmarks/losses.py

Scores and labels are seeded noise: --batch images of --classes classes, 1 to 40 of them positive. `complete` labels
are negative elsewhere, as in NUS-WIDE; `verified` labels are negative in 1 to 40 further classes and unknown elsewhere,
as in Open Images. Classes without a known label in the batch are dropped before every loss, as training, LESA and BiAM
do.

The dense form is the hinge as LESA and BiAM compute it: a mask and the violations of all (class, class) pairs of an
image, 5 float32 tensors of batch * classes^2 at their peak. Its classes are halved until that is within --memory-gib;
the losses are measured there too, so that ratios compare equal work. Only losses over pairs of classes have ratios.
`hinge` is the same function as the dense form, so both must give the same value.

A measurement is a forward and a backward pass in float32, in a new process, forked from one that has only imported
torch. Memory is the rise of the peak in the first call above scores and labels, the gradient included; time is the
median of the later calls. Each round measures everything once; the table has the medians over the rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from statistics import median

import torch
from c3.train.models.losses import MARGIN, across
from c3.train.models.objectives import IMAGE_LOSSES, LOGITS
from memory import peak, resident
from torch import Tensor

FORMS = ("complete", "verified")
MOST = 40  # positives per image, at most
TENSORS = 5  # mask, differences, masked differences, their positive part and its signs
DENSE = "dense hinge"


def dense_hinge(scores: Tensor, labels: Tensor) -> Tensor:
    """Return `losses.hinge` (batch,) computed on whole tensors (batch, negative, positive), as published."""
    positive, negative = (labels > 0).to(scores.dtype), (labels < 0).to(scores.dtype)
    pairs = positive.unsqueeze(1) * negative.unsqueeze(2)
    difference = MARGIN + scores.unsqueeze(2) - scores.unsqueeze(1)
    masked = difference * pairs
    violation = masked.clamp(min=0)
    violated = violation.sign().sum(dim=(1, 2))
    return violation.sum(dim=(1, 2)) / violated.clamp(min=1)


LOSSES = {DENSE: dense_hinge, **IMAGE_LOSSES, "across": across}
PAIRED = [name for name in IMAGE_LOSSES if name not in LOGITS]  # the losses over pairs of classes


@dataclass(frozen=True)
class Draw:
    """A seeded draw of labels of one form; equal draws give equal labels and scores."""

    form: str
    batch: int
    classes: int
    seed: int

    def labels(self) -> Tensor:
        """Return the labels (batch, classes known in the batch) int8."""
        source = torch.Generator().manual_seed(self.seed)
        labels = torch.full((self.batch, self.classes), -1 if self.form == "complete" else 0, dtype=torch.int8)
        for row in labels:
            order = torch.randperm(self.classes, generator=source)
            positives, negatives = torch.randint(1, min(MOST, self.classes // 2) + 1, (2,), generator=source).tolist()
            row[order[positives : positives + negatives]] = -1
            row[order[:positives]] = 1
        return labels[:, (labels != 0).any(dim=0)]

    def dense_gib(self) -> float:
        """Return the memory that the dense form needs, by its formula."""
        return TENSORS * self.labels().shape[1] ** 2 * self.batch * 4 / 2**30

    def within(self, gib: float) -> Draw:
        """Return this draw with its classes halved until the dense form fits."""
        return self if self.dense_gib() <= gib else replace(self, classes=self.classes // 2).within(gib)


@dataclass(frozen=True)
class Measured:
    """Seconds per call, MiB above the memory before the first call, mean of the loss."""

    seconds: float
    mib: float
    value: float


def scores_like(labels: Tensor) -> Tensor:
    """Return noise of the shape of labels, with a gradient."""
    return torch.randn(labels.shape, generator=torch.Generator().manual_seed(1)).requires_grad_()


def call(loss: str, scores: Tensor, labels: Tensor) -> float:
    """Run one forward and one backward pass; return the mean loss."""
    scores.grad = None
    value = LOSSES[loss](scores, labels).mean()
    value.backward()
    return value.item()


def measure(loss: str, draw: Draw, least: float, threads: int) -> Measured:
    """Measure a loss in this process, which has run nothing yet; time calls for at least `least` seconds."""
    torch.set_num_threads(threads)
    small = replace(draw, batch=2, classes=64).labels()
    call(loss, scores_like(small), small)  # loads code that must not count as memory of the loss
    labels = draw.labels()
    scores = scores_like(labels)
    scores.detach().relu()  # starts the threads, which must not count either
    before = resident()
    value = call(loss, scores, labels)
    mib = peak() - before
    seconds: list[float] = []
    while len(seconds) < 2 or sum(seconds) < least:
        began = time.perf_counter()
        call(loss, scores, labels)
        seconds.append(time.perf_counter() - began)
    return Measured(median(seconds), mib, value)


def middle(rounds: list[Measured]) -> Measured:
    """Return the median of each figure over rounds."""
    return Measured(*(median(getattr(one, field.name) for one in rounds) for field in fields(Measured)))


def table(found: dict[tuple[str, Draw], Measured]) -> Iterator[str]:
    """Yield a markdown line per measurement, with ratios where the dense form was measured on the same draw."""
    yield "| labels | classes | of them known | loss | ms | MiB | dense hinge: times slower | times more memory |"
    yield "|---|---:|---:|---|---:|---:|---:|---:|"
    for (loss, draw), ours in found.items():
        ratios, dense = ["", ""], found.get((DENSE, draw))
        if loss in PAIRED and dense:
            ratios = [ratio(dense.seconds, ours.seconds), ratio(dense.mib, ours.mib)]
        cells = [draw.form, f"{draw.classes:,}", f"{draw.labels().shape[1]:,}", loss]
        yield f"| {' | '.join([*cells, f'{1e3 * ours.seconds:.2f}', f'{ours.mib:,.2f}', *ratios])} |"


def ratio(dense: float, ours: float) -> str:
    """Write how many times the dense figure is ours; a dash where ours is 0."""
    return f"{dense / ours:,.1f}" if ours > 0 else "-"


def main() -> None:
    """Measure every loss on both forms of labels; print a markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--classes", type=int, default=7186)
    parser.add_argument("--memory-gib", type=float, default=6.0, help="limit for the dense form")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3, help="timed calls per measurement; at least two")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="few classes and one round, to check that everything runs")
    given = parser.parse_args()
    if given.quick:
        given.batch, given.classes, given.memory_gib, given.rounds, given.seconds = 4, 256, 0.002, 1, 0.0
    whole = {form: Draw(form, given.batch, given.classes, given.seed) for form in FORMS}
    fitting = {form: draw.within(given.memory_gib) for form, draw in whole.items()}
    jobs: dict[tuple[str, Draw], list[Measured]] = {}
    for form in FORMS:
        jobs |= {(loss, fitting[form]): [] for loss in LOSSES}
        jobs |= {(loss, whole[form]): [] for loss in LOSSES if loss != DENSE and whole[form] != fitting[form]}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["c3.train.models.objectives"])
    load = os.getloadavg()[0]
    for _ in range(given.rounds):
        for job, rounds in jobs.items():
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                rounds.append(pool.submit(measure, *job, given.seconds, given.threads).result())
    found = {job: middle(rounds) for job, rounds in jobs.items()}
    print(f"batch {given.batch}, seed {given.seed}, {given.rounds} rounds, {given.threads} threads of {os.cpu_count()} "
          f"{platform.machine()} cores; python {platform.python_version()}, torch {torch.__version__}; load {load:.1f} "
          f"before, {os.getloadavg()[0]:.1f} after\n")  # fmt: skip
    print("\n".join(table(found)))
    print("\nThe table is measured. By the formula, 5 * batch * known^2 * 4 bytes, the dense form needs:")
    for form, draw in fitting.items():
        dense, hinge = found[DENSE, draw], found["hinge", draw]
        if abs(dense.value - hinge.value) > 1e-4 * dense.value:
            raise SystemExit(f"hinge is {hinge.value} and its dense form {dense.value} on {draw}")
        print(f"- {form}, {draw.classes:,} classes: {draw.dense_gib():.3f} GiB; measured {dense.mib / 1024:.3f}")
        if whole[form] != draw:
            print(f"- {form}, {given.classes:,} classes: {whole[form].dense_gib():.3f} GiB; not measured")


if __name__ == "__main__":
    main()
