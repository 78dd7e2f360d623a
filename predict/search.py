"""FRONT DOOR of search: a store, a trained run and any words -> the images that show them, best first."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ..common.devices import resolve_device
from ..common.errors import C3Error
from ..common.unicode_forms import on_disk
from ..evaluate.probabilities import Probabilities, lack_of, probabilities_of
from ..evaluate.score import require_same_backbone
from ..extract.catalog.catalog import Catalog
from ..extract.store.cache import FeatureCache
from ..extract.store.tables import image_files
from ..train.registry import require_one_space
from ..train.run_folder import Run, open_run, read_classes
from ..train.scorer import Scorer, rebuild, require_arrays, word_form
from .found import Hit, Ranking
from .projections import Projections, SplitImages, folder_beside
from .question import Question, ask
from .ranking import BestRows
from .tagger import catalog_of
from .vocabulary import VectorSource

LOG = logging.getLogger(__name__)
TOP = 20  # images of a word


class Searcher:
    """A store and a trained run. `Searcher.load(STORE, RUN).search(["sea", "red boat"])`; loading takes seconds."""

    def __init__(
        self,
        run: Run,
        store: FeatureCache,
        catalog: Catalog,
        device: torch.device,
        projections: Path | None,
        images: Path | None = None,
    ) -> None:
        self.run, self.store, self.classes = run, store, read_classes(run)
        self._catalog, self._device, self._model = catalog, device, rebuild(run)
        if not self._model.scores_alone:
            raise C3Error(
                f"run {run.id} standardises the scores of an image over the words that are asked for, so that images "
                f"cannot be compared under one word; train one that does not: {run.train_with(standardise='none')}"
            )
        self._form = word_form(self.classes, run.record.vectors)  # once: `whitened` takes 0.15 s at d_w 768
        nothing = torch.zeros((0, self._model.inputs.d_w))
        self._projections = Projections(run, store, Scorer(self._model, nothing, device), projections)
        self._probabilities, self._told = probabilities_of(run), ""
        self._images: dict[str, SplitImages] = {}
        self._root = images or store.provenance.image_root or ""

    @classmethod
    def load(
        cls,
        store: str | os.PathLike[str],
        run: str | os.PathLike[str],
        catalog: str | os.PathLike[str] | None = None,
        device: str = "auto",
        projections: str | os.PathLike[str] | None = None,
        images: str | os.PathLike[str] | None = None,
    ) -> Searcher:
        """Open a store and a finished run that was trained on features of its kind. No backbone is needed.

        `projections` is the folder for what the head keeps of every image, by default `projections` beside the store.
        `images` is the folder of the images, by default the one that the store names.
        Raises C3Error for a run that is unfinished or damaged, and for a store of other features.
        """
        trained, features = open_run(run), FeatureCache.open(os.fspath(store))
        require_searchable(trained, features)
        require_one_space(trained.method, features)
        folder = folder_beside(features) if projections is None else Path(projections)
        return cls(trained, features, Catalog(catalog_of(trained, catalog)), resolve_device(device), folder,
                   None if images is None else Path(images))  # fmt: skip

    def search(
        self,
        words: Sequence[str],
        *,
        vectors: VectorSource | None = None,
        top: int = TOP,
        split: str | None = None,
        raw: bool = False,
        drop_unknown: bool = False,
    ) -> list[Ranking]:
        """Rank the images of a store, or of one split, under every word; `top` of each are returned, best first.

        Every image is scored. One with several crops counts once, with its best one; of equals the first in the store
        leads. Images have a probability as in `Tagger.tag`, unless scores are asked for (`raw`): the order is the same.
        `vectors` is a file, a name of the catalog, an array (words, d_w) or a text tower. Raises C3Error for words that
        cannot be asked for, an unknown split, and a store that is not complete or damaged.
        """
        if isinstance(words, str):
            raise C3Error(f"words: expected a list of words, found the text {words!r}")
        if top < 1:
            raise C3Error(f"top: expected at least 1, found {top}")
        splits = self.store.splits if split is None else (split,)
        for name in splits:
            self.store.rows(name)  # refuses an unknown split
        question = ask(self.run, self.classes, self._form, self._catalog, words, vectors, drop_unknown)
        probabilities = None if raw else self._probabilities
        lack = "" if raw else lack_of(self.run, probabilities, question.kinds)
        if lack and lack != self._told:
            LOG.warning("%s", lack)
            self._told = lack
        best = [self._best(question, name, top) for name in splits]
        return [
            Ranking(name, kind, self._hits(name, top, [(images, found[number]) for images, found in best],
                                           probabilities))
            for number, (name, kind) in enumerate(zip(question.names, question.kinds, strict=True))
        ]  # fmt: skip

    def _best(self, question: Question, split: str, top: int) -> tuple[SplitImages, list[BestRows]]:
        """Return the best rows of a split under every word."""
        if split not in self._images:
            self._images[split] = self._projections.images(split)
        images, scorer = self._images[split], Scorer(self._model, question.vectors, self._device)
        best = [BestRows(top, images.rows["image"]) for _ in question.names]
        for first, block in self._projections.blocks(images, len(question.names)):
            scores = scorer.compare(block)
            if not np.isfinite(scores).all():
                raise C3Error(f"run {self.run.path} gives scores that are no finite numbers; train it again")
            for number, found in enumerate(best):
                found.add(first, scores[:, number])
        return images, best

    def _hits(
        self,
        word: str,
        top: int,
        parts: Sequence[tuple[SplitImages, BestRows]],
        probabilities: Probabilities | None,
    ) -> tuple[Hit, ...]:
        """Return the best images of several splits, of equals those of the first split."""
        every = [(images, int(row), float(score)) for images, found in parts
                 for row, score in zip(found.rows, found.scores, strict=True)]  # fmt: skip
        every.sort(key=lambda one: -one[-1])  # stable
        del every[top:]
        scores = np.array([[score] for *_, score in every]).reshape(-1, 1)
        known = probabilities.of([word], scores)[:, 0].tolist() if probabilities else [None] * len(every)
        return tuple(
            self._hit(rank, probability, score, images.split, images.rows[row])
            for rank, (probability, (images, row, score)) in enumerate(zip(known, every, strict=True), start=1)
        )

    def _hit(self, rank: int, probability: float | None, score: float, split: str, known: np.void) -> Hit:
        image_id, path = os.fsdecode(known["id"]), os.fsdecode(known["path"])
        files = image_files(self._root, path, image_id)
        there = next((file for file in map(on_disk, files) if os.path.isfile(file)), None)  # noqa: PTH113 - a name that is too long
        x0, y0, x1, y1 = known["crop"].tolist()
        image = there or (files[0] if path else image_id)
        return Hit(rank, probability, score, image_id, str(image), there is not None, split, int(known["row"]),
                   (x0, y0, x1, y1))  # fmt: skip


def require_searchable(run: Run, store: FeatureCache) -> None:
    """Refuse a run that is unfinished, or that was trained on other features than those of a store."""
    run.require_finished()
    require_same_backbone(run, store)
    require_arrays(run, {array.name: array.cell for array in store.arrays}, store.location)
