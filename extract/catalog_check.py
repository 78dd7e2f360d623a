"""`c3 catalog check`: check that a data set is complete on this disk and matches its official counts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import C3Error
from ..common.unicode_forms import on_disk
from .catalog.catalog import Catalog
from .catalog.specs import DatasetSpec, FileSpec, TableSpec
from .datasets.kinds import reader_of
from .datasets.read import vector_coverage


@dataclass(frozen=True)
class Check:
    """The lines of the report, and whether the data set is complete and right."""

    lines: tuple[str, ...]
    complete: bool

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check(user_file: Path | None, name: str) -> Check:
    """Check every file of a data set, count what the files hold, and look up the word vectors of its classes.

    The report shows origin and place of a missing file. Files with a known sha256 are hashed, and counts are compared
    with those of the official documents.
    """
    spec = Catalog(user_file).dataset(name)
    lines, problems = [], 0
    for file in (*spec.files, *_own_files(spec)):
        finding = _finding(spec, file)
        problems += not finding.startswith(("ok", "not there"))
        lines.append(f"{finding:<8} {spec.root / file.path}")
    if spec.vectors and not spec.vectors.path.exists():
        problems += 1
        origin = f"from {spec.vectors.source}; " if spec.vectors.source else ""
        lines.append(f"missing (word vectors, {origin}your own catalog may name others): {spec.vectors.path}")
    missing = problems > 0
    for look in (_counts, _coverage) if spec.vectors and spec.kind != "demo" else (_counts,):
        try:
            findings, wrong = look(spec)
        except C3Error as error:  # unknown: the report already names the missing file as a problem
            findings, wrong = [f"{'unknown' if missing else 'wrong':<8} {error}"], 1
        lines, problems = lines + findings, problems + wrong
    return Check(tuple(lines), not problems)


def _own_files(spec: DatasetSpec) -> list[FileSpec]:
    """Return the files that the settings of a table name; data sets with official files list them in their entries."""
    if spec.files or not isinstance(spec, TableSpec):
        return []
    source = "c3 extract, which draws it" if spec.kind == "demo" else ""
    places = (spec.table, spec.images, spec.classes, spec.unseen)
    # not validated again: the places are those of files already
    return [FileSpec.model_construct(path=place, source=source) for place in places if place not in (None, ".")]


def _finding(spec: DatasetSpec, file: FileSpec) -> str:
    path = on_disk(spec.root / file.path)
    if not path.exists():
        if file.instead and all(on_disk(spec.root / other).exists() for other in file.instead):
            return f"ok (instead: {', '.join(file.instead)})"
        other = f"; or in its place {', '.join(file.instead)}" if file.instead else ""
        size = f", {file.size:,} bytes" if file.size else ""
        origin = f" (from {file.origin}{size}{other})" if file.origin else ""
        command = f"; download it with: c3 fetch {spec.name}" if file.url else ""
        return f"{'not there, optional' if file.optional else 'missing'}{origin}{command}:"
    if path.is_dir():
        return "ok" if any(path.iterdir()) else f"empty folder (from {file.origin}):"
    found = path.stat().st_size
    if file.size is not None and found != file.size:
        return f"{found:,} bytes, expected {file.size:,} (from {file.origin}):"
    if file.sha256 is not None and (digest := sha256(path)) != file.sha256:
        return f"sha256 {digest[:16]}..., expected {file.sha256[:16]}... (from {file.origin}):"
    return "ok" + (f" {found:,} bytes, sha256 as known" if file.sha256 else "")


def _counts(spec: DatasetSpec) -> tuple[list[str], int]:
    """Return one line per count, and how many differ from the official ones."""
    lines, wrong = [], 0
    for name, found in reader_of(spec).counts().items():
        expected = spec.counts.get(name, found)
        wrong += expected != found
        stated = ", as stated officially" if name in spec.counts else ""
        verdict = f"ok       {{}}{stated}" if expected == found else f"wrong    {{}}, expected {expected:,}"
        lines.append(verdict.format(f"{name.replace('_', ' ')}: {found:,}"))
    return lines, wrong


def _coverage(spec: DatasetSpec) -> tuple[list[str], int]:
    """Return lines on the word vectors of the classes, and how many classes have none."""
    coverage = vector_coverage(spec)
    return [f"vectors  {line}" for line in coverage.lines()], len(coverage.missing)


def sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
