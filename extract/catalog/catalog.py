"""data_catalog.yaml (and the user's own) -> frozen DatasetSpec. Every missing-file error is raised here.

What is on the disk is looked at by check.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...common.catalog_file import Entry, read_catalog
from ...common.errors import C3Error, unknown_name
from ...common.files import require_file
from .specs import LABELLINGS, LOOKUPS, DatasetSpec, FileSpec, VectorSpec, WeightSpec

KIND_OF_SUFFIX = {".npz": "npz", ".pkl": "pickle", ".bin": "word2vec"}  # of a vectors file that no catalog declares
DATASET_KEYS = {"kind", "root", "labels", "vectors", "title", "source", "files", "counts"}


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

    @property
    def vector_names(self) -> tuple[str, ...]:
        return tuple(self._sections["vectors"])

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
            files=tuple(_file(entry, file) for file in values.get("files", ())),
            counts=dict(values.get("counts", {})),
            options={key: value for key, value in values.items() if key not in DATASET_KEYS},
            catalog=entry.file,
        )

    def vectors(self, name: str) -> VectorSpec:
        """The named word vectors."""
        entry = self._entry("vectors", "vectors", name)
        names = entry.values.get("names", [])
        lookup = entry.values.get("lookup", "words")
        if lookup not in LOOKUPS:
            raise C3Error(f"vectors {name} in {entry.file}: lookup must be one of {LOOKUPS}, found {lookup!r}")
        return VectorSpec(
            name=name,
            kind=entry.values.get("kind", "text"),
            path=self._path(entry),
            names=tuple(entry.base / file for file in ([names] if isinstance(names, str) else names)),
            lookup=lookup,
            source=entry.values.get("source", ""),
        )

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


def weights_of(backbone: str, weights: str, catalog: Catalog) -> str:
    """Turn a catalog name into its file; other forms (`imagenet`, `random:SEED`, a file) stay as they are."""
    if weights not in catalog.weights:
        return weights
    weight = catalog.weight(weights)
    if weight.backbone != backbone:
        raise C3Error(f"weights {weight.name} are of {weight.backbone}, not of backbone {backbone}; use others")
    return str(weight.path)


def vectors_of(vectors: str, catalog: Catalog) -> VectorSpec:
    """The vectors of a catalog name, else of a file, whose suffix tells its kind: npz, pkl, bin (word2vec) or text."""
    if vectors in catalog.vector_names:
        return catalog.vectors(vectors)
    path = Path(vectors)
    if not path.is_file():
        raise C3Error(f"--vectors {vectors!r}: no such file, and no such name in the catalog's section `vectors`")
    return VectorSpec(path.name, KIND_OF_SUFFIX.get(path.suffix.lower(), "text"), path)


def _file(entry: Entry, values: dict[str, Any]) -> FileSpec:
    unknown = values.keys() - FileSpec.__dataclass_fields__.keys()
    if unknown or "path" not in values:
        wrong = f"unknown setting {sorted(unknown)[0]!r}" if unknown else "the setting 'path' is missing"
        raise C3Error(f"data set {entry.name} in {entry.file}: a file of the list `files`: {wrong}")
    return FileSpec(**values | {"instead": tuple(values.get("instead", ()))})


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
        if value and key not in ("files", "counts", "options", "vectors")
    ]
    lines += [f"{'vectors':<10} {spec.vectors.path}"] if spec.vectors else []
    lines += [f"{key:<10} {value}" for key, value in spec.options.items()]
    lines += [f"{'count':<10} {key.replace('_', ' ')} {value:,}" for key, value in spec.counts.items()]
    return "\n".join(lines + [f"{'file':<10} {spec.root / file.path}" for file in spec.files])
