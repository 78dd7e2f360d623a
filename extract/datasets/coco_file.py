"""Read a COCO instances file, whatever tool wrote it, and refuse what cannot be read with the real reason.

Whole images need ids, file names and categories alone: boxes and sizes are kept as they are until boxes are asked for.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from ...common.errors import C3Error
from ...common.file_kinds import HEAD, foreign_kind
from ...common.unicode_forms import clean_name, is_text
from ...common.unpack import open_unpacked

Json: TypeAlias = "dict[str, Json] | list[Json] | _Object | str | float | int | None"
SECTIONS = ("images", "annotations", "categories")


class _Object(NamedTuple):
    """What is kept of an annotation while the file is parsed: outlines take most of the memory."""

    image: Json
    category: Json
    box: Json


@dataclass(frozen=True)
class Instances:
    """One annotation file.

    `categories` are the names in the order of their ids. `files` (images,) are the file names as written, and `sizes`
    (images,) the width and height as written. Object i shows the category `category[i]` in image `image[i]`, both
    (objects,) int64, and has the box `boxes[i]` as written.
    """

    path: Path
    categories: tuple[str, ...]
    files: tuple[str, ...]
    sizes: tuple[tuple[Json, Json], ...]
    image: np.ndarray
    category: np.ndarray
    boxes: tuple[Json, ...]

    def has_box(self, objects: np.ndarray) -> np.ndarray:
        """Return (objects,) bool: whether an object has a bbox; some tools write null or an empty list for none."""
        return np.array([self.boxes[number] not in (None, []) for number in objects.tolist()], bool)

    def corners(self, objects: np.ndarray) -> np.ndarray:
        """Return (objects, 4) float64 x0, y0, x1, y1 as shares of the image; they may lie beyond it.

        Raises C3Error for a box or a size that is none, and for boxes that are shares already.
        """
        boxes = np.array([self._box(number) for number in objects.tolist()], np.float64).reshape(-1, 4)
        if len(boxes) and (np.abs(boxes) <= 1).all():
            raise C3Error(
                f"{self.path}: no number in any bbox is above 1: expected x, y, width and height in pixels, found "
                "shares of the image; multiply them by the width and the height of their image"
            )
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        shares: np.ndarray = corners / np.tile(self.size(self.image[objects]), 2)
        return shares

    def size(self, images: np.ndarray) -> np.ndarray:
        """Return (images, 2) float64 width and height. Raises C3Error for an image without them."""
        unique, place = np.unique(images, return_inverse=True)
        found = [[_finite(side) or 0.0 for side in self.sizes[image]] for image in unique.tolist()]
        sizes: np.ndarray = np.array(found, np.float64).reshape(-1, 2)
        if (bad := np.flatnonzero((sizes <= 0).any(axis=1))).size:
            image = unique[bad[0]]
            width, height = self.sizes[image]
            raise C3Error(
                f"{self.path}: image {self.files[image]!r}: --crops boxes needs its width and height in pixels, found "
                f"width {_shown(width)} and height {_shown(height)}; add them, or use --crops whole"
            )
        return sizes[place]

    def _box(self, number: int) -> tuple[float, ...]:
        """Return x, y, width and height of an object in pixels."""
        box = self.boxes[number]
        values = [_finite(value) for value in box] if isinstance(box, list) else []
        if len(values) != 4 or None in values:
            raise C3Error(
                f"{self.path}: annotation {number} (of {self.files[self.image[number]]!r}): expected a bbox of 4 "
                f"numbers x, y, width, height in pixels, found {_shown(box)}"
            )
        return tuple(value for value in values if value is not None)


def read_instances(path: Path) -> Instances:
    """Read an annotation file; ids may be numbers or texts, and 7, 7.0, "7" and "007" are the same id.

    Raises C3Error for a file that is no COCO instances file, and naming the first entry that is wrong or is listed
    twice.
    """
    content = _parse(path)
    named = [_category(entry, f"{path}: category {n}") for n, entry in enumerate(content["categories"])]
    named.sort(key=lambda category: (not category[0].isdigit(), len(category[0]) * category[0].isdigit(), category[0]))
    categories = _unique([key for key, _ in named], f"{path}: a category is listed twice: id")
    names = _unique([name for _, name in named], f"{path}: a category is listed twice:")
    pictures = [_image(entry, f"{path}: image {n}") for n, entry in enumerate(content["images"])]
    images = _unique([key for key, _, _ in pictures], f"{path}: an image is listed twice: id")
    objects = [_object(entry, f"{path}: annotation {n}") for n, entry in enumerate(content["annotations"])]
    if pictures and not objects:
        raise C3Error(f"{path} lists {len(pictures):,} images and no annotation: every label would be absent")
    return Instances(
        path,
        tuple(names),
        tuple(file for _, file, _ in pictures),
        tuple(size for _, _, size in pictures),
        _places([found.image for found in objects], images, path, "image_id", "an image"),
        _places([found.category for found in objects], categories, path, "category_id", "a category"),
        tuple(found.box for found in objects),
    )


def _parse(path: Path) -> dict[str, list[Json]]:
    """Return the three sections of the file as lists."""
    try:
        with open_unpacked(path) as stream:
            if said := foreign_kind(stream.read(HEAD)):
                raise C3Error(f"{path} is not a COCO instances file: it is {said}")
            stream.seek(0)
            content = json.loads(stream.read(), object_pairs_hook=_lean)  # without a name, the bytes go when decoded
    except UnicodeDecodeError as error:
        raise C3Error(
            f"{path} is not a COCO instances file: byte {error.start} is not in {error.encoding.upper()}; save it in "
            "UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:
        raise C3Error(f"{path} is not a COCO instances file ({error}); is it complete?") from error
    if not isinstance(content, dict):
        found = "a list, as of detection results" if isinstance(content, list) else _shown(content)
        raise C3Error(f"{path} is not a COCO instances file: expected the lists {', '.join(SECTIONS)}, found {found}")
    sections = {}
    for name in SECTIONS:
        section = content.get(name)
        if not isinstance(section, list):
            found = (
                f"{name}: {_shown(section)}" if name in content else f"only {', '.join(map(str, content)) or 'none'}"
            )
            raise C3Error(
                f"{path} is not a COCO instances file: expected the lists {', '.join(SECTIONS)}, found {found[:200]}"
            )
        sections[name] = section
    return sections


def _lean(pairs: list[tuple[str, Json]]) -> dict[str, Json] | _Object:
    item = dict(pairs)
    if len(item) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    if "image_id" in item and "category_id" in item:
        return _Object(item["image_id"], item["category_id"], item.get("bbox"))
    return item


def _category(entry: Json, where: str) -> tuple[str, str]:
    """Return id and name."""
    if not isinstance(entry, dict):
        raise C3Error(f"{where}: expected an object with id and name, found {_shown(entry)}")
    name = entry.get("name")
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if isinstance(name, str):
        name = clean_name(name)
    key = _id(entry.get("id"), f"{where}: id")
    return key, _text(name, f"{where} (id {_shown(entry['id'])}): name")


def _image(entry: Json, where: str) -> tuple[str, str, tuple[Json, Json]]:
    """Return id, file name, and width and height; LVIS has addresses in place of file names."""
    if not isinstance(entry, dict):
        raise C3Error(f"{where}: expected an object with id and file_name, found {_shown(entry)}")
    file = entry.get("file_name") or entry.get("coco_url")
    if not isinstance(file, str):
        where = f"{where} (id {_shown(entry.get('id'))})"
    return (
        _id(entry.get("id"), f"{where}: id"),
        _text(file, f"{where}: file_name"),
        (entry.get("width"), entry.get("height")),
    )


def _object(entry: Json, where: str) -> _Object:
    if isinstance(entry, _Object):
        return entry
    if not isinstance(entry, dict):
        raise C3Error(f"{where}: expected an object with image_id and category_id, found {_shown(entry)}")
    missing = next(name for name in ("image_id", "category_id") if name not in entry)
    raise C3Error(f"{where} (id {_shown(entry.get('id'))}) has no {missing}")


def _places(ids: Sequence[Json], known: dict[str, int], path: Path, field: str, what: str) -> np.ndarray:
    """Return (objects,) int64 the places of ids in `known`."""
    places = np.array([known.get(_key(value) or "", -1) for value in ids], np.int64)
    if (unknown := np.flatnonzero(places < 0)).size:
        number = int(unknown[0])
        raise C3Error(
            f"{path}: annotation {number}: {field} {_shown(ids[number])} is not the id of {what} of this file "
            f"({len(unknown):,} such annotations); its ids are {', '.join(list(known)[:3]) or 'none'} ..."
        )
    return places


def _unique(values: Sequence[str], said: str) -> dict[str, int]:
    """Return the place of every value; refuse a repeated one."""
    places: dict[str, int] = {}
    for place, value in enumerate(values):
        if places.setdefault(value, place) != place:
            raise C3Error(f"{said} {value!r}")
    return places


def _key(value: Json) -> str | None:
    """Return the one form of an id that may be a number or a text; None for what is no id."""
    if isinstance(value, str):
        text = value.strip()
        return (text.lstrip("0") or "0") if text.isascii() and text.isdigit() else (text or None)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _id(value: Json, where: str) -> str:
    key = _key(value)
    if key is None:
        raise C3Error(f"{where}: expected a whole number or a text, found {_shown(value)}")
    return key


def _text(value: Json, where: str) -> str:
    """Return a text that is not blank, and that a file system and a store can hold; refuse anything else."""
    if not isinstance(value, str) or not value.strip() or not is_text(value):
        raise C3Error(f"{where}: expected a text, found {_shown(value)}")
    return value


def _finite(value: Json) -> float | None:
    """Return a finite number as a float, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _shown(value: Json) -> str:
    """Return a value as JSON writes it, cut to one short line; "nothing" stands for null and for what is missing."""
    if value is None:
        return "nothing"
    written: Callable[[Json], str] = json.dumps
    text = written(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
