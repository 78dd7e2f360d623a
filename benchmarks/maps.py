"""Compare the shares of the positions in a score with what happens when a position is hidden.

    python benchmarks/maps.py RUN RUN ... --images 50

For every run: drawn test images of its store (the same for all runs on it), and the true labels of each that the run
knows. Two maps of 7x7 places for each label: `shares`, and `occlusion`, the fall of the score when the place is
replaced by the mean over the image. Their agreement is Pearson's r over the 49 places. The table has its mean over
labels with a 95 % bootstrap interval over images, its 10 %, 50 % and 90 % quantile, and the share of labels whose
strongest place is the same in both. A constant map, of a label that nothing changes, is left out and counted.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from c3.common.errors import C3Error
from c3.evaluate.report.opened import Opened, opened
from c3.extract.store.layout import GRID
from c3.train.run_folder import open_run

RESAMPLES = 1000


@dataclass(frozen=True)
class Agreement:
    """Of every label of a run: its image, Pearson's r of both maps, whether they have the same strongest place."""

    image: np.ndarray
    r: np.ndarray
    same: np.ndarray
    constant: int

    def line(self, name: str) -> str:
        """Return a row of the table."""
        images = np.unique(self.image)
        sums, counts = (np.bincount(self.image, weights)[images] for weights in (self.r, None))
        drawn = np.random.default_rng(0).integers(0, len(images), (RESAMPLES, len(images)))
        low, high = np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])
        quantiles = " | ".join(f"{value:.2f}" for value in np.quantile(self.r, [0.1, 0.5, 0.9]))
        return (
            f"| {name} | {len(self.r)} | {self.r.mean():.2f} [{low:.2f}, {high:.2f}] | {quantiles} | "
            f"{100 * self.same.mean():.0f} % | {self.constant} |"
        )


def agreement(place: Opened, count: int) -> Agreement:
    """Measure a run on `count` images, drawn with seed 0. Raises C3Error for a method without shares."""
    truth, rows = place.truth, place.rows()
    images = np.sort(np.random.default_rng(0).permutation(len(truth))[:count])
    found: list[tuple[int, float, bool]] = []
    constant = 0
    for image in images.tolist():
        listed = slice(truth.labels.indptr[image], truth.labels.indptr[image + 1])
        classes = truth.labels.indices[listed][truth.labels.value[listed] > 0].tolist()
        if not classes:
            continue
        (arrays,) = place.arrays(rows[image : image + 1])
        hidden, shares = (place.scorer.label_maps(kind, arrays, classes) for kind in ("occlusion", "shares"))
        if hidden is None or shares is None:
            raise C3Error(f"method {place.run.method} of {place.run.path} has no shares of positions")
        block = shares.shape[-1] // GRID
        shares = shares.reshape(len(classes), GRID, block, GRID, block).sum(axis=(2, 4))
        for one, other in zip(hidden[0].reshape(-1, GRID**2), shares.reshape(-1, GRID**2), strict=True):
            if not one.std() or not other.std():
                constant += 1
                continue
            found.append((image, float(np.corrcoef(one, other)[0, 1]), one.argmax() == other.argmax()))
    return Agreement(*map(np.array, zip(*found, strict=True)), constant)


def main() -> None:
    """Compare shares with hiding a place for every run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args()
    print(
        "| run | labels | r | 10 % | 50 % | 90 % | same strongest place | constant |\n|---|---|---|---|---|---|---|---|"
    )
    for path in asked.runs:
        run = open_run(path)
        print(agreement(opened(run, asked.device, "test"), asked.images).line(run.id), flush=True)


if __name__ == "__main__":
    main()
