"""The `table` kind, the bring-your-own-data door: one csv of image, labels and split. See docs/own-data.md."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ...common.errors import C3Error
from ...common.text_files import class_list
from ..backbone.crop_policies import WHOLE_IMAGE
from ..catalog.specs import DatasetSpec
from ..store.tables import Classes, Rows, SparseLabels
from .manifest import Manifest, ReadOptions

COLUMNS = ("image_path", "labels", "split")
SPLITS = ("train", "val", "test")
SEPARATOR = "|"


def table_manifest(spec: DatasetSpec, _: ReadOptions = ReadOptions()) -> Manifest:
    """Read `table` (csv) and the optional `unseen` and `classes` lists.

    Rows are ordered by split, then by image path, whatever the order in the file. Raises C3Error naming file and line.
    """
    path = spec.file("table")
    table = _read_table(path)
    positive = [_names(cell) for cell in table["labels"]]
    negative = [_names(cell) for cell in table["negatives"]] if "negatives" in table else [[]] * len(table)
    names = _class_names(spec, positive, negative)
    index = {name: c for c, name in enumerate(names)}
    _check_rows(path, table, positive, negative, index)
    unseen = set(class_list(spec.file("unseen"))) if "unseen" in spec.options else set()
    if unseen - set(names):
        raise C3Error(
            f"{spec.file('unseen')}: unseen classes that {path} does not use: {', '.join(sorted(unseen - set(names)))}"
        )
    seen = np.array([name not in unseen for name in names], bool)
    classes = Classes(tuple(names), seen, np.empty((len(names), 0), np.float32))

    order = table.sort_values("image_path", kind="stable").index
    splits = {}
    for split in SPLITS:
        rows = [row for row in order if table["split"][row] == split]
        if not rows:
            continue
        paths = np.array(table["image_path"][rows].tolist(), dtype=object)
        labels = SparseLabels.from_lists(
            ([index[name] for name in positive[row]], [index[name] for name in negative[row]]) for row in rows
        )
        crops = np.tile(np.array(WHOLE_IMAGE, np.float32), (len(rows), 1))
        splits[split] = Rows(paths, crops, labels, path=paths)
    return Manifest(spec.name, spec.folder("images"), spec.labelling, classes, splits)


def table_classes(spec: DatasetSpec) -> tuple[Classes, tuple[str, ...]]:
    """The classes that the table uses, or those of the `classes` list; no class has a key besides its name."""
    return table_manifest(spec).classes, ()


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:  # pandas raises ValueError for every malformed csv
        raise C3Error(f"{path} cannot be read as csv: {str(error).strip()}") from error
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise C3Error(
            f"{path}: expected the columns {', '.join(COLUMNS)}; found {', '.join(table)}; missing {missing[0]}"
        )
    if table.empty:
        raise C3Error(f"{path} has no rows below its header")
    return table


def _class_names(spec: DatasetSpec, positive: list[list[str]], negative: list[list[str]]) -> list[str]:
    if "classes" in spec.options:
        return class_list(spec.file("classes"))
    return sorted({name for row in (*positive, *negative) for name in row})


def _check_rows(
    path: Path, table: pd.DataFrame, positive: list[list[str]], negative: list[list[str]], index: dict[str, int]
) -> None:
    """Refuse what would read outside the images folder, leak between splits, or name a class that does not exist."""
    seen: dict[str, int] = {}
    for row, (image, split) in enumerate(zip(table["image_path"], table["split"], strict=True)):
        line = row + 2  # the header is line 1
        if not image or PurePosixPath(image).is_absolute() or ".." in PurePosixPath(image).parts or "\\" in image:
            raise C3Error(f"{path} line {line}: image_path {image!r} must be relative, with '/' and without '..'")
        if split not in SPLITS:
            raise C3Error(f"{path} line {line}: split must be one of {', '.join(SPLITS)}, found {split!r}")
        if image in seen:
            raise C3Error(f"{path} line {line}: {image} is listed already in line {seen[image]}; an image has one row")
        seen[image] = line
        for name in (*positive[row], *negative[row]):
            if name not in index:
                raise C3Error(f"{path} line {line}: label {name!r} is not in the list of classes")
        both = set(positive[row]) & set(negative[row])
        if both:
            raise C3Error(f"{path} line {line}: {sorted(both)[0]!r} is both in labels and in negatives")


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(SEPARATOR) if name.strip()]
