"""Read lists of image addresses: the csv of Open Images, NUS-WIDE-urls.txt, or a csv of path and url."""

from __future__ import annotations

import base64
import binascii
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from ...common.csv_files import CsvFile
from ...common.errors import C3Error
from ...common.files import require_file
from ...common.text_files import relative_path
from ..catalog.specs import DatasetSpec, ImageUrls
from .downloader import Target

SUBSETS = {"train": "train", "validation": "val", "test": "test"}


def image_targets(spec: DatasetSpec, splits: tuple[str, ...]) -> Iterator[Target]:
    """Yield the images in the list that the setting `image_urls` of a data set names, of some `splits` or all.

    Raises C3Error naming file and line for a path that leads out of the images folder and for a malformed checksum.
    """
    what = f"data set {spec.name}: list of image addresses"
    path = require_file(spec.root / list_path(spec), what, spec.check)
    return FORMATS[_setting(spec).format](path, image_folder(spec), splits)


def list_path(spec: DatasetSpec) -> str:
    """Return the place of the list of addresses, relative to the root of the data set."""
    return _setting(spec).path


def image_folder(spec: DatasetSpec) -> Path:
    """Return the folder to save the images in."""
    return spec.root / (_setting(spec).folder or (spec.images if "images" in spec.model_fields_set else "images"))


def _setting(spec: DatasetSpec) -> ImageUrls:
    if spec.image_urls is None:
        raise C3Error(
            f"data set {spec.name} in {spec.catalog} has no list of image addresses (image_urls: {{path, format}}); "
            f"see where to get its images: {spec.check}"
        )
    return spec.image_urls


def _openimages(path: Path, folder: Path, splits: tuple[str, ...]) -> Iterator[Target]:
    """Read columns ImageID, Subset, OriginalURL, OriginalSize, OriginalMD5 (base64); save images as SUBSET/ID.jpg."""
    for where, row in _rows(path, ("ImageID", "Subset", "OriginalURL")):
        if splits and SUBSETS.get(row["Subset"]) not in splits:
            continue
        name = relative_path(f"{row['Subset']}/{row['ImageID']}.jpg", where)
        size = row.get("OriginalSize") or ""
        yield Target(
            row["OriginalURL"],
            folder / name,
            size=int(size) if size.isdecimal() else None,
            md5=_md5(row.get("OriginalMD5") or "", where),
            image=True,
        )


def _table(path: Path, folder: Path, splits: tuple[str, ...]) -> Iterator[Target]:
    """Read columns path and url, and optionally split, size and md5 (hexadecimal digits), as a table is read."""
    file = CsvFile(path, ("path", "url"), "list of image addresses")
    for fields, line, _ in file:
        row, where = dict(zip(file.columns, fields, strict=True)), f"{path} line {line}"
        if swallowed := [name for name in ("path", "url") if "\n" in row[name] or "\r" in row[name]]:
            raise C3Error(f"{where}: {swallowed[0]} holds a line break; is a quote open?")
        if splits and row.get("split") not in splits:
            continue
        size = row.get("size") or ""
        name = folder / relative_path(row["path"], where)
        yield Target(row["url"], name, int(size) if size.isdecimal() else None, row.get("md5") or None, image=True)


def _nuswide(path: Path, folder: Path, splits: tuple[str, ...]) -> Iterator[Target]:
    """Read columns Photo_file, Photo_id and addresses of four sizes (`null`: none); take the largest size.

    Photo_file is a path on the authors' own disk; its last two parts, class folder and file name, are kept.
    """
    if splits:
        raise C3Error(f"{path} does not say which split an image belongs to; leave out --splits")
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            fields = line.split()
            if number == 1 or not fields:
                continue
            where = f"{path} line {number}"
            urls = [field for field in fields[2:] if field.startswith("http")]
            parts = fields[0].replace("\\", "/").split("/")[-2:]
            if len(parts) < 2:
                raise C3Error(f"{where}: expected a path with a class folder, found {fields[0]!r}")
            if urls:
                yield Target(urls[0], folder / relative_path("/".join(parts), where), image=True)


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the rows of a list that is too long for the memory; its titles may have several lines and any quotes."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in needed if name not in (reader.fieldnames or ())]
        if missing:
            found = ",".join(reader.fieldnames or ())[:200]
            raise C3Error(f"{path} line 1: expected the columns {', '.join(needed)}, found {found or 'nothing'}")
        for row in reader:
            where = f"{path} line {reader.line_num}"
            if None in row.values():
                raise C3Error(f"{where}: the line ends early; the file is incomplete")
            yield where, row


def _md5(text: str, where: str) -> str | None:
    if not text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except binascii.Error:
        digest = b""
    if len(digest) != 16:
        raise C3Error(f"{where}: OriginalMD5 must be 16 bytes in base64, found {text!r}")
    return digest.hex()


FORMATS: dict[str, Callable[[Path, Path, tuple[str, ...]], Iterator[Target]]] = {
    "openimages": _openimages,
    "nuswide": _nuswide,
    "table": _table,
}
