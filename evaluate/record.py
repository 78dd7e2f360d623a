"""One evaluation -> what is written down of it: metrics.json and per_class.csv of a run folder, and a short summary."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..common.files import write_text
from ..extract.store.cache import FeatureCache, Status
from ..train.run_folder import METRICS, METRICS_SCHEMA, PER_CLASS, Run, write_json
from .bootstrap import Resampling, bootstrap, intervals
from .calibrate import calibrated
from .evidence import Evidence
from .measure import Measured, frequency_floor, measure, random_floor
from .metrics import Ties, random_average_precision
from .protocol import Protocol
from .score import Scored
from .thresholds import write_thresholds
from .truth import Truth


@dataclass(frozen=True)
class Evaluation:
    """What was scored, the validation split of the same store where it can choose something, and how to measure."""

    store: FeatureCache
    split: str
    scored: Scored
    validation: Evidence | None
    protocols: Sequence[Protocol]
    ties: Ties
    resampling: Resampling

    @property
    def chooser(self) -> Evidence | None:
        """The validation split, by which thresholds are chosen; also where it is itself what was scored."""
        return self.scored.evidence if self.split == "val" else self.validation


def write_evaluation(run: Run, evaluation: Evaluation, seconds: float) -> dict[str, Any]:
    """Measure under every protocol, write the files into the run folder and return the content of metrics.json."""
    store, truth = evaluation.store, evaluation.scored.evidence.truth
    measured = [measure(evaluation.scored.evidence, protocol, evaluation.ties) for protocol in evaluation.protocols]
    frequency = training_frequency(store)[np.isin(store.classes.names, truth.names)]
    results = {
        protocol.name: _protocol(evaluation, protocol, result, frequency)
        for protocol, result in zip(evaluation.protocols, measured, strict=True)
    }
    suffix = _suffix(run, evaluation)
    _write_per_class(run, suffix, truth, evaluation.protocols[0], measured[0].average_precision)
    if evaluation.chooser and store.digest == run.record["cache"]["digest"]:
        write_thresholds(run, evaluation.chooser)
    metrics = {
        "schema": METRICS_SCHEMA,
        "split": evaluation.split,
        "cache": store.digest,
        "dataset": store.origin.dataset,
        "path": store.storage.address,
        "device": evaluation.scored.device,
        "seconds": round(seconds, 3),
        "ms_per_image": evaluation.scored.ms_per_image,
        "gflops": evaluation.scored.gflops,
        "rows": {"used": len(truth.of_row), "masked": _masked(store.status(evaluation.split))},
        "images": len(truth),
        "ties": evaluation.ties,
        "bootstrap": vars(evaluation.resampling),
        "protocols": results,
    }
    # last: its presence says that the evaluation is whole
    write_json(run.path / METRICS.replace(".json", f"{suffix}.json"), metrics)
    return metrics


def summary(run: Run) -> str:
    """The metrics that `evaluate` has just put into a run, a line for every protocol and task, random scores beside."""
    metrics: dict[str, Any] = run.metrics or {}
    lines = [
        f"{run.path} on {metrics['split']} of {metrics['path']}, {metrics['images']:,} images, "
        f"{metrics['ms_per_image']:.2f} ms an image on {metrics['device']}"
    ]
    for protocol, results in metrics["protocols"].items():
        for task in (name for name in results["tasks"] if results["tasks"][name]):
            values, interval = results["tasks"][task], results["intervals"].get(task, {})
            shown = [
                f"{name} {value:.2f}" + (" [{:.2f}, {:.2f}]".format(*interval[name]) if name in interval else "")
                for name, value in values.items()
                if value is not None and (name in ("mAP", "H") or name.startswith("F1"))
            ]
            floor = results["random"][task]["mAP"]
            lines.append(f"  {protocol} {task.upper():<4} {', '.join(shown)}; random scores: mAP {floor:.2f}")
        if balanced := results["calibrated"]:
            plain, shifted = balanced["plain"], balanced["shifted"]
            lines.append(
                f"  {protocol} GZSL calibrated on val (seen scores less {balanced['offset']:.3g}): harmonic R@"
                f"{balanced['k']} {shifted['harmonic']:.2f} from {plain['harmonic']:.2f}, F1@{balanced['k']} "
                f"{shifted['f1']:.2f} from {plain['f1']:.2f}"
            )
    return "\n".join(lines)


def _protocol(evaluation: Evaluation, protocol: Protocol, measured: Measured, frequency: np.ndarray) -> dict[str, Any]:
    evidence, resampling = evaluation.scored.evidence, evaluation.resampling
    drawn = bootstrap(evidence, protocol, resampling) if resampling.resamples else {}
    return {
        "tasks": measured.tasks,
        "intervals": intervals(measured.tasks, drawn, resampling.level),
        "random": random_floor(protocol, evidence.truth),
        "frequency": frequency_floor(protocol, evidence.truth, frequency),
        "calibrated": calibrated(evidence, evaluation.validation, protocol.ks[0]),
    }


def training_frequency(store: FeatureCache) -> np.ndarray:
    """(classes,) positive training labels of every seen class, 0 for unseen ones and where there is no training split.

    The label-frequency floor may use no label that training may not use.
    """
    if "train" not in store.splits:
        return np.zeros(len(store.classes), np.int64)
    labels = store.labels("train")
    counts = np.bincount(labels.indices[labels.value > 0], minlength=len(store.classes))
    return counts * store.classes.seen


def _suffix(run: Run, evaluation: Evaluation) -> str:
    """What sets the files of another store or another split apart from metrics.json and per_class.csv."""
    store = evaluation.store
    elsewhere = (
        "" if store.digest == run.record["cache"]["digest"] else f"-on-{store.origin.dataset}-{store.digest[:8]}"
    )
    return elsewhere + ("" if evaluation.split == "test" else f"-{evaluation.split}")


def _masked(status: np.ndarray) -> dict[str, int]:
    counts = {kind.name.lower(): int((status == kind).sum()) for kind in Status if kind != Status.OK}
    return {kind: count for kind, count in counts.items() if count}


def _write_per_class(run: Run, suffix: str, truth: Truth, protocol: Protocol, precision: np.ndarray) -> None:
    every = np.ones(len(truth), bool)
    positives, known = truth.positives(every), truth.known(every, protocol.absent(truth))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["class", "seen", "positives", "negatives", "unknown", "AP", "random AP"])
    floor = random_average_precision(positives, known)
    for index, name in enumerate(truth.names):
        counts = [positives[index], known[index] - positives[index], len(truth) - known[index]]
        shown = ["" if np.isnan(value) else f"{100 * value:.4f}" for value in (precision[index], floor[index])]
        writer.writerow([name, int(truth.seen[index]), *map(int, counts), *shown])
    write_text(run.path / PER_CLASS.replace(".csv", f"{suffix}.csv"), table.getvalue())
