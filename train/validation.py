"""The validation score, which chooses among epochs: mAP over the seen classes of the validation split.

Labels of unseen classes are never read here: the choice of an epoch must not depend on them. The published protocols
are in `c3 evaluate`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..common.average_precision import mean_average_precision, random_average_precision
from ..common.errors import C3Error
from ..extract.store.cache import FeatureCache, Status
from ..extract.store.tables import SparseLabels
from .data.row_source import RowSource
from .distributed.world import World
from .models.base import Method
from .run_folder import SeenScore

LOG = logging.getLogger(__name__)
SPLIT = "val"
ROWS = 256  # scored at a time; in eval mode a row has the same scores in any batch
NEAR, CLOSE = 1.5, 0.05  # a score below this multiple of that of random scores, and above by less, is near them


class Validation:
    """The readable rows of a split and their labels of seen classes, to be scored after every epoch.

    `at_a_time` rows are scored at once. `random` is the score, 0..1, that random scores reach in the mean. Every
    process of the world scores some of the rows and returns the score of all. Raises C3Error when the source lacks the
    split, or the split has no positive label of a seen class.
    """

    def __init__(
        self,
        source: RowSource,
        arrays: Sequence[str],
        split: str = SPLIT,
        at_a_time: int = ROWS,
        world: World = World(),
    ) -> None:
        self._at_a_time = at_a_time
        self._source, self._split, self._arrays = source, split, tuple(arrays)
        rows, self._labels = _labelled_rows(source, split)
        self._world, self._rows = world, np.array_split(rows, world.size)[world.rank]
        self._absent, self._classes = source.absent_label, int(source.classes.seen.sum())
        labels = self._labels.take(rows)
        positives = np.bincount(labels.indices[labels.value > 0], minlength=self._classes)
        listed = np.bincount(labels.indices, minlength=self._classes)
        known = listed if self._absent == 0 else np.full(self._classes, len(rows))
        if not positives.any():
            raise C3Error(f"{source.location}: {split} has no positive label of a seen class; train without patience")
        self.random = float(np.nanmean(random_average_precision(positives, known)))

    @torch.inference_mode()
    def score(self, model: Method, vectors: Tensor) -> float:
        """Return the mean AP, 0..1, of the classes that have a positive; vectors (seen classes, d_w) float32.

        Only known labels count. The model is put in eval mode, and in training mode afterwards.
        """
        model.eval()
        with self._world.together():
            known = self._known_scores(model, vectors)
        model.train()
        group, positive, scores = (self._world.gather(torch.from_numpy(part)).numpy() for part in known)
        if not np.isfinite(scores).all():
            raise C3Error("a validation score is not a finite number; lower --lr")
        return mean_average_precision(group, positive > 0, scores)

    def _known_scores(self, model: Method, vectors: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return class, label and score (entries,) of every known label of the rows of this process."""
        known = [(np.zeros(0, np.int64), np.zeros(0, np.int8), np.zeros(0, np.float32))]
        for start in range(0, len(self._rows), self._at_a_time):
            rows = self._rows[start : start + self._at_a_time]
            arrays = {
                name: torch.from_numpy(self._source.take(self._split, name, rows)).to(vectors.device).float()
                for name in self._arrays
            }
            scores = model.scores(model(arrays), vectors).float().cpu().numpy()
            labels = self._labels.take(rows).dense(self._classes, self._absent)
            image, name = labels.nonzero()
            known.append((name, labels[image, name], scores[image, name]))
        group, label, score = (np.concatenate(part) for part in zip(*known, strict=True))
        return group, label, score


def seen_score(source: FeatureCache, model: Method, vectors: Tensor, world: World = World()) -> SeenScore | None:
    """Return the validation score of a trained model beside that of random scores, and log both.

    None where the store has no split `val`, or no positive label of a seen class in it.
    """
    with world.together():
        if SPLIT not in source.splits or not _has_positive(source):
            return None
        validation = Validation(source, model.reads(model.inputs), world=world)
    score = SeenScore(validation.score(model, vectors), validation.random)
    told = f"mAP of the seen classes on val: {100 * score.mAP:.1f} %, random scores {100 * score.random:.1f} %"
    if score.mAP < min(NEAR * score.random, score.random + CLOSE):
        LOG.warning("%s. This is hardly better than random: train longer (--epochs), try another --method, or look at "
                    "the labels and word vectors (c3 catalog check)", told)  # fmt: skip
    else:
        LOG.info("%s", told)
    return score


def _has_positive(source: RowSource) -> bool:
    rows, labels = _labelled_rows(source, SPLIT)
    return bool((labels.take(rows).value > 0).any())


def _labelled_rows(source: RowSource, split: str) -> tuple[np.ndarray, SparseLabels]:
    """Return the numbers of the readable rows of a split, and the labels of seen classes of all its rows."""
    return np.flatnonzero(source.status(split) == Status.OK), source.labels(split).keep_classes(source.classes.seen)
