"""Compare evaluation with the usual ways at the size of Open Images and NUS-WIDE.

    python benchmarks/evaluation.py

Scores and labels are seeded noise of the published sizes. Every line runs in its own process, so that its peak memory
is its own. The time to draw the scores is subtracted. The usual ways run on as many rows as fit into memory, and speed
is compared in rows per second. `c3` measures ZSL, GZSL and seen classes (AP and F1@K); the others measure AP of every
class and F1@K of GZSL only. The torchmetrics lines need `pip install torchmetrics`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from c3.evaluate.bootstrap import Resampling, bootstrap
from c3.evaluate.evidence import collect
from c3.evaluate.measure import measure
from c3.evaluate.protocol import NUSWIDE, OPENIMAGES_BIAM, OPENIMAGES_LESA, Protocol, pools_of
from c3.evaluate.truth import Truth
from c3.extract.store.tables import SparseLabels

BLOCK = 256


@dataclass(frozen=True)
class Size:
    """The size of a data set: labels listed per image, and the share of them that is positive."""

    images: int
    seen: int
    unseen: int
    listed: float
    positive: float
    protocols: tuple[Protocol, ...]

    @property
    def classes(self) -> int:
        return self.seen + self.unseen


# Open Images V4 test: about 2.8 million labelled pairs, two thirds positive. NUS-WIDE: tags and concepts per image.
SIZES = {
    "openimages": Size(125_436, 7186, 400, 22.3, 0.66, (OPENIMAGES_LESA, OPENIMAGES_BIAM)),
    "nuswide": Size(107_859, 925, 81, 7.5, 1.0, (NUSWIDE,)),
}


def truth_of(size: Size, images: int) -> Truth:
    """Draw labels whose classes have a skewed frequency, as tags have."""
    rng = np.random.default_rng(0)
    counts = rng.poisson(size.listed, images)
    drawn = rng.permutation(size.classes)[(size.classes * rng.random(counts.sum()) ** 3).astype(np.int64)]
    image = np.repeat(np.arange(images), counts)
    keys = np.unique(image * size.classes + drawn)  # a label is listed once
    image, classes = np.divmod(keys, size.classes)
    value = np.where(rng.random(len(keys)) < size.positive, 1, -1).astype(np.int8)
    indptr = np.searchsorted(image, np.arange(images + 1)).astype(np.int64)
    seen = np.arange(size.classes) < size.seen
    absent = -1 if size.positive == 1.0 else 0
    names, ids = tuple(map(str, range(size.classes))), np.arange(images).astype(str)
    labels = SparseLabels(indptr, classes.astype(np.int32), value)
    return Truth(ids, labels, absent, names, seen, np.zeros(size.classes, bool), np.arange(images))


class Scores:
    """Blocks of seeded float32 scores, and the seconds that drawing them took."""

    def __init__(self, images: int, classes: int) -> None:
        self.images, self.classes, self.seconds = images, classes, 0.0

    def blocks(self) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(2)
        for start in range(0, self.images, BLOCK):
            began = time.perf_counter()
            block = rng.standard_normal((min(BLOCK, self.images - start), self.classes), np.float32)
            self.seconds += time.perf_counter() - began
            yield block

    def dense(self) -> np.ndarray:
        whole = np.empty((self.images, self.classes), np.float32)
        for number, block in enumerate(self.blocks()):
            whole[number * BLOCK : number * BLOCK + len(block)] = block
        return whole


def c3_streaming(size: Size, truth: Truth, scores: Scores, resamples: int = 0) -> float:
    """Return the GZSL mAP by the first protocol, in percent, as c3 measures it from a stream of scores."""
    every = any(protocol.absent(truth) == -1 for protocol in size.protocols)
    deepest = max(k for protocol in size.protocols for k in protocol.ks)
    evidence = collect(truth, scores.blocks(), pools_of(size.protocols, truth), deepest, every)
    found = [measure(evidence, protocol) for protocol in size.protocols]
    for protocol in size.protocols[:resamples]:
        bootstrap(evidence, protocol, Resampling(resamples))
    return found[0].tasks["gzsl"]["mAP"]


def c3_with_intervals(size: Size, truth: Truth, scores: Scores) -> float:
    """Return the same, with the intervals of 1,000 resamples computed as well."""
    return c3_streaming(size, truth, scores, resamples=1000)


def sklearn_loop(size: Size, truth: Truth, scores: Scores) -> float:
    """Return the mean of average precision, in percent, class by class with scikit-learn."""
    from sklearn.metrics import average_precision_score

    values, labels = scores.dense(), truth.labels.dense(truth.classes, truth.absent)
    ap = np.zeros(truth.classes)
    for index in range(truth.classes):
        known = labels[:, index] != 0
        if (labels[known, index] == 1).any():
            ap[index] = average_precision_score(labels[known, index] == 1, values[known, index])
    best = np.argsort(-values, axis=1)[:, : size.protocols[0].ks[-1]]
    assert np.take_along_axis(labels, best, axis=1).any()
    return 100 * ap.mean()


def dense_cumsum(size: Size, truth: Truth, scores: Scores) -> float:
    """Sort every column at once, as the cumsum scripts do."""
    values, labels = scores.dense(), truth.labels.dense(truth.classes, truth.absent)
    order = np.argsort(-values, axis=0)
    ranked = np.take_along_axis(labels, order, axis=0)
    hits, known = np.cumsum(ranked == 1, axis=0), np.cumsum(ranked != 0, axis=0)
    precision = np.where(ranked == 1, hits / np.maximum(known, 1), 0.0).sum(axis=0)
    best = np.argsort(-values, axis=1)[:, : size.protocols[0].ks[-1]]
    assert np.take_along_axis(labels, best, axis=1).any()
    return 100 * float((precision / np.maximum(hits[-1], 1)).mean())


def torchmetrics_macro(size: Size, truth: Truth, scores: Scores) -> float:
    """Return the macro average precision of torchmetrics, in percent."""
    import torch
    from torchmetrics.functional.classification import multilabel_average_precision

    values = torch.from_numpy(scores.dense())
    labels = torch.from_numpy(truth.labels.dense(truth.classes, truth.absent)).long()
    # torchmetrics knows 0 and 1 and one value to ignore
    target = torch.where(labels == 1, 1, torch.where(labels == 0, -100, 0))
    found = multilabel_average_precision(values, target, truth.classes, average=None, ignore_index=-100)
    assert values.topk(size.protocols[0].ks[-1]).indices.any()
    return 100 * float(found.nan_to_num().mean())


WAYS: dict[str, Callable[[Size, Truth, Scores], float]] = {
    "c3": c3_streaming,
    "c3, 1,000 resamples": c3_with_intervals,
    "sklearn loop": sklearn_loop,
    "dense cumsum": dense_cumsum,
    "torchmetrics": torchmetrics_macro,
}


def run_one(dataset: str, way: str, images: int) -> dict[str, Any]:
    """Measure one way in this process: mAP, seconds, peak memory in GiB and labelled pairs."""
    size = SIZES[dataset]
    truth, scores = truth_of(size, images), Scores(images, size.classes)
    began = time.perf_counter()
    value = WAYS[way](size, truth, scores)
    seconds = time.perf_counter() - began - scores.seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"mAP": value, "seconds": seconds, "peak": peak, "pairs": len(truth.labels.value)}


def main() -> None:
    """Measure every way in processes of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", choices=SIZES, action="append")
    parser.add_argument("--way", choices=WAYS, action="append")
    parser.add_argument("--rows", type=int, default=0, help="rows for the usual ways; 0: as many as fit")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        dataset, way, images = arguments.one
        print(json.dumps(run_one(dataset, way, int(images))))
        return
    fits = {"openimages": 20_000, "nuswide": 107_859}
    for dataset in arguments.dataset or SIZES:
        size, ours = SIZES[dataset], 0.0
        print(f"\n{dataset}: {size.images:,} x {size.classes:,}\n")
        print("| way | rows | seconds | rows/s | c3 is faster by | peak GiB | GZSL mAP |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for way in arguments.way or WAYS:
            images = size.images if way.startswith("c3") else arguments.rows or fits[dataset]
            command = [sys.executable, __file__, "--one", dataset, way, str(images)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = (done.stderr.strip() or "killed").splitlines()[-1]
                print(f"| {way} | {images:,} | failed: {reason} |")
                continue
            found = json.loads(done.stdout)
            rate = images / found["seconds"]
            ours = ours or rate
            cells = [way, f"{images:,}", f"{found['seconds']:.1f}", f"{rate:,.0f}", f"{ours / rate:.1f}"]
            print(f"| {' | '.join(cells)} | {found['peak']:.2f} | {found['mAP']:.4f} |", flush=True)


if __name__ == "__main__":
    main()
