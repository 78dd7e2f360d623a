"""One evaluation -> metrics.json and per_class.csv of a run folder, and a short summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..common.average_precision import Ties, random_average_precision
from ..extract.store.cache import FeatureCache, Status
from ..train.run_folder import (
    METRICS,
    Bootstrap,
    Calibration,
    ClassResult,
    Metrics,
    ProtocolResults,
    Reliability,
    RowCounts,
    Run,
    write_json,
    write_per_class,
)
from .bootstrap import Resampling, bootstrap, intervals
from .calibrate import FoldOffset, calibrated, fold_command, of_fold
from .evidence import Evidence
from .fit_probabilities import fit_probabilities
from .measure import Measured, frequency_floor, measure, random_floor
from .names import NOT_FOR_CHOOSING
from .probabilities import probabilities_of
from .protocol import Protocol
from .reliability import reliability
from .score import Scored
from .thresholds import choose_thresholds
from .truth import Truth


@dataclass(frozen=True)
class Evaluation:
    """What was scored, the validation split of the same store where it can choose thresholds, and how to measure.

    `offsets` are those of calibrated GZSL by protocol. `folds` is the number of folds where the run is one of them.
    """

    store: FeatureCache
    split: str
    scored: Scored
    validation: Evidence | None
    protocols: Sequence[Protocol]
    ties: Ties
    resampling: Resampling
    offsets: Mapping[str, FoldOffset]
    folds: int = 0

    @property
    def chooser(self) -> Evidence | None:
        """Return the evidence that chooses thresholds: the validation split, also where it is itself measured."""
        return self.scored.evidence if self.split == "val" else self.validation


def write_evaluation(run: Run, evaluation: Evaluation, seconds: float) -> Metrics:
    """Measure under every protocol, write the files into the run folder and return the metrics."""
    store, truth = evaluation.store, evaluation.scored.evidence.truth
    measured = [measure(evaluation.scored.evidence, protocol, evaluation.ties) for protocol in evaluation.protocols]
    frequency = training_frequency(store)[np.isin(store.classes.names, truth.names)]
    results = {
        protocol.name: _protocol(evaluation, protocol, result, frequency)
        for protocol, result in zip(evaluation.protocols, measured, strict=True)
    }
    suffix = _suffix(run, evaluation)
    write_per_class(run.path, _per_class(truth, evaluation.protocols[0], measured[0].average_precision), suffix)
    held_out = None
    if evaluation.chooser and store.digest == run.record.features.digest:
        choose_thresholds(run, evaluation.chooser)
        held_out = fit_probabilities(run, evaluation.chooser, evaluation.folds)
    resampling = evaluation.resampling
    metrics = Metrics(
        split=evaluation.split,
        store_digest=store.digest,
        dataset=store.origin.dataset,
        store=store.storage.address,
        device=evaluation.scored.device,
        seconds=round(seconds, 3),
        ms_per_image=evaluation.scored.ms_per_image,
        gflops=evaluation.scored.gflops,
        rows=RowCounts(len(truth.of_row), _masked(store.status(evaluation.split))),
        images=len(truth),
        ties=evaluation.ties,
        bootstrap=Bootstrap(resampling.resamples, resampling.seed, resampling.level),
        protocols=results,
        reliability=_reliability(run, evaluation, held_out),
    )
    # last: its presence says that the evaluation is whole
    write_json(run.path / METRICS.replace(".json", f"{suffix}.json"), metrics.record())
    return metrics


def summary(run: Run, metrics: Metrics) -> str:
    """Return what `c3 evaluate` measured in words: a line for every protocol and task, random scores beside it.

    On val the seen classes come first: their labels may choose settings.
    """
    of_val = metrics.split == "val" and not run.record.of_fold
    lines = [
        f"{run.path} on {metrics.split} of {metrics.store}, {metrics.images:,} images, "
        f"{metrics.ms_per_image:.2f} ms an image on {metrics.device}"
    ]
    if masked := {status.replace("_", " "): count for status, count in metrics.rows.masked.items()}:
        counts = ", ".join(f"{count:,} {status}" for status, count in masked.items())
        lines.append(f"  left out: {sum(masked.values()):,} rows without features ({counts})")
    for protocol, results in metrics.protocols.items():
        for task in sorted(results.tasks, key=lambda task: of_val and task != "seen"):
            values = results.tasks[task]
            if values is None:
                continue
            shown = [
                f"{name} {value:.2f}" + ("" if ends is None else f" [{ends[0]:.2f}, {ends[1]:.2f}]")
                for name, value in values.items()
                if value is not None and (name in ("mAP", "H") or name.startswith("F1"))
                for ends in [results.interval(task, name)]
            ]
            floor = (results.random[task] or {})["mAP"]
            note = f" ({NOT_FOR_CHOOSING})" if of_val and task != "seen" else ""
            lines.append(f"  {protocol} {task.upper():<4} {', '.join(shown)}; random scores: mAP {floor:.2f}{note}")
        if balanced := results.calibrated:
            plain, shifted = balanced.plain, balanced.shifted
            lines.append(
                f"  {protocol} GZSL calibrated by {balanced.folds} folds (seen scores less {balanced.offset:.3g}): "
                f"harmonic R@{balanced.k} {shifted.harmonic:.2f} from {plain.harmonic:.2f}, F1@{balanced.k} "
                f"{shifted.f1:.2f} from {plain.f1:.2f}"
            )
    for kind, found in metrics.reliability.items():
        likely = found.after.likely_error
        lines.append(
            f"  probabilities of {kind} classes: expected calibration error {found.after.error:.4f} from "
            f"{found.before.error:.4f} of raw scores" + ("" if likely is None else f"; of likely labels {likely:.3f}")
        )
    own = metrics.split == "test" and metrics.store_digest == run.record.features.digest
    has_offset = any(results.calibrated for results in metrics.protocols.values())
    if own and run.zero_shot and not has_offset and not run.record.of_fold:
        lines.append(
            "  GZSL is not calibrated: runs of folds with the settings of this run choose the offset; make them: "
            f"{fold_command(run)}"
        )
    return "\n".join(lines)


def _protocol(evaluation: Evaluation, protocol: Protocol, measured: Measured, frequency: np.ndarray) -> ProtocolResults:
    evidence, resampling = evaluation.scored.evidence, evaluation.resampling
    drawn = bootstrap(evidence, protocol, resampling) if resampling.resamples else {}
    return ProtocolResults(
        tasks=measured.tasks,
        intervals=intervals(measured.tasks, drawn, resampling.level),
        random=random_floor(protocol, evidence.truth),
        frequency=frequency_floor(protocol, evidence.truth, frequency),
        calibrated=_calibrated(evaluation, protocol),
    )


def _reliability(run: Run, evaluation: Evaluation, held_out: Reliability | None) -> dict[str, Reliability]:
    """Return the reliability of the split. That of seen classes on `val` is of images left out of the fit."""
    probabilities = probabilities_of(run)
    if probabilities is None:
        return {}
    found = reliability(evaluation.scored.evidence, probabilities)
    return found | {"seen": held_out} if held_out and evaluation.split == "val" else found


def _calibrated(evaluation: Evaluation, protocol: Protocol) -> Calibration | None:
    evidence, k = evaluation.scored.evidence, protocol.ks[0]
    if evaluation.folds and evaluation.split == "val":
        return of_fold(evidence, k, evaluation.folds)
    return calibrated(evidence, evaluation.offsets.get(protocol.name), k)


def training_frequency(store: FeatureCache) -> np.ndarray:
    """Return (classes,) positive training labels of every seen class, 0 for unseen ones and without a training split.

    The label-frequency floor may use no label that training may not use.
    """
    if "train" not in store.splits:
        return np.zeros(len(store.classes), np.int64)
    labels = store.labels("train")
    counts: np.ndarray = np.bincount(labels.indices[labels.value > 0], minlength=len(store.classes))
    return np.where(store.classes.seen, counts, 0)


def _suffix(run: Run, evaluation: Evaluation) -> str:
    """Return what sets the files of another store or another split apart from metrics.json and per_class.csv."""
    store = evaluation.store
    own = store.digest == run.record.features.digest
    elsewhere = "" if own else f"-on-{store.origin.dataset}-{store.digest[:8]}"
    return elsewhere + ("" if evaluation.split == "test" else f"-{evaluation.split}")


def _masked(status: np.ndarray) -> dict[str, int]:
    counts = {kind.name.lower(): int((status == kind).sum()) for kind in Status if kind != Status.OK}
    return {kind: count for kind, count in counts.items() if count}


def _per_class(truth: Truth, protocol: Protocol, precision: np.ndarray) -> list[ClassResult]:
    every = np.ones(len(truth), bool)
    positives, known = truth.positives(every), truth.known(every, protocol.absent(truth))
    floor = random_average_precision(positives, known)
    return [
        ClassResult(
            name=name,
            seen=bool(truth.seen[index]),
            positives=int(positives[index]),
            negatives=int(known[index] - positives[index]),
            unknown=int(len(truth) - known[index]),
            ap=_percent(precision[index]),
            random_ap=_percent(floor[index]),
        )
        for index, name in enumerate(truth.names)
    ]


def _percent(fraction: float) -> float | None:
    return None if np.isnan(fraction) else float(100 * fraction)
