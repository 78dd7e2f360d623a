"""The results of tagging, and how they are written: as a table, JSON lines, csv, or drawings."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..common.errors import C3Error
from ..common.progress import progress
from ..train.names import LABEL_MAPS

if TYPE_CHECKING:
    from rich.table import Table

    from .sidecars import Sidecars

LOG = logging.getLogger(__name__)
SCHEMA = 2  # of the JSON lines
CSV_COLUMNS = ("image", "status", "rank", "label", "kind", "probability", "score", "threshold", "reason")
NAME_BYTES = 200  # of the name of a picture in that of its drawing: a file has at most 255
DRAWN = 6  # labels of a picture
BAR = 10  # characters of the strength of a label


@dataclass(frozen=True)
class Label:
    """One label of a picture and its score. `kind` is `seen` or `unseen` in training, or `new`.

    `threshold` is what it had to reach, if anything: a probability or a score (`TagOptions.threshold`). `crop` is the
    crop with that score. `response` (7, 7) float32 says where it comes from (`TagOptions.maps`), or is None if
    responses were not asked for. `strength` is the place of the score between the mean over all names that were asked
    for (0) and the best of the picture (1): no probability. `probability` is one, 0..1; None where raw scores were
    asked for, or the run has no calibrated probabilities.
    """

    name: str
    kind: str
    score: float
    threshold: float | None = None
    crop: int = 0
    response: np.ndarray | None = field(default=None, repr=False)
    strength: float = 1.0
    probability: float | None = None


@dataclass(frozen=True)
class Tagged:
    """One picture and its labels, best first. `status` is `ok`, or the kind of failure that `reason` explains.

    `pixels` are its crops as the backbone saw them, (224, 224, 3) uint8 each; None if responses were not asked for.
    """

    image: str
    status: str
    reason: str = ""
    labels: tuple[Label, ...] = ()
    pixels: tuple[np.ndarray, ...] | None = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the picture could be read."""
        return self.status == "ok"


def publish(
    found: Iterable[Tagged],
    count: int,
    form: str,
    write: Callable[[str], Any],
    overlay: Path | None = None,
    maps: str = LABEL_MAPS[0],
    sidecars: Sidecars | None = None,
) -> int:
    """Write `count` results and return how many pictures could not be read, or their sidecars not written.

    `form` is table, json or csv; `write` receives texts without a final line break; `overlay` is a folder for drawings,
    and `maps` says what these show; `sidecars` gets the labels of every picture.
    A table is written at the end, other forms line by line. Pictures and sidecars that failed are named in the log.
    Raises C3Error when a drawing cannot be written.
    """
    held: list[Tagged] = []
    forms: dict[str, Callable[[Tagged], str | None]] = {"json": json_line, "csv": csv_lines, "table": held.append}
    if form == "csv":
        write(",".join(CSV_COLUMNS))
    with progress("tag", count, "images") as bar:
        for number, tagged in enumerate(found):
            if not tagged.ok:
                LOG.warning("%s: %s, %s", printable(tagged.image), tagged.status, printable(tagged.reason))
            if overlay is not None and tagged.labels:
                _draw(tagged, overlay / f"{number:04d}-{_cut(Path(tagged.image).stem)}.png", maps)
            if (text := forms[form](tagged)) is not None:
                write(text)
            bar.advance(1, failed=int(not (tagged.ok and _kept(tagged, sidecars))))
        failed = bar.failed
    if form == "table":
        write(table(held))
    if sidecars is not None:
        LOG.info("%s", sidecars.summary())
    return failed


def _kept(tagged: Tagged, sidecars: Sidecars | None) -> bool:
    """Put labels into a sidecar, if there are sidecars; return whether that succeeded, and log why not."""
    if sidecars is not None:
        try:
            sidecars.add(Path(tagged.image), [label.name for label in tagged.labels])
        except C3Error as error:
            LOG.warning("%s", printable(str(error)))
            return False
    return True


