"""FRONT DOOR of evaluation: measure a run, compare two, print the paper's tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..common.average_precision import Ties, require_ties
from ..common.errors import C3Error
from ..extract.store.cache import FeatureCache, Status
from ..train.run_folder import Run, open_run
from .bootstrap import Resampling
from .calibrate import fold_offsets
from .compare import differences, table_of
from .evidence import Evidence
from .protocol import Protocol, protocols_for
from .record import Evaluation, write_evaluation
from .score import as_trained, class_split_of, open_store, score

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateOptions:
    """How `c3 evaluate` measures: named protocols (those of the data set when empty), ties, bootstrap resamples."""

    protocols: tuple[str, ...] = ()
    ties: Ties = "grouped"
    resamples: int = 1000


def evaluate(
    run_path: str | Path,
    split: str = "test",
    cache: str | Path | None = None,
    device: str = "auto",
    options: EvaluateOptions = EvaluateOptions(),
) -> Run:
    """Measure a finished run on one split of its feature store, or of another store with features of the same kind.

    `cache` is where the store is now, or the other store. Writes metrics.json and per_class.csv into the run folder
    (with a suffix for another split or store), and thresholds.csv where the run's own store has a labelled validation
    split; returns the run with these metrics. Raises C3Error, before anything is written, when the run is not finished,
    or its store is missing, not complete or of another kind, or has no usable row or no positive label in the split.
    """
    require_ties(options.ties)
    started = time.monotonic()
    run = open_run(run_path, measured=False)
    run.require_finished()
    store = open_store(run, cache)
    _warn_of_trained_classes(run, store)
    protocols = protocols_for(store.origin.dataset, options.protocols)
    ks = {protocol.name: protocol.ks[0] for protocol in protocols}
    evaluation = Evaluation(
        store=store,
        split=split,
        scored=score(run, store, split, protocols, device),
        validation=_validation(run, store, split, protocols, device),
        protocols=protocols,
        ties=options.ties,
        resampling=Resampling(options.resamples),
        offsets=fold_offsets(run, ks) if split == "test" and store.digest == run.record.features.digest else {},
        folds=class_split_of(run).folds,
    )
    return replace(run, metrics=write_evaluation(run, evaluation, time.monotonic() - started))


def compare(
    first: str | Path,
    second: str | Path,
    split: str = "test",
    cache: str | Path | None = None,
    device: str = "auto",
    resampling: Resampling = Resampling(),
) -> str:
    """Compare two finished runs on the same images, with paired bootstrap intervals, and return the text.

    Both are scored again, each on its own store or both on `cache`. Raises C3Error when their images, labels or classes
    differ, and for what `evaluate` refuses.
    """
    runs = open_run(first), open_run(second)
    for run in runs:
        run.require_finished()
    if runs[0].dataset != runs[1].dataset and cache is None:
        raise C3Error(
            f"{runs[0].path} is a run on {runs[0].dataset}, {runs[1].path} on {runs[1].dataset}; compare runs of one "
            "data set, or score both on one store with --cache"
        )
    stores = [open_store(run, cache) for run in runs]
    protocols = protocols_for(stores[0].origin.dataset)
    one, two = (score(run, store, split, protocols, device).evidence for run, store in zip(runs, stores, strict=True))
    found = [item for protocol in protocols for item in differences(one, two, protocol, resampling)]
    return table_of(runs, found, resampling)


def _warn_of_trained_classes(run: Run, store: FeatureCache) -> None:
    """Warn of classes that another store calls unseen and the run was trained on: theirs are no zero-shot scores."""
    own = run.record.features.path
    if store.digest == run.record.features.digest:
        return
    try:
        classes = as_trained(run, FeatureCache.open(own)).classes
    except C3Error:
        LOG.warning(
            "%s cannot be opened: whether %s was trained on classes that %s calls unseen cannot be told",
            own,
            run.id,
            store.location,
        )
        return
    trained = {name for name, seen in zip(classes.names, classes.seen, strict=True) if seen}
    known = [
        name for name, seen in zip(store.classes.names, store.classes.seen, strict=True) if not seen and name in trained
    ]
    if known:
        LOG.warning(
            "%s was trained on %d classes that %s calls unseen: %s",
            run.id,
            len(known),
            store.location,
            ", ".join(known),
        )


def _validation(
    run: Run, store: FeatureCache, split: str, protocols: Sequence[Protocol], device: str
) -> Evidence | None:
    """Return the evidence that chooses thresholds, when test is measured.

    None where the validation split has no usable image with a label of a seen class.
    """
    if split != "test" or "val" not in store.splits:
        return None
    labels = store.labels("val").take(np.flatnonzero(store.status("val") == Status.OK))
    if not store.classes.seen[labels.indices[labels.value > 0]].any():
        return None
    return score(run, store, "val", protocols, device).evidence
