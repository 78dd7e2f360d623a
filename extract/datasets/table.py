"""Read your own data: one csv of image path, labels and split, the kind `table`. See docs/own-data.md."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

import numpy as np

from ...common.csv_files import CsvFile
from ...common.errors import C3Error, clipped
from ...common.text_files import class_list, tidy_path
from ...common.unicode_forms import nfc, on_disk
from ..catalog.specs import TableSpec
from ..store.tables import Classes, SparseLabels
from .label_cells import LabelCells, joined_names
from .manifest import Manifest, ReadOptions, whole_images
from .same_files import same_files

LOG = logging.getLogger(__name__)
COLUMNS = ("image_path", "labels", "split")
NEGATIVES = "negatives"
SPLITS = ("train", "val", "test")
SHOWN = 5  # names in a line of the log


@dataclass
class _Table:
    """The columns of a table, one entry per row: lines, paths as written and in NFC, splits, and names of classes."""

    line: list[int] = field(default_factory=list)
    path: list[str] = field(default_factory=list)
    image: list[str] = field(default_factory=list)
    split: list[str] = field(default_factory=list)
    positive: list[tuple[str, ...]] = field(default_factory=list)
    negative: list[tuple[str, ...]] = field(default_factory=list)


def table_manifest(spec: TableSpec, _: ReadOptions = ReadOptions()) -> Manifest:
    """Read `table` (csv) and the optional lists `unseen` and `classes`.

    Rows are ordered by split, then by image path, whatever their order in the file. Paths are kept as they are written;
    ids are the paths in NFC. Raises C3Error naming file and line.
    """
    path = spec.own("table", spec.table)
    root = spec.images_folder()
    table, listed, unseen = _read(spec)
    names = listed or sorted(set(chain(*table.positive, *table.negative)))
    if unused := sorted(set(unseen) - set(names)):
        listed_in = spec.own("unseen", spec.unseen)
        raise C3Error(f"{listed_in}: unseen classes that {path} does not use: {', '.join(unused)}")
    if not listed and (joined := joined_names(names)):
        LOG.warning(
            "%s: labels that may be several labels in one: %s; set label_separator in datasets.%s if they are",
            path, ", ".join(map(repr, joined[:SHOWN])), spec.name,
        )  # fmt: skip
    _require_own_files(path, root, table)
    seen = ~np.isin(np.array(names, object), list(unseen))
    classes = Classes(tuple(names), seen, np.empty((len(names), 0), np.float32))
    index = {name: c for c, name in enumerate(names)}
    splits = {}
    for split in SPLITS:
        rows = sorted(
            (row for row, found in enumerate(table.split) if found == split), key=lambda row: table.image[row]
        )
        if rows:
            labels = _labels([table.positive[row] for row in rows], [table.negative[row] for row in rows], index)
            splits[split] = whole_images([table.path[row] for row in rows], [table.image[row] for row in rows], labels)
    return Manifest(spec.name, root, spec.labelling, classes, splits)


def table_classes(spec: TableSpec) -> tuple[Classes, tuple[str, ...]]:
    """Return the classes of the list `classes`, or those that the table uses; they have no other keys than names."""
    return table_manifest(spec).classes, ()


def table_counts(spec: TableSpec) -> dict[str, int]:
    """Return the number of images of every split, of images without any label, and of seen and unseen classes."""
    manifest = table_manifest(spec)
    splits, seen = manifest.splits, int(manifest.classes.seen.sum())
    without = sum(int((np.diff(rows.labels.indptr) == 0).sum()) for rows in splits.values())
    return {f"{split}_images": len(rows) for split, rows in splits.items()} | {
        "images_without_a_label": without,
        "seen_classes": seen,
        "unseen_classes": len(manifest.classes) - seen,
    }


def table_paths(spec: TableSpec) -> list[str]:
    """Return the image paths of a table in the order of its rows."""
    return _read(spec)[0].path


def _read(spec: TableSpec) -> tuple[_Table, list[str], list[str]]:
    """Read the csv, and the lists of all and of the unseen classes, which may be empty."""
    listed, unseen = _list("classes", spec, spec.classes), _list("unseen", spec, spec.unseen)
    entry = f"datasets.{spec.name}"
    if spec.catalog == Path():  # of `c3 import-features --table`
        entry += f" of a catalog and give --dataset {spec.name} in place of --table"
    cells = LabelCells(spec.label_separator, frozenset(listed), frozenset(unseen), entry)
    return _read_table(spec.own("table", spec.table), spec.images_folder(), cells), listed, unseen


def _list(setting: str, spec: TableSpec, place: str | None) -> list[str]:
    """Return the class names in the file that a setting names; none without the setting."""
    return [] if place is None else class_list(spec.own(setting, place))


def _read_table(path: Path, root: Path, cells: LabelCells) -> _Table:
    """Read the csv. Raises C3Error for a row that does not fit, and for an image or label that cannot be."""
    file = CsvFile(path, COLUMNS, "table")
    _report_columns(file)
    image_place, labels_place, split_place = (file.columns.index(name) for name in COLUMNS)
    negatives_place = file.columns.index(NEGATIVES) if NEGATIVES in file.columns else None
    table, first = _Table(), dict[str, int]()
    for fields, line, last_line in file:
        image, labels, split = fields[image_place], fields[labels_place], fields[split_place]
        try:
            if last_line > line:
                _refuse_swallowed_rows(root, file, fields, image, last_line)
            if split not in SPLITS:
                raise ValueError(f"split must be one of {', '.join(SPLITS)}, found {split!r}")
            image = _image_path(image)
            composed = nfc(image)
            if first.setdefault(composed, line) != line:
                raise ValueError(f"{image} is already in line {first[composed]}; an image has one row")
            positive = cells.names(labels)
            negative = cells.names(fields[negatives_place]) if negatives_place is not None else ()
            if negative and (both := set(positive) & set(negative)):
                raise ValueError(f"{min(both)!r} is both in labels and in negatives")
        except ValueError as fault:
            raise C3Error(f"{path} line {line}: {fault}") from fault
        table.line.append(line)
        table.path.append(image)
        table.image.append(composed)
        table.split.append(split)
        table.positive.append(positive)
        table.negative.append(negative)
    if not table.line:
        raise C3Error(f"{path} has no rows below its header")
    return table


def _report_columns(file: CsvFile) -> None:
    """Name the columns that are not read; refuse one that is nearly called like `negatives`, where there is none.

    A column that differs from one of the four in case or blanks alone is refused too; others are further columns.
    """
    known = (*COLUMNS, NEGATIVES)
    missing = [name for name in known if name not in file.columns]
    others = [name for name in file.columns if name.strip() and name not in known]
    for name in others:
        plain = name.strip().casefold()
        if near := [plain] if plain in known else get_close_matches(plain, missing, n=1, cutoff=0.9):
            raise C3Error(f"{file.path}: column {name!r} is not read. Did you mean {near[0]!r}? Rename or delete it")
    if others:
        LOG.info("%s: columns that are not read: %s", file.path, clipped(", ".join(others)))


def _image_path(text: str) -> str:
    """Return `tidy_path` of an image; nearly all are tidy, which is quicker to see than to make."""
    odd = "//" in text or "./" in text or ":" in text or "\\" in text or not text.isascii()
    if odd or text[:1] in ("", "/") or text[-1] in "/.":
        try:
            return tidy_path(text)
        except ValueError as fault:
            raise ValueError(f"image_path: {fault}") from fault
    return text


def _refuse_swallowed_rows(root: Path, file: CsvFile, fields: list[str], image: str, last_line: int) -> None:
    """Refuse a quote that was left open and so takes further rows for text; a caption may have several lines.

    A path has them only where such a file exists. A field that took further rows holds the delimiters of one at least,
    and a split between them; `train` alone in a line is a word like others.
    """
    swallowed = any(
        value.count(file.delimiter) >= len(file.columns) - 1
        and any(part in SPLITS for line in value.splitlines() for part in line.split(file.delimiter))
        for value in fields
        if "\n" in value or "\r" in value
    )
    broken = "\n" in image or "\r" in image
    if swallowed or (broken and not os.path.exists(on_disk(root / image))):  # noqa: PTH110 - Path.exists raises for long names
        raise ValueError(
            f"a quote opens here and closes in line {last_line}, with rows between; close it where its field ends"
        )


def _require_own_files(path: Path, root: Path, table: _Table) -> None:
    """Refuse one file under two paths. Links to one file are refused across splits only: copies are often stored so."""
    for first, second in same_files(root, table.image):
        where = f"{path} line {table.line[second]}: {table.path[second]} is the file {table.path[first]}"
        folded = table.image[first].casefold() == table.image[second].casefold()
        if folded or table.split[first] != table.split[second]:
            raise C3Error(f"{where} of line {table.line[first]}; an image has one row")


def _labels(
    positive: Sequence[Sequence[str]], negative: Sequence[Sequence[str]], index: dict[str, int]
) -> SparseLabels:
    """Build the labels of rows from their names, which are distinct in a row."""
    columns, rows, values = [], [], []
    for names, value in ((positive, 1), (negative, -1)):
        columns.append(np.fromiter((index[name] for name in chain.from_iterable(names)), np.int64))
        rows.append(np.repeat(np.arange(len(names)), np.fromiter(map(len, names), np.int64, len(names))))
        values.append(np.full(len(columns[-1]), value, np.int8))
    return SparseLabels.from_pairs(len(positive), np.concatenate(rows), np.concatenate(columns), np.concatenate(values))
