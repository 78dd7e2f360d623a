"""data_catalog.yaml (and the user's own) -> frozen DatasetSpec. Every missing-file error is raised here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..catalog_file import Entry, read_catalog
from ..errors import C3Error, unknown_name

LABELLINGS = ("complete", "verified")
DATASET_KEYS = {"kind", "root", "labels", "vectors", "title", "source", "files", "counts"}


@dataclass(frozen=True)
class VectorSpec:
    """Where word vectors are: `kind` text is the GloVe / fastText format."""

    name: str
    kind: str
    path: Path


@dataclass(frozen=True)
class WeightSpec:
    """Backbone weights in a file: a torchvision state_dict for `backbone`."""

    name: str
    backbone: str
    path: Path


@dataclass(frozen=True)
class FileSpec:
    """An official file: where it belongs below the data set's root, what it is and where it comes from."""

    path: str
    source: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class DatasetSpec:
    """One data set of the catalog. `options` are the settings that only its `kind` understands."""

    name: str
    kind: str
    root: Path
    labelling: str
    vectors: VectorSpec | None
    title: str = ""
    source: str = ""
    files: tuple[FileSpec, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    catalog: Path = Path()

    def file(self, option: str) -> Path:
        """The existing file that an option names, relative to the root; a missing one is refused."""
        if option not in self.options:
            raise C3Error(f"data set {self.name} in {self.catalog}: the setting {option!r} is missing (a file name)")
        return require_file(self.root / self.options[option], f"data set {self.name}: {option} file")

    def folder(self, option: str) -> Path:
        """The existing folder that an option names (default: the root itself)."""
        path = self.root / self.options.get(option, ".")
        if not path.is_dir():
            raise C3Error(
                f"data set {self.name}: {option} folder {path} does not exist; see: c3 catalog check {self.name}"
            )
        return path


class Catalog:
    """The built-in catalog, extended by the user's own file when there is one."""

    def __init__(self, user_file: str | Path | None = None) -> None:
        self._sections = read_catalog(user_file)

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(self._sections["datasets"])

    @property
    def weights(self) -> tuple[str, ...]:
        return tuple(self._sections["weights"])

    def dataset(self, name: str) -> DatasetSpec:
        """The named data set; an unknown name lists the known ones."""
        entry = self._entry("datasets", "data set", name)
        values = entry.values
        labelling = values.get("labels", "complete")
        if labelling not in LABELLINGS:
            raise C3Error(f"data set {name} in {entry.file}: labels must be one of {LABELLINGS}, found {labelling!r}")
        for key in ("kind", "root"):
            if not isinstance(values.get(key), str):
                raise C3Error(f"data set {name} in {entry.file}: the setting {key!r} is missing (a text)")
        return DatasetSpec(
            name=name,
            kind=values["kind"],
            root=entry.base / values["root"],
            labelling=labelling,
            vectors=self.vectors(values["vectors"]) if "vectors" in values else None,
            title=values.get("title", ""),
            source=values.get("source", ""),
            files=tuple(FileSpec(**file) for file in values.get("files", ())),
            options={key: value for key, value in values.items() if key not in DATASET_KEYS},
            catalog=entry.file,
        )

    def vectors(self, name: str) -> VectorSpec:
        """The named word vectors."""
        entry = self._entry("vectors", "vectors", name)
        return VectorSpec(name, entry.values.get("kind", "text"), self._path(entry))

    def weight(self, name: str) -> WeightSpec:
        """The named weights file; it must exist."""
        entry = self._entry("weights", "weights", name)
        path = require_file(self._path(entry), f"weights {name}")
        return WeightSpec(name, entry.values.get("backbone", ""), path)

    def _entry(self, section: str, kind: str, name: str) -> Entry:
        if name not in self._sections[section]:
            raise unknown_name(kind, name, self._sections[section])
        return self._sections[section][name]

    @staticmethod
    def _path(entry: Entry) -> Path:
        if not isinstance(entry.values.get("path"), str):
            raise C3Error(f"{entry.name} in {entry.file}: the setting 'path' is missing (a file name)")
        return entry.base / entry.values["path"]


def require_file(path: Path, what: str) -> Path:
    """Return `path`, or refuse with what it is and where it was expected."""
    if not path.is_file():
        raise C3Error(f"{what} not found: expected {path}")
    return path


def listing(user_file: Path | None) -> str:
    """The names in the catalog, one section after the other."""
    catalog = Catalog(user_file)
    lines = ["data sets"]
    for name in catalog.datasets:
        spec = catalog.dataset(name)
        lines.append(f"  {name:<16} {spec.kind:<11} {spec.root}  {spec.title}".rstrip())
    lines += ["weights"] + [f"  {name}" for name in catalog.weights or ("(none; your own catalog may name some)",)]
    return "\n".join(lines)


def show(user_file: Path | None, name: str) -> str:
    """One data set's settings, with its paths resolved."""
    spec = Catalog(user_file).dataset(name)
    lines = [
        f"{key:<10} {value}"
        for key, value in vars(spec).items()
        if value and key not in ("files", "options", "vectors")
    ]
    lines += [f"{'vectors':<10} {spec.vectors.path}"] if spec.vectors else []
    lines += [f"{key:<10} {value}" for key, value in spec.options.items()]
    return "\n".join(lines + [f"{'file':<10} {spec.root / file.path}" for file in spec.files])


def check(user_file: Path | None, name: str) -> tuple[str, bool]:
    """A line for every file that a data set needs (`ok`, or what is wrong and its origin), and whether all are ok."""
    spec = Catalog(user_file).dataset(name)
    wanted = [(spec.root / file.path, file) for file in spec.files]
    wanted += [(spec.root / value, None) for value in spec.options.values() if isinstance(value, str)]
    wanted += [(spec.vectors.path, None)] if spec.vectors else []
    findings = [_finding(path, file, spec) for path, file in wanted]
    lines = [f"{finding:<8} {path}" for (path, _), finding in zip(wanted, findings, strict=True)]
    return "\n".join(lines), all(finding == "ok" for finding in findings)


def _finding(path: Path, file: FileSpec | None, spec: DatasetSpec) -> str:
    origin = f" (from {file.source})" if file else " (drawn by c3 extract)" if spec.kind == "demo" else ""
    if not path.exists():
        return f"missing{origin}"
    found = path.stat().st_size
    if file and file.size is not None and found != file.size:
        return f"{found:,} bytes, expected {file.size:,}{origin}"
    return "ok"
