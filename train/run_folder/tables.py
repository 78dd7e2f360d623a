"""The csv files of a run folder as types: the log of the training, AP of every class, thresholds."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ...common.errors import C3Error
from ...common.files import write_text
from .folder import LOG, PER_CLASS, THRESHOLDS, evaluate_command

Line = TypeVar("Line")
CLASS_COLUMNS = ("class", "seen", "positives", "negatives", "unknown", "AP", "random AP")
THRESHOLD_COLUMNS = ("class", "seen", "positives", "threshold", "F1", "source")


@dataclass(frozen=True)
class LogLine:
    """One epoch of a training: its number from 1, the steps done, and every other logged quantity by its name."""

    epoch: int
    step: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class ClassResult:
    """One class of a measured split: counts of its labels, and its AP and that of random scores in percent, or None."""

    name: str
    seen: bool
    positives: int
    negatives: int
    unknown: int
    ap: float | None
    random_ap: float | None


@dataclass(frozen=True)
class ClassThreshold:
    """The score from which a class is predicted, its positives on validation, its F1 there (0..1), and its source."""

    name: str
    seen: bool
    positives: int
    threshold: float
    f1: float | None
    source: str


def read_log(folder: Path) -> tuple[LogLine, ...]:
    """Return the lines of log.csv; none where there is no such file. Raises C3Error for a damaged one."""
    path = folder / LOG
    if not path.exists():
        return ()

    def parse(line: dict[str, str]) -> LogLine:
        values = {name: float(value) for name, value in line.items() if name not in ("epoch", "step")}
        return LogLine(int(line["epoch"]), int(line["step"]), values)

    return _read(path, parse, "delete it, or train the run again")


def write_per_class(folder: Path, lines: Iterable[ClassResult], suffix: str = "") -> None:
    """Replace per_class.csv, or the file of another split or store (`suffix`); AP with four decimals."""
    cells = (
        [line.name, int(line.seen), line.positives, line.negatives, line.unknown, _decimals(line.ap),
         _decimals(line.random_ap)]
        for line in lines
    )  # fmt: skip
    write_lines(folder / PER_CLASS.replace(".csv", f"{suffix}.csv"), CLASS_COLUMNS, cells)


def read_per_class(folder: Path) -> tuple[ClassResult, ...]:
    """Return the lines of per_class.csv. Raises C3Error where it is missing or damaged."""
    path, remedy = folder / PER_CLASS, f"measure the run again: {evaluate_command(folder)}"
    if not path.exists():
        raise C3Error(f"{path} is missing; {remedy}")

    def parse(line: dict[str, str]) -> ClassResult:
        return ClassResult(
            name=line["class"],
            seen=line["seen"] == "1",
            positives=int(line["positives"]),
            negatives=int(line["negatives"]),
            unknown=int(line["unknown"]),
            ap=_number(line["AP"]),
            random_ap=_number(line["random AP"]),
        )

    return _read(path, parse, remedy)


def write_thresholds(folder: Path, lines: Iterable[ClassThreshold]) -> None:
    """Replace thresholds.csv; thresholds with every digit, F1 with four decimals."""
    cells = (
        [line.name, int(line.seen), line.positives, repr(line.threshold), _decimals(line.f1), line.source]
        for line in lines
    )
    write_lines(folder / THRESHOLDS, THRESHOLD_COLUMNS, cells)


def read_thresholds(folder: Path) -> tuple[ClassThreshold, ...]:
    """Return the lines of thresholds.csv. Raises C3Error where it is missing or damaged."""
    path, command = folder / THRESHOLDS, evaluate_command(folder)
    if not path.exists():
        raise C3Error(
            f"{path} is missing: thresholds are chosen on the validation split by {command}; where the store has no "
            "labelled val images, give a number"
        )

    def parse(line: dict[str, str]) -> ClassThreshold:
        numbers = float(line["threshold"]), _number(line["F1"])
        return ClassThreshold(line["class"], line["seen"] == "1", int(line["positives"]), *numbers, line["source"])

    return _read(path, parse, f"write it again: {command}")


def write_lines(path: Path, columns: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    """Replace a csv file whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(lines)
    write_text(path, text.getvalue())


def write_csv(path: Path, lines: Sequence[Mapping[str, float]]) -> None:
    """Replace a csv file whole; every line has the columns of the first."""
    write_lines(path, list(lines[0]), ([line[name] for name in lines[0]] for line in lines))


def _read(path: Path, parse: Callable[[dict[str, str]], Line], remedy: str) -> tuple[Line, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(parse(line) for line in csv.DictReader(file))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise C3Error(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}") from error


def _number(text: str) -> float | None:
    return float(text) if text else None


def _decimals(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
