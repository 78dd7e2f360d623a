"""Compute the arrays behind figures 3 and 6: what the encoder separates, and where a label comes from.

The model of a run is evaluated here on its store, and torch is loaded only then. figures.py and page.py draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...common.errors import C3Error
from ...extract.backbone.pictures.crops import load_crop
from ...extract.backbone.pictures.decode_options import DecodeOptions
from ...extract.store.cache import Status
from ...extract.store.tables import image_files
from ...train.names import LABEL_MAPS
from ...train.run_folder import Run
from ..truth import Truth
from .opened import Opened, opened

if TYPE_CHECKING:
    from ...train.scorer import Scorer

SHOWN_CLASSES = 8  # of figure 3: as many as the palette tells apart
LEAST_POINTS = 30  # of figure 3: t-SNE lays fewer out as it likes
SHOWN_IMAGES = 1500  # of figure 3: t-SNE takes seconds for these, and more points hide each other
TOO_COMMON = 0.25  # share of the images; a class on more of them does not separate them


@dataclass(frozen=True)
class Embedding:
    """Images in the plane, by stage: points[stage] is (n, 2), classes (n,) indexes `names`.

    silhouette[stage] is the mean silhouette of the classes before the projection, by cosine distance, in -1..1.
    """

    names: tuple[str, ...]
    classes: np.ndarray
    points: dict[str, np.ndarray]
    silhouette: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """One predicted label of an image: its score, and whether it is true.

    `rank` is its place among all classes by score. `response` is its map of one of `LABEL_MAPS`, (7, 7) or (14, 14);
    None for a method without such a map.
    """

    name: str
    seen: bool
    score: float
    correct: bool
    rank: int
    response: np.ndarray | None


@dataclass(frozen=True)
class Example:
    """One image with its true labels and its best unseen and seen labels.

    `pixels` (224, 224, 3) uint8 is the image as the backbone saw it, or None if it cannot be read.
    """

    image_id: str
    pixels: np.ndarray | None
    true_seen: tuple[str, ...]
    true_unseen: tuple[str, ...]
    unseen: tuple[Prediction, ...]
    seen: tuple[Prediction, ...]


@dataclass(frozen=True)
class View:
    """One true label of an image under one method: its rank among all classes, and its map, or None."""

    method: str
    rank: int
    response: np.ndarray | None


@dataclass(frozen=True)
class Comparison:
    """One image, one true label of it, and the views of several methods. `classes` is how many are ranked."""

    image_id: str
    pixels: np.ndarray | None
    label: str
    seen: bool
    classes: int
    views: tuple[View, ...]


def embedding(run: Run, device: str = "auto", split: str = "test") -> Embedding:
    """Project images with exactly one of eight classes by t-SNE, before and after the encoder (figure 3).

    The classes are the most frequent ones on at most a quarter of the images. Raises C3Error for a method without an
    encoder, and when fewer than two classes or `LEAST_POINTS` images remain.
    """
    found = opened(run, device, split)
    store, scorer, truth = found.store, found.scorer, found.truth
    chosen, classes = _exclusive(truth)
    if len(chosen) < LEAST_POINTS or len(set(classes.tolist())) < 2:
        raise C3Error(
            f"{store.location}: it needs {LEAST_POINTS} images of {split} with exactly one of the frequent classes, "
            f"found {len(chosen)}"
        )
    parts: dict[str, list[np.ndarray]] = {}
    for maps in found.arrays(found.rows()[chosen]):
        for name, values in scorer.stages(maps).items():
            parts.setdefault(name, []).append(values)
    if not parts:
        raise C3Error(f"run {run.id}: method {run.method} has no encoder to show; train a run of method c3")
    from sklearn.manifold import TSNE
    from sklearn.metrics import silhouette_score

    points, silhouette = {}, {}
    for name, blocks in parts.items():
        vectors = np.concatenate(blocks)
        projection = TSNE(perplexity=min(30, (len(vectors) - 1) / 3), init="pca", metric="cosine", random_state=0)
        silhouette[name] = float(silhouette_score(vectors, classes, metric="cosine"))
        points[name] = projection.fit_transform(vectors)
    kept = sorted(set(classes.tolist()))
    names = tuple(truth.names[index] for index in kept)
    return Embedding(names, np.searchsorted(kept, classes), points, silhouette)


def examples(
    run: Run,
    count: int,
    device: str = "auto",
    images: Path | None = None,
    split: str = "test",
    seed: int = 0,
    maps: str = LABEL_MAPS[0],
) -> tuple[Example, ...]:
    """Draw random images with true labels of both kinds, and predict their labels with their maps (figure 6).

    `images` is the folder of the photographs, by default the one that the store names. An image that cannot be read has
    no pixels. Every image gets its three best unseen and its four best seen labels.
    """
    place = opened(run, device, split)
    scorer, truth = place.scorer, place.truth
    drawn = _drawn(truth, count, seed)
    found = []
    for image, row in zip(drawn.tolist(), place.rows()[drawn].tolist(), strict=True):
        (arrays,) = place.arrays(np.array([row]))
        positive = truth.is_positive(image, image + 1)[0]
        scores = scorer(arrays)[0]
        found.append(
            Example(
                image_id=str(truth.ids[image]),
                pixels=_photograph(place, row, images),
                true_seen=tuple(truth.names[c] for c in np.flatnonzero(positive & truth.seen)),
                true_unseen=tuple(truth.names[c] for c in np.flatnonzero(positive & ~truth.seen)),
                unseen=_predictions(scorer, arrays, truth, scores, positive, False, 3, kind=maps),
                seen=_predictions(scorer, arrays, truth, scores, positive, True, 4, kind=maps),
            )
        )
    return tuple(found)


def comparisons(
    runs: Sequence[Run],
    count: int,
    device: str = "auto",
    images: Path | None = None,
    split: str = "test",
    seed: int = 0,
    maps: str = LABEL_MAPS[0],
) -> tuple[Comparison, ...]:
    """Show where several runs see the same true label of the same images (figure 6b), those that `examples` draws.

    The label is the first unseen one that the image has, or else the first seen one. The runs share a store and score
    all classes. A run without maps of the kind has a rank and no map.
    """
    places = [opened(run, device, split) for run in runs]
    truth = places[0].truth
    drawn = _drawn(truth, count, seed)
    found = []
    for image, row in zip(drawn.tolist(), places[0].rows()[drawn].tolist(), strict=True):
        positive = truth.is_positive(image, image + 1)[0]
        true = np.flatnonzero(positive & ~truth.seen) if (positive & ~truth.seen).any() else np.flatnonzero(positive)
        label, views = int(true[0]), []
        for place in places:
            (arrays,) = place.arrays(np.array([row]))
            scores, shown = place.scorer(arrays)[0], place.scorer.label_maps(maps, arrays, [label])
            rank = 1 + int((scores > scores[label]).sum())
            views.append(View(place.run.method, rank, None if shown is None else shown[0, 0]))
        pixels = _photograph(places[0], row, images)
        found.append(Comparison(str(truth.ids[image]), pixels, truth.names[label], bool(truth.seen[label]),
                                truth.classes, tuple(views)))  # fmt: skip
    return tuple(found)


def _drawn(truth: Truth, count: int, seed: int) -> np.ndarray:
    """Return random images, ascending: of those with true labels of both kinds where there are any."""
    has = [truth.positives_of_images(part) > 0 for part in (truth.seen, ~truth.seen)]
    pool = np.flatnonzero(has[0] & has[1] if (has[0] & has[1]).any() else has[0] | has[1])
    return np.sort(np.random.default_rng(seed).permutation(pool)[:count])


def _predictions(
    scorer: Scorer,
    arrays: dict[str, np.ndarray],
    truth: Truth,
    scores: np.ndarray,
    positive: np.ndarray,
    seen: bool,
    k: int,
    kind: str,
) -> tuple[Prediction, ...]:
    classes = np.flatnonzero(truth.seen == seen)
    classes = classes[np.argsort(-scores[classes], kind="stable")[:k]]
    if not len(classes):
        return ()
    found = scorer.label_maps(kind, arrays, classes.tolist())
    responses = [None] * len(classes) if found is None else found[0]
    ranks = [1 + int((scores > scores[c]).sum()) for c in classes]
    return tuple(
        Prediction(truth.names[c], seen, float(scores[c]), bool(positive[c]), rank, response)
        for c, rank, response in zip(classes.tolist(), ranks, responses, strict=True)
    )


def _exclusive(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Return the images with exactly one of the shown classes, and that class of each."""
    positives = truth.positives(np.ones(len(truth), bool))
    frequent = np.argsort(-positives, kind="stable")
    frequent = frequent[(positives[frequent] > 1) & (positives[frequent] <= TOO_COMMON * len(truth))]
    shown = np.zeros(truth.classes, bool)
    shown[frequent[:SHOWN_CLASSES]] = True
    images = np.flatnonzero(truth.positives_of_images(shown) == 1)[:SHOWN_IMAGES]
    listed = (truth.labels.value > 0) & shown[truth.labels.indices]
    class_of = np.zeros(len(truth), np.int64)
    class_of[truth.image[listed]] = truth.labels.indices[listed]
    return images, class_of[images]


def _photograph(place: Opened, row: int, root: Path | None) -> np.ndarray | None:
    """Return the crop of a row as the backbone saw it, or None; `root` is where the photographs are now.

    A store of version 2 has no paths: there the id is tried, as the path below the root and with `.jpg` added.
    """
    store, split = place.store, place.split
    decoding = DecodeOptions(store.origin.truncated, store.origin.max_megapixels)
    path, image_id = str(store.image_paths(split)[row]), str(store.image_ids(split)[row])
    for file in image_files(root or store.provenance.image_root or "", path, image_id):
        found = load_crop(file, store.crops(split)[row], options=decoding, fit=store.origin.fit)
        if found.status is not Status.MISSING:
            return found.pixels
    return None
