"""A run and its store -> the arrays behind figures 3 and 6: what the encoder separates, and where a label comes from.

The model runs here (torch is loaded when it is needed); drawing is left to figures.py and page.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import C3Error
from ...extract.backbone.crops import load_crop
from ...extract.store.cache import FeatureCache, Status
from ...train.run_folder import Run
from ..score import open_store, truth_for
from ..truth import Truth

SHOWN_CLASSES = 8  # of figure 3: as many as the palette tells apart
SHOWN_IMAGES = 1500  # of figure 3: t-SNE takes seconds for these, and more points hide each other
TOO_COMMON = 0.25  # a class on more of the images than this is not one that separates them
PIXELS = 224


@dataclass(frozen=True)
class Embedding:
    """Images in the plane, by stage: points[stage] is (n, 2), classes (n,) indexes `names`.

    silhouette[stage] is the mean silhouette of the classes before the projection, cosine distance, in -1..1.
    """

    names: tuple[str, ...]
    classes: np.ndarray
    points: dict[str, np.ndarray]
    silhouette: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """One predicted label of an image: its score, whether it is true, and its (7, 7) shares of the score, or None."""

    name: str
    seen: bool
    score: float
    correct: bool
    response: np.ndarray | None


@dataclass(frozen=True)
class Example:
    """One image: pixels (224, 224, 3) uint8 as the backbone saw it, or None; true labels; best unseen and seen ones."""

    image_id: str
    pixels: np.ndarray | None
    true_seen: tuple[str, ...]
    true_unseen: tuple[str, ...]
    unseen: tuple[Prediction, ...]
    seen: tuple[Prediction, ...]


def embedding(run: Run, device: str = "auto", split: str = "test") -> Embedding:
    """Figure 3: images that have exactly one of eight classes, by t-SNE before and after the encoder.

    The classes are the most frequent ones that are on at most a quarter of the images. Raises C3Error for a method
    without an encoder, and where fewer than two classes or ten images are left.
    """
    store, scorer, truth = _opened(run, device, split)
    chosen, classes = _exclusive(truth)
    if len(chosen) < 10 or len(set(classes.tolist())) < 2:
        raise C3Error(
            f"{store.location}: figure 3 needs ten images of {split} with one of its classes, found {len(chosen)}"
        )
    parts: dict[str, list[np.ndarray]] = {}
    rows = _rows(store, split, truth)[chosen]
    for maps in _maps(store, split, rows, scorer.arrays):
        for name, values in scorer.stages(maps).items():
            parts.setdefault(name, []).append(values)
    if not parts:
        raise C3Error(f"run {run.id}: method {run.method} has no encoder to show; figure 3 needs a run of method c3")
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
    run: Run, count: int, device: str = "auto", images: Path | None = None, split: str = "test", seed: int = 0
) -> tuple[Example, ...]:
    """Figure 6: images drawn at random among those with a true label of either kind, with what is predicted and where.

    `images` is where the photographs are now; the store knows where they were. An image that cannot be read has no
    pixels. Three unseen and four seen labels are predicted for every image, each among its own kind.
    """
    store, scorer, truth = _opened(run, device, split)
    root = images or Path(store.provenance.image_root or "")
    has = [truth.positives_of_images(part) > 0 for part in (truth.seen, ~truth.seen)]
    kind = has[0] & has[1] if (has[0] & has[1]).any() else has[0] | has[1]
    pool = np.flatnonzero(kind)
    drawn = np.sort(np.random.default_rng(seed).permutation(pool)[:count])
    rows, crops = _rows(store, split, truth)[drawn], store.crops(split)
    found = []
    for image, row in zip(drawn.tolist(), rows.tolist(), strict=True):
        (maps,) = _maps(store, split, np.array([row]), scorer.arrays)
        positive = truth.is_positive(image, image + 1)[0]
        pixels = _photograph(root, str(truth.ids[image]), crops[row])
        scores = scorer(maps)[0]
        best = [_predictions(scorer, maps, truth, scores, positive, part, k) for part, k in ((False, 3), (True, 4))]
        names = [
            tuple(truth.names[c] for c in np.flatnonzero(positive & (truth.seen == part))) for part in (True, False)
        ]
        found.append(Example(str(truth.ids[image]), pixels, *names, *best))
    return tuple(found)


def _predictions(
    scorer: Any, maps: dict[str, np.ndarray], truth: Truth, scores: np.ndarray, positive: np.ndarray, seen: bool, k: int
) -> tuple[Prediction, ...]:
    classes = np.flatnonzero(truth.seen == seen)
    classes = classes[np.argsort(-scores[classes], kind="stable")[:k]]
    if not len(classes):
        return ()
    found = scorer.responses(maps, classes.tolist())
    responses = [None] * len(classes) if found is None else found[0]
    return tuple(
        Prediction(truth.names[c], seen, float(scores[c]), bool(positive[c]), response)
        for c, response in zip(classes.tolist(), responses, strict=True)
    )


def _opened(run: Run, device: str, split: str) -> tuple[FeatureCache, Any, Truth]:
    from ...common.devices import resolve_device
    from ...train.scorer import restore

    store = open_store(run)
    return store, restore(run, store, resolve_device(device)), truth_for(run, store, split)


def _rows(store: FeatureCache, split: str, truth: Truth) -> np.ndarray:
    """(images,) the first usable row of every image."""
    used = np.flatnonzero(store.status(split) == Status.OK)
    return used[np.flatnonzero(np.append(True, truth.of_row[1:] != truth.of_row[:-1]))]


def _maps(store: FeatureCache, split: str, rows: np.ndarray, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of chosen rows (ascending), a chunk at a time."""
    size = store.layout.chunk_rows
    for chunk in np.unique(rows // size):
        inside = rows[rows // size == chunk]
        yield {name: store.maps(split, name)[inside] for name in names}


def _exclusive(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Images with exactly one of the shown classes, and which one."""
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


def _photograph(root: Path, image_id: str, crop: np.ndarray) -> np.ndarray | None:
    """The crop of an image as the backbone saw it; its id is its path below the root, or that less `.jpg`."""
    for name in (image_id, f"{image_id}.jpg"):
        found = load_crop(root / name, crop, PIXELS)
        if found.status is not Status.MISSING:
            return found.pixels
    return None
