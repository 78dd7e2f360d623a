"""Which classes of a store a run trains on and which it holds back: drawn splits and class-wise cross-validation.

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
from .settings import Natural, Settings, Takes

OFF = -1  # of hide_seed
FOLD_SEED = 0  # of the division into folds, which is the same for every run on a split


@dataclass(frozen=True)
class ClassSplit(Settings):
    """The class split of a run: the store's own, or one that is drawn. The store stays as it is.

    `hide_seed` draws as many unseen classes as the store has, from all classes with a positive in train; the others
    with one are seen, and those without leave the picture. `folds` divides the seen classes (after `hide_seed`) into
    that many parts: the classes of part `fold` are pretend-unseen, and the real unseen ones leave the picture. -1 turns
    `hide_seed` off, 0 `folds`. Raises C3Error for a fold that is not one of the folds.
    """

    hide_seed: Annotated[int, Takes("-1 (off) or a seed from 0 to 2^63 - 1", lambda value: -1 <= value < 2**63)] = OFF
    folds: Annotated[int, Takes("0 (off) or at least 2", lambda value: value == 0 or value >= 2)] = 0
    fold: Natural = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fold >= max(self.folds, 1):
            expected = f"0 to {self.folds - 1}, one of {self.folds} folds" if self.folds else "no fold without folds"
            raise C3Error(f"setting fold: expected {expected}, found {self.fold}")

    @property
    def off_names(self) -> tuple[str, ...]:
        """Return the names of the settings that are off: a run is named and recorded without them."""
        hidden = () if self.hide_seed > OFF else ("hide_seed",)
        return (*hidden, *(() if self.folds else ("folds", "fold")))

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
                raise C3Error("setting hide_seed: the store hides no class, so there is no number of classes to draw")
            if len(pool) < hidden + 2:
                raise C3Error(
                    f"setting hide_seed: expected at least {hidden + 2} classes with a positive in train, {hidden} to "
                    f"hide and two to learn, found {len(pool)}"
                )
            kept, seen = learnable.copy(), learnable.copy()
            seen[np.random.default_rng(self.hide_seed).permutation(pool)[:hidden]] = False
        if self.folds:
            known = np.flatnonzero(seen)
            if len(known) < 2 * self.folds:
                raise C3Error(
                    f"setting folds: {self.folds} folds need at least {2 * self.folds} seen classes, two each, found "
                    f"{len(known)}; use fewer folds"
                )
            kept, seen = seen.copy(), seen.copy()
            seen[np.random.default_rng(FOLD_SEED).permutation(known)[self.fold :: self.folds]] = False
        return kept, seen

    def view(self, store: FeatureCache) -> FeatureCache:
        """Return the store with the classes and labels of this split. Labels of train alone are read."""
        if not self.drawn:
            return store
        kept, seen = self.masks(store.classes.seen, with_positive(store, "train"))
        return ClassView(store, kept, seen[kept])


def with_positive(store: FeatureCache, split: str) -> np.ndarray:
    """Return (classes,) bool: which classes have a positive label on a readable row of a split."""
    labels = store.labels(split).take(np.flatnonzero(store.status(split) == Status.OK))
    counts = np.bincount(labels.indices[labels.value > 0], minlength=len(store.classes))
    return np.asarray(counts > 0)
