"""The catalog: names of data sets, word vectors and weights -> their specs. See data_catalog.yaml."""

from __future__ import annotations

import os
from pathlib import Path

from ...common.catalog_file import Entry, read_catalog
from ...common.errors import C3Error, unknown_name
from ...common.files import require_file
from ...common.unicode_forms import nfc, on_disk, path_text
from .parse import parse
from .specs import KINDS, DatasetSpec, Surroundings, VectorSpec, WeightSpec


class Catalog:
    """The built-in catalog, extended by the user's own file when there is one. Raises C3Error for an unknown name."""

    def __init__(self, user_file: str | Path | None = None) -> None:
        self.user_file = user_file
        self._file = read_catalog(user_file)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Return the names of the data sets."""
        return tuple(self._file.datasets)

    @property
    def weights(self) -> tuple[str, ...]:
        """Return the names of the weights files."""
        return tuple(self._file.weights)

    @property
    def vector_names(self) -> tuple[str, ...]:
        """Return the names of the word vectors."""
        return tuple(self._file.vectors)

    def dataset(self, name: str) -> DatasetSpec:
        """Return the settings of a data set, as the class of its kind."""
        entry = _named(self._file.datasets, "data set", name)
        kind = entry.values.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            found = f"no reader for kind {kind!r}" if kind else "the setting 'kind' is missing"
            raise C3Error(
                f"catalog {entry.file}: datasets.{name}: {found}. Known: {', '.join(KINDS)}; labels of any other form "
                "can be written as a table: docs/own-data.md"
            )
        return parse(KINDS[kind], entry, self._surroundings(entry), catalog=entry.file)

    def vectors(self, name: str) -> VectorSpec:
        """Return where the named word vectors are; the file may be missing."""
        entry = _named(self._file.vectors, "vectors", name)
        return parse(VectorSpec, entry, self._surroundings(entry))

    def weight(self, name: str) -> WeightSpec:
        """Return where the named weights are; the file must exist."""
        entry = _named(self._file.weights, "weights", name)
        spec = parse(WeightSpec, entry, self._surroundings(entry))
        require_file(spec.path, f"weights {name}")
        return spec

    def _surroundings(self, entry: Entry) -> Surroundings:
        return Surroundings(entry.base, self.vectors)


def _named(entries: dict[str, Entry], kind: str, name: str) -> Entry:
    if (name := nfc(path_text(name))) not in entries:
        raise unknown_name(kind, name, entries)
    return entries[name]


def weights_of(backbone: str, weights: str, catalog: Catalog) -> str:
    """Turn a catalog name into its file; return other forms (`imagenet`, `random:SEED`, a file) as they are."""
    if nfc(path_text(weights)) not in catalog.weights:
        return weights
    weight = catalog.weight(weights)
    tagged = (f"{weight.backbone}.", f"{weight.backbone}:")  # a name without tag is that of all its tags
    if backbone != weight.backbone and not backbone.startswith(tagged):
        raise C3Error(f"weights {weight.name} are of {weight.backbone}, not of backbone {backbone}; use others")
    return str(weight.path)


def vectors_of(vectors: str, catalog: Catalog) -> VectorSpec:
    """Return the vectors of a catalog name, else of a file, whose content tells its format."""
    if nfc(path_text(vectors)) in catalog.vector_names:
        return catalog.vectors(vectors)
    path = on_disk(Path(vectors))
    if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise C3Error(f"--vectors {vectors!r}: no such file, and no such name in the catalog's section `vectors`")
    return VectorSpec(name=path.name, path=path)


def listing(user_file: Path | None) -> str:
    """Return the names in the catalog, section by section."""
    catalog = Catalog(user_file)
    lines = ["data sets"]
    for name in catalog.datasets:
        spec = catalog.dataset(name)
        lines.append(f"  {name:<16} {spec.kind:<11} {spec.root}  {spec.title}".rstrip())
    lines += ["weights"] + [f"  {name}" for name in catalog.weights or ("(none; your own catalog may name some)",)]
    return "\n".join(lines)


def show(user_file: Path | None, name: str) -> str:
    """Return the settings of one data set, a line each, with its paths resolved."""
    spec = Catalog(user_file).dataset(name)
    shown = (spec.model_fields_set | {"labelling"}) - {"files", "counts", "vectors"}
    lines = [f"{field:<10} {getattr(spec, field)}" for field in type(spec).model_fields if field in shown]
    lines += [f"{'vectors':<10} {spec.vectors.path}"] if spec.vectors else []
    lines += [f"{'count':<10} {key.replace('_', ' ')} {value:,}" for key, value in spec.counts.items()]
    return "\n".join(lines + [f"{'file':<10} {spec.root / file.path}" for file in spec.files])
