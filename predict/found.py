"""The results of a search, and how they are written: as a table, JSON lines, csv, or copies of the images."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from ..common.errors import C3Error
from ..common.files import replacing
from ..common.user_paths import NAME_BYTES
from ..common.words import counted
from .results import printable, printed, short, squares

SCHEMA = 1  # of the JSON lines
CSV_COLUMNS = ("word", "kind", "rank", "image", "probability", "score", "split", "id", "row")
WORD_BYTES = 60  # of a word in the name of a copy
COPY_BYTES = NAME_BYTES - 20  # of the name of a copy: its scratch file has a longer one


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


def copies_of(rankings: Sequence[Ranking], folder: Path, images: Path | None = None) -> dict[Path, Hit]:
    """Return where in a folder the image of every hit is copied to, as WORD-RANK-NAME; no two hits share a file.

    Two words that look alike in a file name (a;b and a,b) are numbered, also where only the case differs. `images` is
    the folder of the images that was asked for, if any. Nothing is written. Raises C3Error where a name is taken, and
    where none of the images is there.
    """
    copies: dict[Path, Hit] = {}
    used: set[str] = set()
    for ranking in rankings:
        for number in count(1):
            word = _in_a_name(ranking.word) + (f"-{number}" if number > 1 else "")
            own = {_name_of_copy(word, hit): hit for hit in ranking.hits}
            names = {name.casefold() for name in (word, *own)}
            if used.isdisjoint(names):
                break
        used |= names
        copies |= {folder / name: hit for name, hit in own.items()}
    if taken := [path for path in copies if os.path.lexists(path)]:
        more = f" and {len(taken) - 1} more exist" if taken[1:] else " exists"
        raise C3Error(
            f"{printable(str(taken[0]))}{more} already; nothing is overwritten: give another folder to --copy"
        )
    if copies and not any(hit.there for hit in copies.values()):
        raise C3Error(f"nothing to copy: {lost_images(list(copies.values()), len(copies), images)}")
    return copies


def copy_images(copies: Mapping[Path, Hit], folder: Path, images: Path | None = None) -> str:
    """Copy the images of `copies_of` into a folder, which is made where it is missing; return a line about it.

    Images that are not there are counted. Raises C3Error where one cannot be copied; then none of them stays.
    """
    there = {path: hit for path, hit in copies.items() if hit.there}
    try:
        with ExitStack() as undo:
            for missing in [path for path in (*reversed(folder.parents), folder) if not path.exists()]:
                missing.mkdir()
                undo.callback(missing.rmdir)
            for path, hit in there.items():
                with replacing(path) as scratch:
                    shutil.copyfile(hit.image, scratch)
                undo.callback(path.unlink)
            undo.pop_all()
    except OSError as error:
        raise C3Error(f"cannot copy to {folder}: {error.strerror or error}; no copy stays") from error
    lost = len(copies) - len(there)
    told = f"; {lost_images(list(copies.values()), lost, images)}" if lost else ""
    return f"{folder}: {counted(len(there), 'image')}{told}"


def lost_images(hits: Sequence[Hit], lost: int, images: Path | None, fault: str = "") -> str:
    """Return that `lost` of the images of hits are not there (or have another `fault`), and what to do about it.

    `images` is the folder of the images that was asked for, if any.
    """
    if images is None:
        return (
            f"{lost} of {counted(len(hits), 'image')} are not where the store names them{fault}; c3 search --images "
            "FOLDER says where they are"
        )
    example = next((f", where {printable(hit.image)} was expected" for hit in hits if not hit.there), "")
    return (
        f"{lost} of {counted(len(hits), 'image')} are not in the folder {printable(str(images))} of --images{example}"
        f"{fault}; give --images the folder that holds them"
    )


def _name_of_copy(word: str, hit: Hit) -> str:
    """Return WORD-RANK-NAME, where the name of the image is cut if the whole would be longer than `COPY_BYTES`."""
    head = f"{word}-{hit.rank:03d}-"
    stem, suffix = os.path.splitext(Path(hit.image).name)  # noqa: PTH122 - also of names that no Path takes
    room = COPY_BYTES - len(os.fsencode(head))
    return head + cut(cut(stem, max(room - len(os.fsencode(suffix)), 0)) + suffix, room)


def _in_a_name(word: str) -> str:
    """Return a word as a part of a file name: without signs that a file system may refuse, and not too long."""
    return cut(re.sub(r"[^\w.-]+", "-", word).strip("-."), WORD_BYTES).rstrip("-.") or "word"


def cut(text: str, most: int) -> str:
    """Return the longest beginning of a name that a file system writes in at most `most` bytes.

    >>> cut("seaside", 3), cut("\u6d77\u8fba", 5)
    ('sea', '\u6d77')
    """
    while len(os.fsencode(text)) > most:
        text = text[:-1]
    return text
