"""Which classes and images of a store a run trains on and which it holds back: drawn splits and cross-validation.

Images of classes that are held back stay among the training images, without these labels, as in a store's own split.
No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from ..common.errors import C3Error
from ..extract.store.cache import FeatureCache, Status
from ..extract.store.class_view import ClassView
from ..extract.store.held_view import HeldView
from .settings import Natural, Settings, Takes

OFF = -1  # of hide_seed
LEAST_FOLDS = 2
FOLD_SEED = 0  # of the divisions into folds, which are the same for every run on a split


@dataclass(frozen=True)
class ClassSplit(Settings):
    """The class split of a run: the store's own, or one that is drawn. The store stays as it is.

    `hide_seed` draws as many unseen classes as the store has, from all classes with a positive in train; the others
    with one are seen, and those without leave the picture. `folds` divides the seen classes (after `hide_seed`) into
    that many parts: the classes of part `fold` are pretend-unseen, and the real unseen ones leave the picture. A fold
    also holds back `held_images`, a share of the images of train, which are scored with those of val. -1 turns
    `hide_seed` off, 0 `folds` and `held_images`. Raises C3Error for a fold that is not one of the folds, and for held
    images without folds.
    """

    hide_seed: Annotated[int, Takes("-1 (off) or a seed from 0 to 2^63 - 1", lambda value: -1 <= value < 2**63)] = OFF
    folds: Annotated[int, Takes("0 (off) or at least 2", lambda value: value == 0 or value >= 2)] = 0
    fold: Natural = 0
    held_images: Annotated[float, Takes("0 (off) to below 1", lambda value: 0 <= value < 1)] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold >= max(self.folds, 1):
            expected = f"0 to {self.folds - 1}, one of {self.folds} folds" if self.folds else "none without folds"
            raise C3Error(f"setting fold: expected {expected}, found {self.fold}")
        if self.held_images and not self.folds:
            raise C3Error(
                f"setting held_images: expected 0 (off) without folds, found {self.held_images}; set folds too"
            )

    @property
    def off_names(self) -> tuple[str, ...]:
        """Return the names of the settings that are off: a run is named and recorded without them."""
        hidden = () if self.hide_seed > OFF else ("hide_seed",)
        return (*hidden, *(() if self.folds else ("folds", "fold")), *(() if self.held_images else ("held_images",)))

    @property
    def drawn(self) -> bool:
        """Return whether the split is another one than the store's own."""
        return self.hide_seed > OFF or self.folds > 0

    def masks(self, seen: np.ndarray, learnable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which classes exist for the run and which of all are seen, both (classes,) bool.

        seen (classes,) bool is the store's own split; learnable (classes,) bool says which classes have a positive in
        train. Pure. Raises C3Error where there are too few classes.
        """
        kept = np.ones_like(seen)
        if self.hide_seed > OFF:
            hidden, pool = int((~seen).sum()), np.flatnonzero(learnable)
            if not hidden:
                raise C3Error(
                    "setting hide_seed: the store hides no class, so there is no number of classes to draw; hold back "
                    "seen classes by folds instead"
                )
            if len(pool) < hidden + 2:
                raise C3Error(
                    f"setting hide_seed: expected at least {hidden + 2} classes with a positive in train, {hidden} to "
                    f"hide and two to learn, found {len(pool)}"
                )
            kept, seen = learnable.copy(), learnable.copy()
            seen[np.random.default_rng(self.hide_seed).permutation(pool)[:hidden]] = False
        if self.folds:
            known = np.flatnonzero(seen)
            most = len(known) // 2
            if most < self.folds:
                raise C3Error(
                    f"setting folds: {self.folds} folds need at least {2 * self.folds} seen classes, two each, found "
                    f"{len(known)}; " + (f"use at most {most} folds" if most >= LEAST_FOLDS else "leave folds out")
                )
            kept, seen = seen.copy(), seen.copy()
            seen[np.random.default_rng(FOLD_SEED).permutation(known)[self.fold :: self.folds]] = False
        return kept, seen

    def view(self, store: FeatureCache) -> FeatureCache:
        """Return the store with the classes and labels of this split. Labels of train alone are read."""
        if not self.drawn:
            return store
        kept, seen = self.masks(store.classes.seen, with_positive(store, "train"))
        return self.hold_back(ClassView(store, kept, seen[kept]))

    def held_rows(self, image_ids: np.ndarray) -> np.ndarray:
        """Return the row numbers (n,) int64 of train, ascending, that the fold holds back: all crops of some images.

        image_ids (rows,) text, crops of one image beside each other. Folds hold back different images as long as there
        are enough. No label is read. Raises C3Error where the share is less than one image.
        """
        image = np.cumsum(np.append(True, image_ids[1:] != image_ids[:-1])[: len(image_ids)]) - 1
        images = int(image[-1]) + 1 if len(image) else 0
        count = round(self.held_images * images)
        if not 0 < count < images:
            raise C3Error(
                f"setting held_images: {self.held_images} of the {images} images of train are {count}; at least one is "
                "held back and one is trained on"
            )
        order = np.random.default_rng(FOLD_SEED).permutation(images)
        held = order.take(np.arange(self.fold * count, (self.fold + 1) * count), mode="wrap")
        return np.flatnonzero(np.isin(image, held))

    def hold_back(self, store: FeatureCache) -> FeatureCache:
        """Return the store with the held images of this fold in val instead of train; without any, the store itself."""
        return HeldView(store, self.held_rows(store.image_ids("train"))) if self.held_images else store


def with_positive(store: FeatureCache, split: str) -> np.ndarray:
    """Return (classes,) bool: which classes have a positive label on a readable row of a split."""
    labels = store.labels(split).take(np.flatnonzero(store.status(split) == Status.OK))
    counts = np.bincount(labels.indices[labels.value > 0], minlength=len(store.classes))
    return np.asarray(counts > 0)
