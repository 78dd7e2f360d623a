"""A run folder `runs/<id>/`: its files, opening it, and writing its records."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from ...common.errors import C3Error
from ...common.files import unwritable, write_text, writing
from ...common.parsing import parse
from ...extract.store.tables import Classes
from .metrics import METRICS_SCHEMA, Metrics
from .record import SCHEMA, RunRecord, Setting, parse_record

RECORD, METRICS, LOG, WEIGHTS, PER_CLASS = "run.json", "metrics.json", "log.csv", "weights.safetensors", "per_class.csv"
CLASSES, THRESHOLDS, PROBABILITIES = "classes.npz", "thresholds.csv", "probabilities.json"
DRAWN = {"hide_seed", "folds"}  # settings of a run with another class split than that of its store
CHECKPOINT = "checkpoint.safetensors"  # of an unfinished run
FOLDS = "folds"  # the folder beside the runs that holds those of class-wise cross-validation
BACKBONE, FEATURES = "backbone.safetensors", "features.zarr"  # the tuned backbone of a run, and the store it computes
FILES = (RECORD, METRICS, LOG, WEIGHTS, PER_CLASS, CLASSES, THRESHOLDS, CHECKPOINT, BACKBONE, PROBABILITIES)


@dataclass(frozen=True)
class Run:
    """One trained model: `record` is run.json; `metrics` is metrics.json, or None until `c3 evaluate`."""

    path: Path
    record: RunRecord
    metrics: Metrics | None

    @property
    def id(self) -> str:
        """Return the name of the run."""
        return self.record.id

    @property
    def method(self) -> str:
        """Return the name of the method."""
        return self.record.method

    @property
    def seed(self) -> int:
        """Return the seed of the training."""
        return self.record.seed

    @property
    def dataset(self) -> str:
        """Return the name of the data set."""
        return self.record.features.dataset

    @property
    def weights_asked(self) -> str:
        """Return what names the weights of its backbone: a file in its own folder, else what the extraction asked."""
        own = self.path / BACKBONE
        return str(own) if own.is_file() else self.record.features.weights_asked

    @property
    def zero_shot(self) -> bool:
        """Return whether the method can score classes that it was not trained on."""
        return self.record.zero_shot

    @property
    def finished(self) -> bool:
        """Return whether the training has ended."""
        return self.record.status == "finished"

    def require_finished(self) -> None:
        """Refuse a run whose training has not ended."""
        if not self.finished:
            raise C3Error(f"{self.path} is not finished (status {self.record.status}); finish it: {self.train_with()}")

    @property
    def train_again(self) -> str:
        """Return the command that trains this run again, for error messages."""
        return f"{self.train_with()} --overwrite"

    def train_with(self, **changes: Setting) -> str:
        """Return the command that trains this run with some settings changed, for error messages."""
        root = self.path.parent.parent if self.record.of_fold else self.path.parent
        options = f"--seeds {self.seed} --runs {quote(str(root))}"
        if start := self.record.tuned_from:
            return self._with_settings(
                f"finetune {quote(str(root / start.run))} --dataset {quote(self.dataset)} {options}", changes
            )
        return self.on_store("train", options, **changes)

    def on_store(self, name: str, options: str, **changes: Setting) -> str:
        """Return a command with the store, the method, the catalog and the settings of this run, for messages."""
        store = quote(self.record.features.path)
        return self._with_settings(f"{name} --cache {store} --method {self.method} {options}", changes)

    def _with_settings(self, command: str, changes: Mapping[str, Setting]) -> str:
        catalog = f"--catalog {quote(self.record.catalog)} " if self.record.catalog else ""
        said = "".join(f" --set {name}={value}" for name, value in {**self.record.changed, **changes}.items())
        return f"c3 {catalog}{command}{said}"


def evaluate_command(folder: Path, split: str = "test") -> str:
    """Return the command that measures the run of a folder, for messages.

    >>> evaluate_command(Path("my runs/c3"), "val")
    "c3 evaluate --run 'my runs/c3' --split val"
    """
    return f"c3 evaluate --run {quote(str(folder))}{'' if split == 'test' else f' --split {split}'}"


def report_command(runs: Path, options: str = "") -> str:
    """Return the command that prints the tables of a folder of runs, for messages.

    >>> report_command(Path("my runs"), "--figures 4")
    "c3 report --runs 'my runs' --figures 4"
    """
    return f"c3 report --runs {quote(str(runs))}{f' {options}' if options else ''}"


def open_run(path: str | PathLike[str], measured: bool = True) -> Run:
    """Read one run folder. Raises C3Error when it is missing, damaged or written by a newer c3.

    Records of older schemas are read in today's terms. A metrics.json of an older schema counts as not measured. One
    that will be replaced is not read: `measured` is False.
    """
    path = Path(path)
    file = path / RECORD
    if not file.exists():
        raise C3Error(f"{path} is not a run folder (it has no {RECORD}); {_nearest_run(path)}")
    remedy = "train the run again with the command that made it, and --overwrite"
    record = parse_record(read_json(file, SCHEMA, remedy), str(file), remedy)
    return Run(path, record, read_metrics(path) if measured else None)


def _nearest_run(path: Path) -> str:
    if path.name == RECORD and path.exists():
        return f"give the folder itself: {path.parent}"
    if inside := sorted(path.glob(f"*/{RECORD}")):
        return f"it holds {len(inside)} runs; name one, such as {inside[0].parent}"
    return "train one with: c3 train --cache features.zarr"


def read_metrics(path: Path, split: str = "test") -> Metrics | None:
    """Return what `c3 evaluate` measured on one split of the run's own store, or None where it did not, or an older c3.

    Raises C3Error for a file that is damaged or was written by a newer c3.
    """
    file = path / (METRICS if split == "test" else f"{Path(METRICS).stem}-{split}.json")
    if not file.exists():
        return None
    remedy = f"measure it again: {evaluate_command(path, split)}"
    content = read_json(file, METRICS_SCHEMA, remedy)
    older = content.pop("schema") != METRICS_SCHEMA
    return None if older else parse(Metrics, content, str(file), remedy)


def read_json(path: Path, newest: int, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file whose `schema` is 1 to `newest`. Raises C3Error for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise C3Error(f"{path} cannot be read as json ({error}); {remedy}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= newest:
        newer, has = isinstance(found, int) and found > newest, "no schema" if found is None else f"schema {found}"
        raise C3Error(
            f"{path} has {has}, this c3 reads schema {newest}; " + ("install a newer c3" if newer else remedy)
        )
    return dict(content)


def require_output(path: Path, option: str, made: bool = False) -> None:
    """Raise C3Error where a command cannot write its file, or would replace a file of a run; nothing is written.

    `made` says that the folder of the file will be made.
    """
    if fault := unwritable(path.parent, made):
        raise C3Error(f"{option} {path} cannot be written: {fault}")
    if path.is_dir():
        raise C3Error(f"{option} {path} is a folder; give the name of a file")
    parts = f"{Path(METRICS).stem}-", f"{Path(PER_CLASS).stem}-"
    if (path.parent / RECORD).exists() and (path.name in FILES or path.name.startswith(parts)):
        raise C3Error(f"{option} {path} is a file of a run, which would be lost; give another name")


def list_runs(root: str | Path) -> list[Run]:
    """Return every run below `root`, oldest first; an absent or empty root has none."""
    found = [open_run(record.parent) for record in sorted(Path(root).glob(f"*/{RECORD}"))]
    return sorted(found, key=lambda run: run.record.created)


def best_run(root: str | Path, usable: Callable[[Run], bool] = lambda _: True) -> Run:
    """Return the finished run below `root` with the best mAP of seen classes on validation, the newest of equals.

    Runs that are not `usable`, and those whose unseen classes are drawn, are passed over. Raises C3Error where no run
    has such a score, and where runs are of different data sets or classes: their scores cannot be compared.
    """
    own = [run for run in list_runs(root) if run.finished and not DRAWN & run.record.settings.keys() and usable(run)]
    scored = [(score, run.record.created, run) for run in own if (score := run.record.val_score) is not None]
    if not scored:
        raise C3Error(
            f"{root} holds no finished run with a score on validation; name a run with --run, or train one: "
            "c3 train --cache features.zarr"
        )
    kinds = {(run.dataset, run.record.inputs.classes): run.id for *_, run in scored}
    if len(kinds) > 1:
        raise C3Error(
            f"{root} holds runs of different data sets or classes, whose scores cannot be compared (such as "
            f"{' and '.join(list(kinds.values())[:2])}); name one with --run"
        )
    return max(scored, key=lambda found: found[:2])[-1]


def write_record(folder: Path, record: RunRecord) -> None:
    """Replace the run.json of a folder whole."""
    write_json(folder / RECORD, record.record())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a JSON file whole."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_classes(folder: Path, classes: Classes) -> None:
    """Write classes.npz into a run folder: name (classes,) text, seen (classes,) bool, vector (classes, d_w) float32.

    The vectors are those of the store, as read: not normalised.
    """
    with writing(folder / CLASSES) as scratch, scratch.open("wb") as file:
        np.savez_compressed(file, name=np.array(classes.names), seen=classes.seen, vector=classes.vectors)


def read_classes(run: Run) -> Classes:
    """Return the classes of the store that a run was trained on. Raises C3Error when the file is missing or damaged."""
    path = run.path / CLASSES
    if not path.exists():
        raise C3Error(
            f"{path} is missing: the run was trained by an older c3, or copied in part; train it again: "
            f"{run.train_again}"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            name, seen, vector = archive["name"], archive["seen"], archive["vector"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise C3Error(f"{path} is damaged ({type(error).__name__}); train the run again: {run.train_again}") from error
    trained = run.record.inputs
    expected = (trained.classes, (len(name), trained.d_w))
    if (int(seen.sum()), vector.shape) != expected or seen.shape != name.shape or not np.isfinite(vector).all():
        raise C3Error(
            f"{path} does not belong to run {run.id}: expected {trained.classes} seen classes and vectors of "
            f"{trained.d_w} finite numbers, found {int(seen.sum())} and {vector.shape}; train the run again: "
            f"{run.train_again}"
        )
    return Classes(tuple(name.tolist()), seen, vector)
