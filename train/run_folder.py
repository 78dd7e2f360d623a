"""CONTRACT 2: the run folder `runs/<id>/`. Reading it needs no torch; the layout is in docs/run-format.md."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import C3Error
from ..common.files import write_text, writing
from ..extract.store.tables import Classes

SCHEMA = 2  # of run.json
METRICS_SCHEMA = 2  # of metrics.json, which is measured again more cheaply than a model is trained
RECORD, METRICS, LOG, WEIGHTS, PER_CLASS = "run.json", "metrics.json", "log.csv", "weights.safetensors", "per_class.csv"
CLASSES, THRESHOLDS = "classes.npz", "thresholds.csv"
CHECKPOINT = "checkpoint.safetensors"  # of an unfinished run
BACKBONE, FEATURES = "backbone.safetensors", "features.zarr"  # of a run whose backbone was tuned, and where it computes


@dataclass(frozen=True)
class Run:
    """One trained model: `record` is run.json; `metrics` is metrics.json, or None until `c3 evaluate`."""

    path: Path
    record: dict[str, Any]
    metrics: dict[str, Any] | None

    @property
    def id(self) -> str:
        return self.record["id"]

    @property
    def method(self) -> str:
        return self.record["method"]

    @property
    def seed(self) -> int:
        return self.record["config"]["seed"]

    @property
    def dataset(self) -> str:
        return self.record["cache"]["dataset"]

    @property
    def weights_asked(self) -> str:
        """What names the weights of its backbone: those in its own folder, else the name its store was asked for by."""
        own = self.path / BACKBONE
        return str(own) if own.is_file() else self.record["cache"]["weights_asked"]

    @property
    def zero_shot(self) -> bool:
        """Whether the method can score classes that it was not trained on."""
        return self.record["zero_shot"]

    @property
    def finished(self) -> bool:
        return self.record["status"] == "finished"

    def require_finished(self) -> None:
        """Refuse a run that is not whole."""
        if not self.finished:
            raise C3Error(
                f"{self.path} is not finished (status {self.record['status']}); finish it with c3 train first"
            )


def open_run(path: str | Path) -> Run:
    """Read one run folder. Raises C3Error when it is missing, damaged or of another schema.

    A metrics.json of an older schema counts as not measured.
    """
    path = Path(path)
    if not (path / RECORD).exists():
        raise C3Error(
            f"{path} is not a run folder (it has no {RECORD}); train one with: c3 train --cache features.zarr"
        )
    record = _read_json(path / RECORD)
    return Run(path, record, read_metrics(path))


def read_metrics(path: Path, split: str = "test") -> dict[str, Any] | None:
    """What a run folder says of one split of its own store; None where it was not measured, or by an older c3."""
    file = path / (METRICS if split == "test" else f"{Path(METRICS).stem}-{split}.json")
    metrics = _read_json(file, 1, METRICS_SCHEMA) if file.exists() else None
    return metrics if metrics and metrics["schema"] == METRICS_SCHEMA else None


def list_runs(root: str | Path) -> list[Run]:
    """Every run below `root`, oldest first; an absent or empty root gives none."""
    found = [open_run(record.parent) for record in sorted(Path(root).glob(f"*/{RECORD}"))]
    return sorted(found, key=lambda run: run.record["created"])


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a json file of a run folder whole."""
    write_text(path, json.dumps({"schema": SCHEMA, **content}, indent=2) + "\n")


def write_csv(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Replace a csv file whole; every line has the columns of the first."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())


def _read_json(path: Path, oldest: int = SCHEMA, newest: int = SCHEMA) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise C3Error(f"{path} cannot be read as json ({error})") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if not isinstance(found, int) or not oldest <= found <= newest:
        raise C3Error(f"{path} has schema {found}, this c3 reads schema {newest}; evaluate or train it again")
    return content


def write_classes(folder: Path, classes: Classes) -> None:
    """Write classes.npz into a run folder: name (classes,) text, seen (classes,) bool, vector (classes, d_w) float32.

    The vectors are those of the store, as read: not normalised.
    """
    with writing(folder / CLASSES) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, name=np.array(classes.names), seen=classes.seen, vector=classes.vectors)


def read_classes(run: Run) -> Classes:
    """The classes of the store that a run was trained on. Raises C3Error when the file is missing or damaged."""
    path = run.path / CLASSES
    if not path.exists():
        raise C3Error(f"{path} is missing: the run was trained by an older c3, or copied in part; train it again")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            name, seen, vector = archive["name"], archive["seen"], archive["vector"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise C3Error(f"{path} is damaged ({type(error).__name__}); train the run again") from error
    trained = run.record["inputs"]
    expected = (trained["classes"], (len(name), trained["d_w"]))
    if (int(seen.sum()), vector.shape) != expected or seen.shape != name.shape or not np.isfinite(vector).all():
        raise C3Error(
            f"{path} does not belong to run {run.id}: expected {trained['classes']} seen classes and vectors of "
            f"{trained['d_w']} finite numbers, found {int(seen.sum())} and {vector.shape}; train the run again"
        )
    return Classes(tuple(name.tolist()), seen, vector)
