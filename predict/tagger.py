"""FRONT DOOR of tagging: a trained run, any pictures and any words -> labels."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.devices import resolve_device
from ..common.errors import C3Error, unknown_name
from ..common.unicode_forms import on_disk
from ..evaluate.probabilities import Probabilities, lack_of, probabilities_of
from ..evaluate.thresholds import thresholds_of
from ..extract.backbone.network import Backbone
from ..extract.backbone.pictures.crop_policies import POLICIES
from ..extract.backbone.pictures.decode_options import DecodeOptions
from ..extract.backbone.weights import kind_of, load_backbone
from ..extract.catalog.catalog import Catalog, weights_of
from ..extract.store.layout import GLOBAL_VECTOR, REGIONS
from ..extract.store.tables import Classes
from ..train.models.base import Method
from ..train.names import LABEL_MAPS
from ..train.run_folder import Run, open_run, read_classes
from ..train.scorer import Scorer, rebuild, require_arrays, word_form
from .images import Pictures, find_pictures, read_pictures
from .question import ask, kinds_of
from .results import Label, Tagged
from .vocabulary import VectorSource

LOG = logging.getLogger(__name__)
TOP = 5  # labels of a picture where no threshold decides


@dataclass(frozen=True)
class TagOptions:
    """Which labels pictures get.

    `vocabulary` are words in place of the classes of the run's store; `vectors` a file, a name of the catalog, an array
    (words, d_w) as read, or a text tower (`ByTower`). `top` labels (default: 5, or all that reach a threshold), the
    most probable first; with `raw`, and where the run has no calibrated probabilities, those with the best scores.
    `threshold` is a probability, or a score where these are raw, or `val` for the scores in thresholds.csv.
    `drop_unknown` leaves out words without a vector and repeats. `responses` also asks where labels come from: `maps`
    is `occlusion`, the fall of a score when a place is hidden, or `shares`, what each position adds to it, which only
    some methods know. `truncated` and `max_megapixels` say which pictures count as readable (see `DecodeOptions`;
    default: as when the features of the run were made).
    """

    vocabulary: Sequence[str] | None = None
    vectors: VectorSource | None = None
    top: int | None = None
    threshold: float | str | None = None
    raw: bool = False
    drop_unknown: bool = False
    batch_size: int = 32
    responses: bool = False
    maps: str = LABEL_MAPS[0]
    truncated: str | None = None
    max_megapixels: int | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("top", self.top),
            ("batch size", self.batch_size),
            ("max megapixels", self.max_megapixels),
        ):
            if value is not None and value < 1:
                raise C3Error(f"{name}: expected at least 1, found {value}")
        number = isinstance(self.threshold, int | float) and math.isfinite(self.threshold)
        if not (number or self.threshold in (None, "val")):
            raise C3Error(f"threshold: expected a number or val, found {self.threshold!r}")
        if self.maps not in LABEL_MAPS:
            raise unknown_name("map", self.maps, LABEL_MAPS)
        if isinstance(self.vocabulary, str):
            raise C3Error(f"vocabulary: expected a list of words, found the text {self.vocabulary!r}")
        if self.vectors is not None and self.vocabulary is None:
            raise C3Error("vectors are given without a vocabulary; the run has vectors of its own classes")


@dataclass(frozen=True)
class _Question:
    """The names to score, their kinds, a scorer of them, thresholds (names,) or None, and the most labels to return.

    Without `probabilities` labels have scores alone. Thresholds are of probabilities, or else `of_scores`.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    scorer: Scorer
    thresholds: np.ndarray | None
    of_scores: bool
    top: int
    probabilities: Probabilities | None


@dataclass(frozen=True)
class Parts:
    """A finished run, the classes of its store, its model on the CPU, its backbone, and the catalog of weights."""

    run: Run
    classes: Classes
    model: Method
    backbone: Backbone
    catalog: Catalog


