"""Compute figure 1: how strongly every channel responds on the images of a class. One pass over the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from ...common.errors import C3Error, unknown_name
from ...train.run_folder import Run
from ..truth import Truth
from .opened import Opened, opened

SHOWN = 4  # classes that are chosen where none are given
FREQUENT = 20  # of either kind, among which they are chosen
LEAST_IMAGES = 10  # the mean of fewer is that of the pictures, not of the class
MOST_IMAGES = 0.25  # share of the images; the profile of a class on more of them is that of all images
MOST_SHARED = 0.5  # of the images of the near classes; classes on the same images have the same profile
FEWEST_PAIRS = 100  # of classes, whose correlation says something
X = "X"


@dataclass(frozen=True)
class Agreement:
    """Whether classes with near word vectors respond in the same channels: the premise of the paper.

    correlation[column] is Spearman's rank correlation, over `pairs` pairs among `classes` classes, of the cosine of two
    word vectors with the correlation of the two profiles. No two classes of a pair are on one image, which would make
    their profiles alike whatever the words.
    """

    classes: int
    pairs: int
    correlation: dict[str, float]


@dataclass(frozen=True)
class Profiles:
    """The mean response of every channel over the images of a class, by part: the pooled levels of a store, and X.

    names (classes,), seen (classes,) bool, images (classes,) how many images each has, mean[part] (classes, channels)
    float64 in the units of the part, spread[part] the same less the mean of all images, in standard deviations between
    images (0 for a channel that is the same everywhere), words (classes, classes) the cosines of the word vectors.
    The response of a channel on an image is its maximum over the positions; X is after the encoder, group by group.
    agreement is about all classes with enough images, not only those shown.
    """

    names: tuple[str, ...]
    seen: np.ndarray
    images: np.ndarray
    mean: dict[str, np.ndarray]
    spread: dict[str, np.ndarray]
    words: np.ndarray
    agreement: Agreement | None

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """Return what is compared: the spread of all levels side by side, and of X where the method has one."""
        return _columns(self.spread)

    def pairs(self) -> list[tuple[str, str, float, dict[str, float]]]:
        """Return for every two classes the cosine of their word vectors and the correlation of their profiles."""
        found = {name: np.corrcoef(values) for name, values in self.columns.items()}
        return [
            (self.names[a], self.names[b], float(self.words[a, b]), {name: float(r[a, b]) for name, r in found.items()})
            for a, b in combinations(range(len(self.names)), 2)
        ]

    def tables(self) -> dict[str, tuple[list[str], list[list[object]]]]:
        """Return the numbers as csv files: of every channel and class, and of every two classes."""
        channels: list[list[object]] = [
            [part, channel, name, "seen" if seen else "unseen", images, f"{mean:.6g}", f"{spread:.6g}"]
            for part in self.mean
            for name, seen, images, means, spreads in zip(
                self.names, self.seen, self.images, self.mean[part], self.spread[part], strict=True
            )
            for channel, (mean, spread) in enumerate(zip(means, spreads, strict=True))
        ]
        pairs: list[list[object]] = [
            [first, second, f"{cosine:.6g}", *(f"{r:.6g}" for r in found.values())]
            for first, second, cosine, found in self.pairs()
        ]
        return {
            "": (["part", "channel", "class", "kind", "images", "mean", "spread"], channels),
            "-pairs": (["class", "other", "word vectors", *self.columns], pairs),
        }


def profiles(run: Run, classes: Sequence[str] = (), device: str = "auto", split: str = "test") -> Profiles:
    """Return the profiles of classes, by default of two with near word vectors and two far from them.

    X is there for a method with an encoder. Raises C3Error for an unknown class, one without images, and where no two
    classes have enough images to choose.
    """
    found = opened(run, device, split)
    truth = found.truth
    chosen = _named(truth, classes) if classes else _chosen(found)
    usable = np.flatnonzero(_usable(truth))
    measured = np.union1d(chosen, usable)
    member = np.zeros((len(truth), len(measured)))
    for place, index in enumerate(measured):
        of_class = truth.of_class(int(index))
        member[of_class.image[of_class.positive], place] = 1
    mean, spread = _averages(found, member)
    unit = _unit(found.store.classes.vectors[measured])
    shown, agreeing = np.searchsorted(measured, chosen), np.searchsorted(measured, usable)
    return Profiles(
        names=tuple(truth.names[index] for index in chosen),
        seen=truth.seen[chosen],
        images=member[:, shown].sum(axis=0).astype(int),
        mean=_rows(mean, shown),
        spread=_rows(spread, shown),
        words=unit[shown] @ unit[shown].T,
        agreement=_agreement(unit[agreeing], member[:, agreeing], _columns(_rows(spread, agreeing))),
    )


def _rows(parts: dict[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {name: values[rows] for name, values in parts.items()}


def _columns(spread: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    shown = {"pooled levels": np.concatenate([values for part, values in spread.items() if part != X], axis=1)}
    return shown | ({X: spread[X]} if X in spread else {})


def _agreement(unit: np.ndarray, member: np.ndarray, columns: dict[str, np.ndarray]) -> Agreement | None:
    """Return the agreement of classes of unit (classes, d_w), member (images, classes) and columns (classes, channels).

    None for fewer than FEWEST_PAIRS pairs.
    """
    apart = np.triu(member.T @ member == 0, 1)
    if (pairs := int(apart.sum())) < FEWEST_PAIRS:
        return None
    words = pd.Series((unit @ unit.T)[apart]).rank()
    found = {name: float(words.corr(pd.Series(np.corrcoef(values)[apart]).rank())) for name, values in columns.items()}
    return Agreement(len(unit), pairs, found)


def _averages(found: Opened, member: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return mean and spread of `Profiles` for the classes of member (images, classes) of 0 and 1."""
    total: dict[str, np.ndarray] = {}
    squares: dict[str, np.ndarray] = {}
    of_class: dict[str, np.ndarray] = {}
    levels = [level.name for level in found.store.levels]
    done = 0
    for arrays in found.arrays(found.rows(), tuple(dict.fromkeys((*levels, *found.scorer.arrays)))):
        parts = {name: np.asarray(arrays[name], np.float64).max(axis=(2, 3)) for name in levels}
        stages = found.scorer.stages({name: arrays[name] for name in found.scorer.arrays})
        if stages:
            parts[X] = list(stages.values())[-1].astype(np.float64)
        own = member[done : done + len(parts[levels[0]])]
        for name, values in parts.items():
            total[name] = total.get(name, 0) + values.sum(axis=0)
            squares[name] = squares.get(name, 0) + (values**2).sum(axis=0)
            of_class[name] = of_class.get(name, 0) + own.T @ values
        done += len(own)
    count = member.sum(axis=0)[:, None]
    mean = {name: sums / count for name, sums in of_class.items()}
    spread = {}
    for name, sums in total.items():
        average = sums / done
        variance = np.clip(squares[name] / done - average**2, 0, None)
        varies = variance > 1e-12 * squares[name] / done
        deviation = np.sqrt(np.where(varies, variance, 1))
        spread[name] = np.where(varies, (mean[name] - average) / deviation, 0.0)
    return mean, spread