def json_line(tagged: Tagged) -> str:
    """Return one JSON object in one line, with non-ASCII characters escaped; docs/tagging.md has the schema."""
    labels = [
        {"label": label.name, "kind": label.kind} | {name: short(value) for name, value in _numbers(label).items()}
        for label in tagged.labels
    ]
    content = {"schema": SCHEMA, "image": tagged.image, "status": tagged.status, "reason": tagged.reason}
    return json.dumps(content | {"labels": labels})


def csv_lines(tagged: Tagged) -> str:
    """Return one csv line for every label, or one line for a picture without labels; no header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    image = printable(tagged.image)
    for rank, label in enumerate(tagged.labels, start=1):
        numbers = ["" if value is None else short(value) for value in _numbers(label).values()]
        writer.writerow([image, tagged.status, rank, label.name, label.kind, *numbers, ""])
    if not tagged.labels:
        writer.writerow([image, tagged.status, "", "", "", "", "", "", printable(tagged.reason)])
    return text.getvalue().rstrip("\n")


def table(found: Iterable[Tagged]) -> str:
    """Return a table with one line for every label, and the failure of pictures that could not be read.

    It shows probabilities where labels have them, and else scores, with a bar of their strength.
    """
    from rich.table import Table

    found = list(found)
    calibrated = any(label.probability is not None for tagged in found for label in tagged.labels)
    shown = Table(box=None, pad_edge=False)
    for name in ("image", "label", "kind"):
        shown.add_column(name, overflow="fold")  # a name is never cut
    shown.add_column("probability" if calibrated else "score", no_wrap=True)
    for tagged in found:
        image = printable(tagged.image)
        if not tagged.labels:
            shown.add_row(image, "(no label)" if tagged.ok else f"({tagged.status})", "", "")
        for rank, label in enumerate(tagged.labels):
            shown.add_row("" if rank else image, label.name, label.kind, _bar(label))
    return printed(shown)


def printed(shown: Table) -> str:
    """Return a table of rich as text, as wide as the terminal."""
    from rich.console import Console

    text = io.StringIO()
    Console(
        file=text, width=shutil.get_terminal_size((120, 24)).columns, markup=False, highlight=False, emoji=False
    ).print(shown)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _bar(label: Label) -> str:
    return f"{_told(label)} " + squares(label.strength if label.probability is None else label.probability)


def squares(share: float) -> str:
    """Return one to ten squares for a share, 0..1."""
    return "■" * max(round(BAR * share), 1)


def printable(text: str) -> str:
    """Return a path of any bytes as text that can be printed and encoded."""
    return os.fsencode(text).decode("utf-8", errors="replace")


def _cut(name: str) -> str:
    """Return the start of a name, which leaves room in the name of a file for a number, a suffix and a scratch mark."""
    return os.fsencode(name)[:NAME_BYTES].decode("utf-8", "ignore")


def _numbers(label: Label) -> dict[str, float | None]:
    return {"probability": label.probability, "score": label.score, "threshold": label.threshold}


def short(value: float | None) -> float | None:
    """Round to the six digits that float32 guarantees."""
    return None if value is None else float(f"{value:.6g}")


def _told(label: Label) -> str:
    return f"{label.score:.3f}" if label.probability is None else f"{label.probability:.2f}"


def _draw(tagged: Tagged, path: Path, maps: str) -> None:
    from ..evaluate.report.figures import draw_responses, save_as

    shown = [(label, label.response) for label in tagged.labels[:DRAWN] if label.response is not None]
    figure = draw_responses(
        [tagged.pixels[label.crop] for label, _ in shown] if tagged.pixels else [],
        [response for _, response in shown],
        [f"{label.name}\n{label.kind}, {_told(label)}" for label, _ in shown],
        maps,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise C3Error(f"cannot write {path}: {error.strerror or error}") from error
    save_as(figure, path)