def load_parts(
    run_path: str | os.PathLike[str],
    weights: str | None,
    catalog: str | os.PathLike[str] | None,
    device: torch.device,
    precision: str | None = None,
) -> Parts:
    """Load what a run folder names; `weights` and `precision` replace those that its features were made with.

    Without a `catalog`, names are looked up in the one that the extraction read, if it is still there. Raises C3Error
    when the folder is unfinished or damaged, and for weights of another hash.
    """
    run = open_run(run_path)
    run.require_finished()
    classes, made = read_classes(run), run.record.features
    model = rebuild(run)
    kind_of(made.backbone)  # refuses features that c3 did not compute
    names = Catalog(catalog_of(run, catalog))
    found = _weights(run, weights, names)
    # the optional arrays of the store, read or not: the hash is that of all layers that ran
    extras = [name for name in (REGIONS, GLOBAL_VECTOR) if name in model.inputs.names]
    size = (made.request or {}).get("input_size")
    backbone = load_backbone(made.backbone, found, device, precision or made.precision, extras, size)
    offered = {array.name: array.cell for array in backbone.arrays}
    require_arrays(run, offered, f"backbone {made.backbone}")
    if made.weights_sha256 is None:
        raise C3Error(
            f"{run.path} does not record the hash of its backbone's weights: it was trained by an older c3; train it "
            f"again: {run.train_again}"
        )
    if backbone.weights_sha256 != made.weights_sha256:
        raise C3Error(
            f"weights {found} are not those that the features of {run.path} were made with: expected sha256 "
            f"{made.weights_sha256}, found {backbone.weights_sha256}; give the right ones with --weights"
        )
    return Parts(run, classes, model, backbone, names)


class Tagger:
    """A trained run with the backbone of its features. `Tagger.load(RUN).tag(PICTURES)`; loading takes seconds."""

    def __init__(self, parts: Parts) -> None:
        self.run, self.classes, self.backbone, self._catalog = parts.run, parts.classes, parts.backbone, parts.catalog
        self._probabilities, self._told = probabilities_of(self.run), ""
        own = self.classes.vectors if parts.model.zero_shot else self.classes.vectors[self.classes.seen]
        self._form = word_form(self.classes, self.run.record.vectors)  # once: `whitened` takes 0.15 s at d_w 768
        self._own = Scorer(parts.model, self._form(torch.from_numpy(own)), self.backbone.device)
        self._decoding = DecodeOptions.recorded(self.run.record.features.request)
        self._boxes = POLICIES.get(self.run.record.features.crops, POLICIES["whole"])

    @classmethod
    def load(
        cls,
        run: str | os.PathLike[str],
        weights: str | None = None,
        catalog: str | os.PathLike[str] | None = None,
        device: str = "auto",
    ) -> Tagger:
        """Load a finished run folder and its backbone. The store is not needed.

        The backbone's weights are found by the name that the store was made with, in the catalog or as a file;
        `weights` says where they are now. Raises C3Error for a folder that is unfinished or damaged, and for other
        weights.
        """
        return cls(load_parts(run, weights, catalog, resolve_device(device)))

    def tag(self, images: Iterable[str | os.PathLike[str]] | str | os.PathLike[str], **asked: Any) -> list[Tagged]:
        """Tag files, folders and globs; the keywords are the fields of `TagOptions` (vocabulary, vectors, top ...)."""
        paths = find_pictures([images] if isinstance(images, str | os.PathLike) else images)
        return list(self.stream(paths, TagOptions(**asked)))

    def stream(self, paths: Sequence[Path], options: TagOptions = TagOptions()) -> Iterator[Tagged]:
        """Yield the same picture by picture, in order, as batches are done. A bad picture has a status and no labels.

        Raises C3Error at once for words that cannot be asked for, and for responses where the method has none.
        """
        question = self._question(options)
        if options.responses:
            shapes = {name: (1, *self._own.model.inputs.shape(name)) for name in question.scorer.arrays}
            zeros = {name: np.zeros(shape) for name, shape in shapes.items()}
            if question.scorer.label_maps(options.maps, zeros, [0]) is None:
                other = "; leave --map out: occlusion needs no shares" if options.maps != LABEL_MAPS[0] else ""
                raise C3Error(f"method {self.run.method} has no {options.maps} of positions to draw{other}")
        decoding = DecodeOptions(
            options.truncated or self._decoding.truncated, options.max_megapixels or self._decoding.max_megapixels
        )
        batches = read_pictures(self.backbone, paths, self._boxes, options.batch_size, decoding)
        return (
            tagged
            for batch in batches
            for tagged in self._batch(batch, question, options.maps if options.responses else None)
        )

    def _question(self, options: TagOptions) -> _Question:
        if options.vocabulary is None:
            scorer, classes = self._own, self.classes
            names = tuple(n for n, seen in zip(classes.names, classes.seen, strict=True) if scorer.zero_shot or seen)
            kinds = kinds_of(names, classes)
        else:
            asked = ask(self.run, self.classes, self._form, self._catalog, list(options.vocabulary), options.vectors,
                        options.drop_unknown)  # fmt: skip
            names, kinds, scorer = asked.names, asked.kinds, Scorer(self._own.model, asked.vectors, self._own.device)
        probabilities = None if options.raw else self._probabilities
        if options.threshold == "val":
            thresholds: np.ndarray | None = thresholds_of(self.run).take(names)
        else:
            least = options.threshold
            if probabilities and least is not None and not 0 <= float(least) <= 1:
                raise C3Error(f"threshold: expected a probability from 0 to 1, or a score with --raw; found {least}")
            thresholds = None if least is None else np.full(len(names), float(least))
        top = options.top or (TOP if thresholds is None else len(names))
        number = options.threshold if isinstance(options.threshold, int | float) else None
        lack = "" if options.raw else lack_of(self.run, probabilities, kinds, number)
        if lack and lack != self._told:
            LOG.warning("%s", lack)
            self._told = lack
        of_scores = probabilities is None or options.threshold == "val"
        return _Question(names, kinds, scorer, thresholds, of_scores, top, probabilities)

    def _batch(self, batch: Pictures, question: _Question, maps: str | None) -> Iterator[Tagged]:
        crops = len(self._boxes)
        if batch.readable:
            scores = question.scorer(batch.arrays).reshape(len(batch.readable), crops, -1)
            if not np.isfinite(scores).all():
                raise C3Error(f"run {self.run.path} gives scores that are no finite numbers; train it again")
            best = scores.max(axis=1)
            maps_of = question.probabilities
            probabilities = None if maps_of is None else maps_of.of(question.names, best)
        for number, (path, own) in enumerate(zip(batch.paths, batch.crops, strict=True)):
            if number not in batch.readable:
                bad = next(crop for crop in own if crop.pixels is None)
                yield Tagged(str(path), bad.status.name.lower(), bad.reason)
                continue
            place = batch.readable.index(number)
            labels = _labels(scores[place], None if probabilities is None else probabilities[place], question)
            if maps:
                rows = {name: values[place * crops : (place + 1) * crops] for name, values in batch.arrays.items()}
                labels = _explained(labels, rows, question, maps)
            pixels = tuple(crop.pixels for crop in own if crop.pixels is not None) if maps else None
            yield Tagged(str(path), "ok", "", tuple(labels), pixels)


