"""A finished run and a feature store -> evidence, streamed chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.errors import C3Error
from ..common.progress import progress
from ..extract.store.cache import FeatureCache, Status
from ..extract.store.class_view import ClassView
from ..extract.store.storage import open_storage
from ..train.class_split import ClassSplit
from ..train.run_folder import Run, evaluate_command, read_classes
from ..train.settings import options_from
from .evidence import Evidence, collect
from .protocol import Protocol, pools_of
from .truth import Truth, read_truth

if TYPE_CHECKING:
    from ..train.scorer import Scorer


@dataclass(frozen=True)
class Scored:
    """The evidence of one split, and what scoring cost: the device, milliseconds and GFLOPs for one image.

    The time is that of the model alone, reading the store excluded; GFLOPs count the head and the class scores.
    """

    evidence: Evidence
    device: str
    ms_per_image: float
    gflops: float


def open_store(run: Run, elsewhere: str | Path | None = None) -> FeatureCache:
    """Open the store that a run was trained on, or another complete one with features of the same kind.

    Its own store has the classes and seen flags that the run was trained with.

    Raises C3Error when the store has gone, was replaced, is not complete, or comes from another backbone.
    """
    trained = run.record.features
    path = elsewhere or trained.path
    hint = f"{evaluate_command(run.path)} --cache PATH"
    if not open_storage(path).exists():
        if elsewhere is None and (tuned := run.record.tuned_from):
            raise C3Error(
                f"{run.path}: {path} does not exist yet, the features of its own backbone; give this command and then "
                f"c3 evaluate again: {tuned.extract}"
            )
        raise C3Error(f"{run.path}: its feature store {path} is missing; say where it is now: {hint}")
    store = FeatureCache.open(path)
    if elsewhere is None and store.digest != trained.digest:
        raise C3Error(
            f"{path} is not the feature store of {run.path}: expected digest {trained.digest}, found "
            f"{store.digest}; say where the right one is, or score this one on purpose: {hint}"
        )
    require_same_backbone(run, store)
    store.require_complete()
    return as_trained(run, store)


def require_same_backbone(run: Run, store: FeatureCache) -> None:
    """Refuse a store of another backbone, or of other weights, than a run was trained on."""
    trained = run.record.features
    for key, expected in (("backbone", trained.backbone), ("weights_sha256", trained.weights_sha256)):
        if expected is not None and expected != getattr(store.origin, key):
            raise C3Error(
                f"{store.location} has other features than {run.path} was trained on: expected {key} {expected}, found "
                f"{getattr(store.origin, key)}; extract it with the same backbone and weights"
            )


def as_trained(run: Run, store: FeatureCache) -> FeatureCache:
    """Return the store of a run with the class split that the run was trained with; another store as it is."""
    split = class_split_of(run)
    if not split.drawn or store.digest != run.record.features.digest:
        return store
    own = read_classes(run)
    return split.hold_back(ClassView(store, np.isin(store.classes.names, own.names), own.seen))


def class_split_of(run: Run) -> ClassSplit:
    """Return the class split that a run was trained with."""
    return options_from(ClassSplit, run.record.settings)


def truth_for(run: Run, cache: FeatureCache, split: str) -> Truth:
    """Return the labels that a run is measured by: those of seen classes only, where its method is not zero-shot."""
    truth = read_truth(cache, split)
    return truth if run.zero_shot else truth.of_seen()


def score(run: Run, cache: FeatureCache, split: str, protocols: Sequence[Protocol], device: str = "auto") -> Scored:
    """Score the usable rows of a split with the run's model and keep what the protocols need.

    `device` is auto, cpu, cuda or cuda:N. Raises C3Error when no row is usable, no label is positive, a score is not
    finite, a shard is missing or damaged, or the device does not exist.
    """
    truth = truth_for(run, cache, split)
    # torch comes with these: a report of runs that are measured already starts without it
    from ..common.devices import resolve_device
    from ..train.scorer import restore

    resolved = resolve_device(device)
    scorer = restore(run, cache, resolved)
    seconds: list[float] = []
    blocks = _scores(usable_arrays(cache, split, scorer.arrays, "scoring"), scorer, seconds)
    every = any(protocol.absent(truth) == -1 for protocol in protocols)
    deepest = max(k for protocol in protocols for k in protocol.ks)
    evidence = collect(truth, blocks, pools_of(protocols, truth), deepest, every)
    return Scored(evidence, str(resolved), 1e3 * sum(seconds) / len(truth), scorer.gflops())


def usable_arrays(cache: FeatureCache, split: str, names: Sequence[str], what: str) -> Iterator[dict[str, np.ndarray]]:
    """Yield arrays by name of the usable rows (status OK) of each chunk; a chunk without any is not read.

    The progress of `what` is shown.
    """
    usable = cache.status(split) == Status.OK
    step = cache.layout.chunk_rows
    with progress(f"{what} {split}", total=len(usable), unit="rows") as bar:
        for start in range(0, len(usable), step):
            keep = usable[start : start + step]
            stop, count = start + len(keep), int(keep.sum())
            if count:
                yield {name: cache.read(split, name, start, stop)[keep] for name in names}
            bar.advance(len(keep), failed=len(keep) - count)


def _scores(chunks: Iterator[dict[str, np.ndarray]], scorer: Scorer, seconds: list[float]) -> Iterator[np.ndarray]:
    """Yield (rows, classes) float32 of each chunk; `seconds` receives the time that the model took for it."""
    for arrays in chunks:
        began = time.perf_counter()
        scores = scorer(arrays)
        seconds.append(time.perf_counter() - began)
        yield scores
