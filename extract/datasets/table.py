"""Read your own data: one csv of image path, labels and split, the kind `table`. See docs/own-data.md."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ...common.errors import C3Error
from ...common.text_files import class_list
from ..catalog.specs import TableSpec
from ..store.tables import Classes, SparseLabels
from .manifest import Manifest, ReadOptions, whole_images

COLUMNS = ("image_path", "labels", "split")
SPLITS = ("train", "val", "test")
SEPARATOR = "|"


def table_manifest(spec: TableSpec, _: ReadOptions = ReadOptions()) -> Manifest:
    """Read `table` (csv) and the optional lists `unseen` and `classes`.

    Rows are ordered by split, then by image path, whatever their order in the file. Raises C3Error naming file and
    line.
    """
    path = spec.own("table", spec.table)
    table = _read_table(path)
    positive = [_names(cell) for cell in table["labels"]]
    negative = [_names(cell) for cell in table["negatives"]] if "negatives" in table else [[]] * len(table)
    names = _class_names(spec, positive, negative)
    index = {name: c for c, name in enumerate(names)}
    _check_rows(path, table, positive, negative, index)
    unseen = set(_list("unseen", spec, spec.unseen))
    if unused := sorted(unseen - set(names)):
        listed = spec.own("unseen", spec.unseen)
        raise C3Error(f"{listed}: unseen classes that {path} does not use: {', '.join(unused)}")
    seen = np.array([name not in unseen for name in names], bool)
    classes = Classes(tuple(names), seen, np.empty((len(names), 0), np.float32))

    order = table.sort_values("image_path", kind="stable").index
    splits = {}
    for split in SPLITS:
        rows = [row for row in order if table["split"][row] == split]
        if not rows:
            continue
        labels = SparseLabels.from_lists(
            ([index[name] for name in positive[row]], [index[name] for name in negative[row]]) for row in rows
        )
        splits[split] = whole_images(np.array(table["image_path"][rows].tolist(), dtype=object), labels)
    return Manifest(spec.name, spec.images_folder(), spec.labelling, classes, splits)


def table_classes(spec: TableSpec) -> tuple[Classes, tuple[str, ...]]:
    """Return the classes of the list `classes`, or those that the table uses; they have no other keys than names."""
    return table_manifest(spec).classes, ()


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas raises ValueError for every malformed csv
        raise C3Error(f"{path} cannot be read as csv: {str(error).strip()}") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        found = ", ".join(map(str, table))
        raise C3Error(f"{path}: expected the columns {', '.join(COLUMNS)}; found {found}; missing {missing[0]}")
    if table.empty:
        raise C3Error(f"{path} has no rows below its header")
    return table


def _class_names(spec: TableSpec, positive: list[list[str]], negative: list[list[str]]) -> list[str]:
    return _list("classes", spec, spec.classes) or sorted({name for row in (*positive, *negative) for name in row})


def _list(setting: str, spec: TableSpec, place: str | None) -> list[str]:
    """Return the class names in the file that a setting names; none without the setting."""
    return [] if place is None else class_list(spec.own(setting, place))


def _check_rows(
    path: Path, table: pd.DataFrame, positive: list[list[str]], negative: list[list[str]], index: dict[str, int]
) -> None:
    """Refuse a path outside the images folder, an image in two rows, and a label that is no class."""
    seen: dict[str, int] = {}
    for row, (image, split) in enumerate(zip(table["image_path"], table["split"], strict=True)):
        line = row + 2  # the header is line 1
        if not image or PurePosixPath(image).is_absolute() or ".." in PurePosixPath(image).parts or "\\" in image:
            raise C3Error(f"{path} line {line}: image_path {image!r} must be relative, with '/' and without '..'")
        if split not in SPLITS:
            raise C3Error(f"{path} line {line}: split must be one of {', '.join(SPLITS)}, found {split!r}")
        if image in seen:
            raise C3Error(f"{path} line {line}: {image} is already in line {seen[image]}; an image has one row")
        seen[image] = line
        for name in (*positive[row], *negative[row]):
            if name not in index:
                raise C3Error(f"{path} line {line}: label {name!r} is not in the list of classes")
        both = set(positive[row]) & set(negative[row])
        if both:
            raise C3Error(f"{path} line {line}: {sorted(both)[0]!r} is both in labels and in negatives")


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(SEPARATOR) if name.strip()]