def catalog_of(run: Run, asked: str | os.PathLike[str] | None) -> Path | None:
    """Return the user's catalog: the one that is asked for, else that of the extraction, unless it is gone."""
    if asked:
        return Path(asked)
    recorded = run.record.features.catalog
    return Path(recorded) if recorded and Path(recorded).is_file() else None


def _weights(run: Run, asked: str | None, catalog: Catalog) -> str:
    """Return what load_backbone takes: the weights given, else those that the store was made with."""
    made = run.record.features
    found = weights_of(made.backbone, asked or run.weights_asked, catalog)
    if asked is None and not (found == "imagenet" or found.startswith("random:") or on_disk(Path(found)).is_file()):
        raise C3Error(
            f"{run.path}: the features were made by {made.backbone} with weights {found!r}, which are no file and no "
            f"name in {'the catalog ' + str(catalog.user_file) if catalog.user_file else 'the built-in catalog'}; give "
            "the file (--weights FILE), or a catalog that names it (c3 --catalog FILE before the command)"
        )
    return found


def _labels(scores: np.ndarray, probabilities: np.ndarray | None, question: _Question) -> list[Label]:
    """Return the best labels of one picture from its scores (crops, names) and probabilities (names,).

    The best crop decides each score. Of equal probabilities the higher score comes first.
    """
    best = scores.max(axis=0)
    mean, highest = float(best.mean()), float(best.max())
    order = np.argsort(-best, kind="stable") if probabilities is None else np.lexsort((-best, -probabilities))
    if question.thresholds is not None:
        reached = best if probabilities is None or question.of_scores else probabilities
        order = order[reached[order] >= question.thresholds[order]]
    return [
        Label(
            question.names[c],
            question.kinds[c],
            float(best[c]),
            None if question.thresholds is None else float(question.thresholds[c]),
            int(scores[:, c].argmax()),
            strength=max((float(best[c]) - mean) / (highest - mean), 0.0) if highest > mean else 1.0,
            probability=None if probabilities is None else float(probabilities[c]),
        )
        for c in order[: question.top].tolist()
    ]


def _explained(labels: list[Label], rows: dict[str, Any], question: _Question, maps: str) -> list[Label]:
    """Give labels their maps; rows are the arrays of the crops of one picture. A crop is computed once."""
    found: dict[int, np.ndarray] = {}
    for crop in {label.crop for label in labels}:
        own = [number for number, label in enumerate(labels) if label.crop == crop]
        classes = [question.names.index(labels[number].name) for number in own]
        one = {name: values[crop : crop + 1] for name, values in rows.items()}
        drawn = question.scorer.label_maps(maps, one, classes)
        if drawn is None:  # `Tagger.stream` has refused such a method
            raise ValueError("the method does not know where a label comes from")
        found |= dict(zip(own, drawn[0], strict=True))
    return [replace(label, response=found[number]) for number, label in enumerate(labels)]
