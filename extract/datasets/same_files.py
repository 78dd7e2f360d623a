"""Find rows that name one file in two ways: through linked folders, linked files, or upper and lower case."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...common.unicode_forms import nfc, on_disk


def same_files(root: Path, images: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield pairs of rows whose images are one file below `root`, the later row second; `images` are distinct paths.

    Every folder is listed once, and no image is opened or asked for its status. Copies of a file are other files.
    """
    yield from _linked(root, images)
    yield from _folded(root, images)


def _linked(root: Path, images: Sequence[str]) -> Iterator[tuple[int, int]]:
    parents = {image.rpartition("/")[0] for image in images}
    real = {parent: os.path.realpath(on_disk(root / parent)) for parent in parents}
    links = {(folder, name): target for folder in set(real.values()) for name, target in _links(folder)}
    if len(set(real.values())) == len(parents) and not links:
        return
    first: dict[str, int] = {}
    for row, image in enumerate(images):
        parent, _, name = image.rpartition("/")
        file = links.get((real[parent], name)) or f"{real[parent]}/{name}"
        if (other := first.setdefault(file, row)) != row:
            yield other, row


def _links(folder: str) -> Iterator[tuple[str, str]]:
    """Yield the name in NFC and the real path of every linked file in a folder."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    yield nfc(entry.name), nfc(os.path.realpath(entry.path))
    except OSError:
        return  # a folder that does not exist or cannot be read: its images will have a status


def _folded(root: Path, images: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield rows whose paths differ in case only, where the file system takes them for one file."""
    if len({image.casefold() for image in images}) == len(images):
        return
    first: dict[str, int] = {}
    for row, image in enumerate(images):
        if (other := first.setdefault(image.casefold(), row)) != row and _one_file(root / images[other], root / image):
            yield other, row


def _one_file(first: Path, second: Path) -> bool:
    try:
        return os.path.samefile(on_disk(first), on_disk(second))  # noqa: PTH121 - and not for one that does not exist
    except (OSError, ValueError):
        return False