def _named(truth: Truth, classes: Sequence[str]) -> list[int]:
    """Return the indices of classes by name."""
    positives = truth.positives(np.ones(len(truth), bool))
    for name in classes:
        if name not in truth.names:
            raise unknown_name("class", name, truth.names)
        if not positives[truth.names.index(name)]:
            raise C3Error(f"class {name!r} has no image in the split; choose others with --classes")
    if len(set(classes)) < 2:
        raise C3Error(f"--classes: expected two different classes at least, found {', '.join(classes)}")
    return [truth.names.index(name) for name in dict.fromkeys(classes)]


def _chosen(found: Opened) -> list[int]:
    """Return frequent classes: an unseen and a seen one with the nearest word vectors, then those farthest from all.

    The two are not on the same images where that can be; without unseen (or seen) ones the pair is any two.
    """
    truth = found.truth
    positives, usable = truth.positives(np.ones(len(truth), bool)), _usable(truth)
    frequent = [c for c in np.argsort(-positives, kind="stable").tolist() if usable[c]]
    kinds = [[c for c in frequent if truth.seen[c] == seen][:FREQUENT] for seen in (False, True)]
    pool = kinds[0] + kinds[1]
    if len(pool) < 2:
        raise C3Error(
            f"{found.store.location}: no two classes have {LEAST_IMAGES} images of {found.split} and at most a "
            "quarter of them; choose classes with --classes"
        )
    unit = _unit(found.store.classes.vectors)
    pairs = [(a, b) for a in kinds[0] for b in kinds[1]] or list(combinations(pool, 2))
    pairs = [pair for pair in pairs if _shared(truth, *pair) <= MOST_SHARED] or pairs
    near = max(pairs, key=lambda pair: float(unit[pair[0]] @ unit[pair[1]]))
    chosen = list(near)
    while len(chosen) < min(SHOWN, len(pool)):
        others = [c for c in pool if c not in chosen]
        chosen.append(min(others, key=lambda c: float((unit[chosen] @ unit[c]).max())))
    return chosen


def _usable(truth: Truth) -> np.ndarray:
    """Return for every class whether its profile means something, (classes,) bool."""
    positives = truth.positives(np.ones(len(truth), bool))
    return np.asarray((positives >= LEAST_IMAGES) & (positives <= MOST_IMAGES * len(truth)))


def _shared(truth: Truth, first: int, second: int) -> float:
    """Return the share of the images of the rarer class that have the other one too."""
    one, other = (found.image[found.positive] for found in (truth.of_class(first), truth.of_class(second)))
    return len(np.intersect1d(one, other, assume_unique=True)) / min(len(one), len(other))


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12), np.float64)
