"""`c3 catalog check`: check that a data set is complete on this disk and matches its official counts."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..common.errors import C3Error
from ..common.unicode_forms import on_disk
from ..common.words import counted
from .catalog.catalog import Catalog
from .catalog.specs import DatasetSpec, FileSpec, TableSpec
from .datasets.kinds import reader_of
from .datasets.read import vector_coverage


@dataclass(frozen=True)
class Check:
    """The lines of the report, what is not as it should be, in words, and the next command or action."""

    lines: tuple[str, ...]
    faults: tuple[str, ...]
    next: str

    @property
    def complete(self) -> bool:
        """Whether the data set is complete and right."""
        return not self.faults

    def __str__(self) -> str:
        return "\n".join(self.lines)


def check(user_file: Path | None, name: str) -> Check:
    """Check every file of a data set, count what the files hold, and look up the word vectors of its classes.

    The report shows origin and place of a missing file. Files with a known sha256 are hashed, and counts are compared
    with those of the official documents.
    """
    spec = Catalog(user_file).dataset(name)
    c3 = shlex.join(["c3", "--catalog", str(user_file)]) if user_file else "c3"
    files = [(file, _finding(spec, file)) for file in (*spec.files, *_own_files(spec))]
    if spec.kind == "demo" and any(finding != "ok" for _, finding in files):
        return Check(("the demo is drawn when it is extracted; no file is needed",), (), _extract(c3, spec))
    wrong = [file for file, finding in files if not finding.startswith(("ok", "not there"))]
    faults = [f"{counted(len(wrong), 'file')} missing or not as expected"] if wrong else []
    counts, differing = _looked_up(_counts, spec, bool(wrong))
    faults += [f"{counted(differing, 'count')} wrong"] if differing else []
    vectors, lost = _vectors(spec, bool(wrong or differing))
    faults += [lost] if lost else []
    parts = {"files": [f"{finding:<8} {spec.root / file.path}" for file, finding in files], "counts": counts}
    parts["vectors"] = vectors
    lines = [line for part, own in parts.items() if own for line in (part, *(f"  {line}" for line in own))]
    return Check(tuple(lines), tuple(faults), _next(c3, spec, wrong, faults))


def _vectors(spec: DatasetSpec, unreadable: bool) -> tuple[list[str], str]:
    """Return lines on the word vectors of the classes, and in words what is wrong with them, if anything is."""
    if spec.kind == "demo":
        return [], ""
    if spec.vectors is None:
        return ["missing: the setting 'vectors', a name of the section `vectors`"], "no word vectors"
    if not spec.vectors.path.exists():
        origin = f" (from {spec.vectors.source})" if spec.vectors.source else ""
        return [f"missing{origin}: {spec.vectors.path}"], f"the word vectors {spec.vectors.path} are missing"
    lines, lost = _looked_up(_coverage, spec, unreadable)
    return lines, f"{counted(lost, 'class', 'classes')} without a vector" if lost else ""


def _looked_up(
    look: Callable[[DatasetSpec], tuple[list[str], int]], spec: DatasetSpec, unreadable: bool
) -> tuple[list[str], int]:
    """Return the lines of a look into the files, and the number of faults.

    Files that cannot be read are one, unless they are known to be wrong.
    """
    try:
        return look(spec)
    except C3Error as error:
        return (["unknown  until the files are as expected"], 0) if unreadable else ([f"wrong    {error}"], 1)


def _next(c3: str, spec: DatasetSpec, wrong: list[FileSpec], faults: list[str]) -> str:
    """Return what to do next: a command, or what no command can do."""
    if not faults:
        return _extract(c3, spec)
    if any(file.url for file in wrong):
        others = "" if all(file.url for file in wrong) else "; place the other files"
        return f"{c3} fetch {shlex.quote(spec.name)}{others}"
    if wrong:
        return "place the files where the lines above expect them"
    return "mend what the lines above name" + (
        ", or name other vectors in your own catalog (docs/datasets.md)" if "vector" in faults[-1] else ""
    )


def _extract(c3: str, spec: DatasetSpec) -> str:
    return f"{c3} extract --dataset {shlex.quote(spec.name)}"


def _own_files(spec: DatasetSpec) -> list[FileSpec]:
    """Return the files that the settings of a table name; data sets with official files list them in their entries."""
    if spec.files or not isinstance(spec, TableSpec):
        return []
    places = (spec.table, spec.images, spec.classes, spec.unseen)
    # not validated again: the places are those of files already
    return [FileSpec.model_construct(path=place) for place in places if place not in (None, ".")]


def _finding(spec: DatasetSpec, file: FileSpec) -> str:
    path = on_disk(spec.root / file.path)
    if not path.exists():
        if file.instead and all(on_disk(spec.root / other).exists() for other in file.instead):
            return f"ok (instead: {', '.join(file.instead)})"
        other = f"; or in its place {', '.join(file.instead)}" if file.instead else ""
        size = f", {file.size:,} bytes" if file.size else ""
        origin = f" (from {file.origin}{size}{other})" if file.origin else ""
        command = f"; download it with: c3 fetch {shlex.quote(spec.name)}" if file.url else ""
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
    return coverage.lines(), len(coverage.missing)


def sha256(path: Path) -> str:
    """Return the sha256 of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
