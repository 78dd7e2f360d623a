"""Compute the arrays behind figures 3 and 6: what the encoder separates, and where a label comes from.

The model of a run is evaluated here on its store, and torch is loaded only then. figures.py and page.py draw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...common.errors import C3Error
from ...extract.backbone.pictures.crops import load_crop
from ...extract.backbone.pictures.decode_options import DecodeOptions
from ...extract.store.cache import FeatureCache, Status
from ...train.run_folder import Run
from ..score import open_store, truth_for
from ..truth import Truth

if TYPE_CHECKING:
    from ...train.scorer import Scorer

SHOWN_CLASSES = 8  # of figure 3: as many as the palette tells apart
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

    `response` (7, 7) is what every position adds to the score; None for a method without positions.
    """

    name: str
    seen: bool
    score: float
    correct: bool
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


def embedding(run: Run, device: str = "auto", split: str = "test") -> Embedding:
    """Project images with exactly one of eight classes by t-SNE, before and after the encoder (figure 3).

    The classes are the most frequent ones on at most a quarter of the images. Raises C3Error for a method without an
    encoder, and when fewer than two classes or ten images remain.
    """
    store, scorer, truth = _opened(run, device, split)
    chosen, classes = _exclusive(truth)
    if len(chosen) < 10 or len(set(classes.tolist())) < 2:
        raise C3Error(f"{store.location}: it needs ten images of {split} with one of its classes, found {len(chosen)}")
    parts: dict[str, list[np.ndarray]] = {}
    rows = _rows(store, split, truth)[chosen]
    for maps in _maps(store, split, rows, scorer.arrays):
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
    run: Run, count: int, device: str = "auto", images: Path | None = None, split: str = "test", seed: int = 0
) -> tuple[Example, ...]:
    """Draw random images with true labels of both kinds, and predict their labels with responses (figure 6).

    `images` is the folder of the photographs, by default the one that the store names. An image that cannot be read has
    no pixels. Every image gets its three best unseen and its four best seen labels.
    """
    store, scorer, truth = _opened(run, device, split)
    root = images or Path(store.provenance.image_root or "")
    decoding = DecodeOptions(store.origin.truncated, store.origin.max_megapixels)
    has = [truth.positives_of_images(part) > 0 for part in (truth.seen, ~truth.seen)]
    kind = has[0] & has[1] if (has[0] & has[1]).any() else has[0] | has[1]
    pool = np.flatnonzero(kind)
    drawn = np.sort(np.random.default_rng(seed).permutation(pool)[:count])
    rows, crops, paths = _rows(store, split, truth)[drawn], store.crops(split), store.image_paths(split)
    found = []
    for image, row in zip(drawn.tolist(), rows.tolist(), strict=True):
        (maps,) = _maps(store, split, np.array([row]), scorer.arrays)
        positive = truth.is_positive(image, image + 1)[0]
        scores = scorer(maps)[0]
        found.append(
            Example(
                image_id=str(truth.ids[image]),
                pixels=_photograph(
                    root, str(paths[row]), str(truth.ids[image]), crops[row], decoding, store.origin.fit
                ),
                true_seen=tuple(truth.names[c] for c in np.flatnonzero(positive & truth.seen)),
                true_unseen=tuple(truth.names[c] for c in np.flatnonzero(positive & ~truth.seen)),
                unseen=_predictions(scorer, maps, truth, scores, positive, False, 3),
                seen=_predictions(scorer, maps, truth, scores, positive, True, 4),
            )
        )
    return tuple(found)


def _predictions(
    scorer: Scorer,
    maps: dict[str, np.ndarray],
    truth: Truth,
    scores: np.ndarray,
    positive: np.ndarray,
    seen: bool,
    k: int,
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


def _opened(run: Run, device: str, split: str) -> tuple[FeatureCache, Scorer, Truth]:
    from ...common.devices import resolve_device
    from ...train.scorer import restore

    store = open_store(run)
    return store, restore(run, store, resolve_device(device)), truth_for(run, store, split)


def _rows(store: FeatureCache, split: str, truth: Truth) -> np.ndarray:
    """Return the first usable row of every image, (images,)."""
    used = np.flatnonzero(store.status(split) == Status.OK)
    return used[np.flatnonzero(np.append(True, truth.of_row[1:] != truth.of_row[:-1]))]


def _maps(store: FeatureCache, split: str, rows: np.ndarray, names: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the arrays of chosen rows (ascending), one chunk at a time."""
    size = store.layout.chunk_rows
    for chunk in np.unique(rows // size):
        inside = rows[rows // size == chunk]
        yield {name: store.maps(split, name)[inside] for name in names}


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


def _photograph(
    root: Path, path: str, image_id: str, crop: np.ndarray, decoding: DecodeOptions, fit: str
) -> np.ndarray | None:
    """Return a crop as the backbone saw it, or None.

    A store of version 2 has no paths: there the id is tried, as the path below the root and with `.jpg` added.
    """
    for name in [path] if path else [image_id, f"{image_id}.jpg"]:
        found = load_crop(root / name, crop, options=decoding, fit=fit)
        if found.status is not Status.MISSING:
            return found.pixels
    return None
