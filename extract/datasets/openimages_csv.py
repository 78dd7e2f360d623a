"""Read the annotation files of Open Images in pieces of `STEP` rows into columns of numbers.

The train file has 27.9 million rows: an entry takes 8 bytes for the image, 4 for the class and 1 for the value.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ...common.errors import C3Error
from ...common.files import require_file
from ...common.progress import progress

STEP = 1 << 20  # rows of a piece
ID_DIGITS = 16
LABEL_COLUMNS = ("ImageID", "Source", "LabelName", "Confidence")
IMAGE_COLUMNS = ("ImageID",)
BOX_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_NIBBLE = np.full(256, 255, np.uint8)
_NIBBLE[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


@dataclass(frozen=True)
class Labels:
    """The columns of an image label file, one entry for every row about a known class.

    image (entries,) uint64, column (entries,) int32 class index, value (entries,) int8 +1 or -1; `images` are the
    sorted ids of all images in the file, uint64; `rows`, `positives` and `negatives` count the rows of the file.
    """

    image: np.ndarray
    column: np.ndarray
    value: np.ndarray
    images: np.ndarray
    rows: int
    positives: int
    negatives: int


@dataclass(frozen=True)
class Boxes:
    """The columns of a box file, one entry for every row about a known class; `rows` counts the rows of the file.

    image (boxes,) uint64, column (boxes,) int32 class index, corners (boxes, 4) float32 x0, y0, x1, y1 in 0..1.
    """

    image: np.ndarray
    column: np.ndarray
    corners: np.ndarray
    rows: int


def read_labels(path: Path, mids: Sequence[str], human: bool = True) -> Labels:
    """Read an image label file for the classes `mids`, in their order.

    Human labels are +1 (Confidence 1) or -1 (Confidence 0). Machine labels are +1, whatever their confidence, never
    negatives. Raises C3Error naming the line of an id that is not 16 lower-case hexadecimal digits, of a confidence out
    of range, and of a missing value.
    """
    index = pd.Index(mids)
    parts, images = [], []
    counts = np.zeros(3, np.int64)
    for first, piece in _pieces(path, LABEL_COLUMNS):
        image, unique = _image_ids(piece["ImageID"], path, first)
        confidence = _confidence(piece["Confidence"], path, first, human)
        value = np.where(confidence > 0, 1, -1).astype(np.int8)
        counts += len(piece), (value > 0).sum(), (value < 0).sum()
        column = _columns(piece["LabelName"], index)
        known = column >= 0
        parts.append((image[known], column[known], value[known]))
        images.append(unique)
    image, column, value = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Labels(image, column, value, np.unique(np.concatenate(images)), *counts.tolist())


def read_boxes(path: Path, mids: Sequence[str]) -> Boxes:
    """Read a box file, with or without the columns of later editions, for the classes `mids`, in their order.

    Raises C3Error naming the line of a box that lies outside its image, has no area, or is not a number.
    """
    index = pd.Index(mids)
    parts, rows = [], 0
    for first, piece in _pieces(path, BOX_COLUMNS):
        image, _ = _image_ids(piece["ImageID"], path, first)
        corners = np.stack([piece[name].to_numpy(np.float32) for name in ("XMin", "YMin", "XMax", "YMax")], axis=1)
        inside = ((corners >= 0) & (corners <= 1)).all(axis=1) & (corners[:, :2] < corners[:, 2:]).all(axis=1)
        if not inside.all():
            row = int(np.flatnonzero(~inside)[0])
            x0, y0, x1, y1 = (f"{edge:.6g}" for edge in corners[row])
            raise C3Error(
                f"{path} line {first + row}: a box needs 0 <= min < max <= 1, found XMin {x0}, XMax {x1}, "
                f"YMin {y0}, YMax {y1}"
            )
        column = _columns(piece["LabelName"], index)
        known = column >= 0
        parts.append((image[known], column[known], corners[known]))
        rows += len(piece)
    image, column, corners = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Boxes(image, column, corners, rows)


def read_images(path: Path) -> np.ndarray:
    """Return the sorted ids (images,) uint64 of an image list; only its column ImageID is read."""
    return np.unique(
        np.concatenate([_image_ids(piece["ImageID"], path, first)[1] for first, piece in _pieces(path, IMAGE_COLUMNS)])
    )


def id_texts(images: np.ndarray) -> np.ndarray:
    """Write image ids (rows,) uint64 as (rows,) bytes of 16 hexadecimal digits."""
    digits = np.empty((len(images), ID_DIGITS), np.uint8)
    for digit in range(ID_DIGITS):
        nibble = (images >> np.uint64(4 * (ID_DIGITS - 1 - digit))) & np.uint64(15)
        digits[:, digit] = np.frombuffer(b"0123456789abcdef", np.uint8)[nibble.astype(np.uint8)]
    return digits.view(f"S{ID_DIGITS}")[:, 0]


def _pieces(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield the rows of a csv in pieces, each with the line number of its first row; only corners are numbers."""
    require_file(path, "annotation file")
    _require_header(path, columns)
    numbers = {name: np.float64 for name in columns if name[0] in "XY"}
    first, size = 2, path.stat().st_size >> 20
    try:
        # our own handle tells the progress bar how much has been read
        with path.open("rb") as file, progress(f"reading {path.name}", size, "MiB") as bar:
            pieces = pd.read_csv(
                file,
                usecols=list(columns) if columns != LABEL_COLUMNS else None,
                dtype={name: numbers.get(name, str) for name in columns},
                na_filter=False,
                skip_blank_lines=False,
                chunksize=STEP,
                encoding="utf-8-sig",
            )
            for piece in pieces:
                yield first, piece
                first += len(piece)
                bar.advance((file.tell() >> 20) - bar.done)
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        raise C3Error(f"{path} cannot be read as csv: {str(error).strip()}") from error
    except ValueError as error:
        raise _not_a_number(path, columns, error) from error
    if first == 2:
        raise C3Error(f"{path} has no rows below its header; download it again")


