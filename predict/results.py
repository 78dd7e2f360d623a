"""What tagging says of pictures, and where it goes: a table to read, JSON lines and csv to go on with, drawings."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import C3Error
from ..common.progress import progress

LOG = logging.getLogger(__name__)
SCHEMA = 1  # of the JSON lines
CSV_COLUMNS = ("image", "status", "rank", "label", "kind", "score", "threshold", "reason")
DRAWN = 6  # labels of a picture


@dataclass(frozen=True)
class Label:
    """One label of a picture: its score, and whether its class was `seen` in training, `unseen` there, or is `new`.

    `threshold` is the score that it had to reach, if one was asked for. `crop` is the crop with that score, and
    `response` (7, 7) float32 are the shares of its positions in it; None unless they were asked for.
    """

    name: str
    kind: str
    score: float
    threshold: float | None = None
    crop: int = 0
    response: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Tagged:
    """One picture: `status` is `ok`, or why it could not be read, in words in `reason`; its labels, best first.

    `pixels` are its crops as the backbone saw them, (224, 224, 3) uint8 each; None unless responses were asked for.
    """

    image: str
    status: str
    reason: str = ""
    labels: tuple[Label, ...] = ()
    pixels: tuple[np.ndarray, ...] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        return self.status == "ok"


@dataclass(frozen=True)
class Output:
    """Where results go: `write` takes texts without a last line break; `form` is table, json or csv.

    `overlay` is a folder for drawings, or None.
    """

    form: str
    write: Callable[[str], Any]
    overlay: Path | None = None


def publish(found: Iterable[Tagged], count: int, output: Output) -> int:
    """Write `count` results, a table at the end, other forms as they come; returns how many could not be read.

    Pictures that could not be read are also named in the log. Raises C3Error when a drawing cannot be written.
    """
    held: list[Tagged] = []
    forms = {"json": json_line, "csv": csv_lines, "table": held.append}
    if output.form == "csv":
        output.write(",".join(CSV_COLUMNS))
    with progress("tag", count, "images") as bar:
        for number, tagged in enumerate(found):
            if not tagged.ok:
                LOG.warning("%s: %s, %s", printable(tagged.image), tagged.status, printable(tagged.reason))
            if output.overlay is not None and tagged.labels:
                _draw(tagged, output.overlay / f"{number:04d}-{Path(tagged.image).stem}.png")
            if (text := forms[output.form](tagged)) is not None:
                output.write(text)
            bar.advance(1, failed=int(not tagged.ok))
        failed = bar.failed
    if output.form == "table":
        output.write(table(held))
    return failed


def json_line(tagged: Tagged) -> str:
    """One JSON object in one line; docs/tagging.md has the schema. Other letters than ASCII are escaped."""
    labels = [
        {"label": label.name, "kind": label.kind, "score": _short(label.score), "threshold": _short(label.threshold)}
        for label in tagged.labels
    ]
    content = {"schema": SCHEMA, "image": tagged.image, "status": tagged.status, "reason": tagged.reason}
    return json.dumps(content | {"labels": labels})


def csv_lines(tagged: Tagged) -> str:
    """A line a label, without the line of column names; a picture without labels has one line with none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    image = printable(tagged.image)
    for rank, label in enumerate(tagged.labels, start=1):
        threshold = "" if label.threshold is None else _short(label.threshold)
        writer.writerow([image, tagged.status, rank, label.name, label.kind, _short(label.score), threshold, ""])
    if not tagged.labels:
        writer.writerow([image, tagged.status, "", "", "", "", "", printable(tagged.reason)])
    return text.getvalue().rstrip("\n")


def table(found: Iterable[Tagged]) -> str:
    """A table for people: a line a label, and what became of pictures that could not be read."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name, side in (("image", "left"), ("label", "left"), ("kind", "left"), ("score", "right")):
        shown.add_column(name, justify=side, overflow="fold")  # a name is never cut
    for tagged in found:
        image = printable(tagged.image)
        if not tagged.labels:
            shown.add_row(image, "(no label)" if tagged.ok else f"({tagged.status})", "", "")
        for rank, label in enumerate(tagged.labels):
            shown.add_row("" if rank else image, label.name, label.kind, f"{label.score:.3f}")
    text = io.StringIO()
    Console(file=text, width=120, markup=False, highlight=False, emoji=False).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def printable(text: str) -> str:
    """A path of any bytes as text that every encoding of a terminal or file can take."""
    return os.fsencode(text).decode("utf-8", errors="replace")


def _short(value: float | None) -> Any:
    """Six digits: what float32 is sure of."""
    return None if value is None else float(f"{value:.6g}")


def _draw(tagged: Tagged, path: Path) -> None:
    from ..evaluate.report.figures import draw_responses, save_as

    shown = tagged.labels[:DRAWN]
    figure = draw_responses(
        [tagged.pixels[label.crop] for label in shown],
        [label.response for label in shown],
        [f"{label.name}\n{label.kind}, {label.score:.3f}" for label in shown],
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise C3Error(f"cannot write {path}: {error.strerror or error}") from error
    save_as(figure, path)
