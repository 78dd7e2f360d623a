"""Find the pictures of a COCO file: tools write bare names, folders, whole paths, backslashes and addresses."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ...common.errors import C3Error
from ...common.text_files import relative_path
from ...common.unicode_forms import nfc, on_disk

LOG = logging.getLogger(__name__)
PROBES = 20  # pictures that are looked for in a folder: a few may be lost

Folder = tuple[str, ...]


@dataclass(frozen=True)
class _Name:
    """A file name in parts; `anywhere` says that it does not begin at the images folder (a whole path, an address)."""

    folder: Folder
    file: str
    anywhere: bool


def picture_paths(images: Path, year: str, names: Sequence[str], where: Path) -> list[str]:
    """Return the path below the folder `images` of every file name of a split whose pictures are in `images/year`.

    A bare name lies in that folder. For names with a folder, the disk decides once for all of that folder: the folder
    below `images/year`, below `images`, or what is left of it without its first parts. Names keep their Unicode form.
    Raises C3Error naming a file name that leads out of the folder, and two that are one picture.
    """
    parts = [_parts(name, f"{where} image {name!r}") for name in names]
    some: dict[tuple[Folder, bool], list[str]] = {}
    for part in parts:
        probes = some.setdefault((part.folder, part.anywhere), [])
        if len(probes) < PROBES:
            probes.append(part.file)
    places = {(folder, anywhere): _place(images, year, folder, anywhere, probes)
              for (folder, anywhere), probes in some.items()}  # fmt: skip
    paths = [str(PurePosixPath(*places[part.folder, part.anywhere], part.file)) for part in parts]
    first: dict[str, str] = {}
    for name, path in zip(names, map(nfc, paths), strict=True):
        if path in first:
            also = f", also as {first[path]!r}" if first[path] != name else ""
            raise C3Error(f"{where}: an image is listed twice: {name!r}{also}")
        first[path] = name
    return paths


def _parts(name: str, where: str) -> _Name:
    text, anywhere = name.replace("\\", "/").strip(), False
    if "://" in text:
        text, anywhere = unquote(urlsplit(text).path).lstrip("/"), True
    if text.startswith("/") or text[1:3] == ":/":  # also behind file:///
        text, anywhere = text.removeprefix(text[:2] if text[1:2] == ":" else "").lstrip("/"), True
    *folder, file = PurePosixPath(relative_path(text, where)).parts
    return _Name(tuple(folder), file, anywhere)


def _place(images: Path, year: str, folder: Folder, anywhere: bool, probes: Sequence[str]) -> Folder:
    """Return the folder below `images` that holds the pictures of a folder as written."""
    usual = (year, *folder)
    if not folder and not anywhere:
        return usual
    for place in _candidates(images, year, folder, anywhere):
        if any(_exists(images.joinpath(*place, file)) for file in probes):
            if place != usual:
                LOG.info("pictures of the folder %s are in %s", "/".join(folder), images.joinpath(*place))
            return place
    return next(_candidates(images, year, folder, anywhere))


def _candidates(images: Path, year: str, folder: Folder, anywhere: bool) -> Iterator[Folder]:
    """Yield folders below `images`, the likeliest first; none where another picture of the same name might lie."""
    if year in folder:
        yield folder[folder.index(year) :]
    if not anywhere:
        yield (year, *folder)
        yield folder
    for skipped in range(1, len(folder)):
        tail = folder[skipped:]
        yield (year, *tail)
        yield tail
    if anywhere or folder[-1] == images.name:
        yield (year,)
        yield ()


def _exists(path: Path) -> bool:
    try:
        return on_disk(path).is_file()
    except (OSError, ValueError):  # a name that is too long, or none of this file system
        return False
