"""The results of a search, and how they are written: as a table, JSON lines, csv, or copies of the images."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import C3Error
from ..common.files import replacing
from .results import printable, printed, short, squares

SCHEMA = 1  # of the JSON lines
CSV_COLUMNS = ("word", "kind", "rank", "image", "probability", "score", "split", "id", "row")
NAME_LENGTH = 60  # characters of a word in the name of a copy


@dataclass(frozen=True)
class Hit:
    """One image under a word: its rank from 1, its score, its id, and its file.

    `probability` is that of the score, or None where the run has none, or where scores were asked for.

    `image` is the file as the store names it, or the id where it names none; `there` says whether that file exists.
    `row` of `split` is that of its best crop, and `crop` the place of this in the image (x0, y0, x1, y1 in 0..1).
    """

    rank: int
    probability: float | None
    score: float
    id: str
    image: str
    there: bool
    split: str
    row: int
    crop: tuple[float, float, float, float]


@dataclass(frozen=True)
class Ranking:
    """A word, its kind (`seen` or `unseen` in training, or `new`), and its images, best first."""

    word: str
    kind: str
    hits: tuple[Hit, ...]


def json_line(ranking: Ranking) -> str:
    """Return one JSON object in one line, with non-ASCII characters escaped; docs/search.md has the schema."""
    hits = [
        {
            "rank": hit.rank,
            "image": hit.image,
            "probability": short(hit.probability),
            "score": short(hit.score),
            "split": hit.split,
            "id": hit.id,
            "row": hit.row,
            "crop": [short(side) for side in hit.crop],
        }
        for hit in ranking.hits
    ]
    return json.dumps({"schema": SCHEMA, "word": ranking.word, "kind": ranking.kind, "images": hits})


def csv_lines(ranking: Ranking) -> str:
    """Return one csv line for every image; no header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for hit in ranking.hits:
        writer.writerow([ranking.word, ranking.kind, hit.rank, printable(hit.image),
                         "" if hit.probability is None else short(hit.probability), short(hit.score), hit.split,
                         printable(hit.id), hit.row])  # fmt: skip
    return text.getvalue().rstrip("\n")


def table(rankings: Iterable[Ranking]) -> str:
    """Return a table with one line for every image, below its word: with probabilities, or else scores."""
    from rich.table import Table

    rankings = list(rankings)
    calibrated = any(hit.probability is not None for ranking in rankings for hit in ranking.hits)
    shown = Table(box=None, pad_edge=False)
    for name in ("word", "kind", "rank", "image"):
        shown.add_column(name, overflow="fold", justify="right" if name == "rank" else "left")
    shown.add_column("probability" if calibrated else "score", no_wrap=True)
    for ranking in rankings:
        for hit in ranking.hits:
            head = (ranking.word, ranking.kind) if hit.rank == 1 else ("", "")
            shown.add_row(*head, str(hit.rank), printable(hit.image), told(hit))
    return printed(shown)


def told(hit: Hit) -> str:
    """Return the probability of an image with its bar, or else its score."""
    return f"{hit.score:.3f}" if hit.probability is None else f"{hit.probability:.3f} {squares(hit.probability)}"


def text_of(rankings: Sequence[Ranking], form: str) -> str:
    """Return rankings as a table, as JSON lines or as csv with a header."""
    if form == "table":
        return table(rankings)
    if form == "json":
        return "\n".join(map(json_line, rankings))
    return "\n".join([",".join(CSV_COLUMNS), *map(csv_lines, rankings)])


def copy_images(rankings: Sequence[Ranking], folder: Path) -> str:
    """Copy the images of every word into a folder as WORD-RANK-NAME; return a line about it.

    Images that are not where the store names them are counted. Nothing is overwritten: raises C3Error, before any copy,
    where one of the names is taken, and where the folder cannot be written.
    """
    copies = {
        folder / f"{_in_a_name(ranking.word)}-{hit.rank:03d}-{Path(hit.image).name}": hit
        for ranking in rankings
        for hit in ranking.hits
    }
    if taken := [path for path in copies if os.path.lexists(path)]:
        raise C3Error(
            f"{printable(str(taken[0]))} exists already, and {len(taken) - 1} more; nothing is overwritten: give "
            "another folder to --copy"
        )
    there = {path: hit for path, hit in copies.items() if hit.there}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, hit in there.items():
            with replacing(path) as scratch:
                shutil.copyfile(hit.image, scratch)
    except OSError as error:
        raise C3Error(f"cannot copy to {folder}: {error.strerror or error}") from error
    lost = f"; {len(copies) - len(there)} are not where the store names them" if len(there) < len(copies) else ""
    return f"{folder}: {len(there)} images{lost}"


def _in_a_name(word: str) -> str:
    """Return a word as a part of a file name: without signs that a file system may refuse, and not too long."""
    return re.sub(r"[^\w.-]+", "-", word).strip("-.")[:NAME_LENGTH] or "word"