def _require_header(path: Path, columns: tuple[str, ...]) -> None:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        row = next(reader, header)
    missing = [name for name in columns if name not in header]
    if missing or (columns == LABEL_COLUMNS and tuple(header) != columns):
        raise C3Error(
            f"{path} line 1: expected the header {','.join(columns)}, found {','.join(header)[:200] or 'nothing'}"
        )
    if len(row) > len(header):  # pandas would take the first value as an index
        raise C3Error(f"{path} line 2: expected {len(header)} values, found {len(row)}")


def _not_a_number(path: Path, columns: tuple[str, ...], error: ValueError) -> C3Error:
    """Find the line that pandas could not convert. Slow, but used only for an error message."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        for row in (reader := csv.DictReader(file)):
            for name in columns:
                if name[0] in "XY" and not _is_finite(row[name]):
                    return C3Error(f"{path} line {reader.line_num}: {name} must be a number, found {row[name]!r}")
    return C3Error(f"{path} cannot be read: {error}")


def _is_finite(text: str | None) -> bool:
    try:
        return math.isfinite(float(text or ""))
    except ValueError:
        return False


def _image_ids(column: pd.Series, path: Path, first: int) -> tuple[np.ndarray, np.ndarray]:
    """Parse a column of ids; return (rows,) uint64 and the sorted unique ids."""
    code, unique = pd.factorize(column)
    names = np.asarray(unique, dtype=f"U{ID_DIGITS + 1}")
    points = names.view(np.uint32).reshape(len(names), ID_DIGITS + 1)
    nibbles = _NIBBLE[np.where(points < 256, points, 0)]
    valid = (nibbles[:, :ID_DIGITS] < 16).all(axis=1) & (points[:, ID_DIGITS] == 0)
    if not valid.all():
        bad = int(np.flatnonzero(~valid)[0])
        line = first + int(np.flatnonzero(code == bad)[0])
        raise C3Error(
            f"{path} line {line}: an image id has {ID_DIGITS} hexadecimal digits (0-9, a-f), found {str(unique[bad])!r}"
        )
    ids = np.zeros(len(names), np.uint64)
    for digit in range(ID_DIGITS):
        ids = (ids << np.uint64(4)) | nibbles[:, digit]
    return ids[code], np.sort(ids)


def _confidence(column: pd.Series, path: Path, first: int, human: bool) -> np.ndarray:
    """Parse a column of confidences; return (rows,) float64."""
    code, unique = pd.factorize(column)
    numbers = pd.to_numeric(pd.Series(unique), errors="coerce").to_numpy(np.float64)
    valid = np.isin(numbers, (0, 1)) if human else (numbers > 0) & (numbers <= 1)
    if not valid.all():
        bad = int(np.flatnonzero(~valid)[0])
        line = first + int(np.flatnonzero(code == bad)[0])
        expected = "0 or 1" if human else "a number above 0 and at most 1"
        raise C3Error(f"{path} line {line}: Confidence must be {expected}, found {str(unique[bad])!r}")
    return numbers[code]


def _columns(labels: pd.Series, index: pd.Index) -> np.ndarray:
    """Return (rows,) int32 class indices, -1 for classes that are not in the index."""
    code, unique = pd.factorize(labels)
    return index.get_indexer(unique)[code].astype(np.int32)
