"""What a catalog entry says, frozen: data sets and their files, word vectors, weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.errors import C3Error
from ...common.files import require_file

LABELLINGS = ("complete", "verified")


LOOKUPS = ("words", "names")


@dataclass(frozen=True)
class VectorSpec:
    """Where word vectors are and how to read them.

    `kind` is one of vectorfiles.KINDS (`text` is the GloVe and fastText format). `names` are the files that name the
    rows of arrays without names. `lookup` is `words` (a class may be the mean of its words) or `names` (whole names
    only: a file of text embeddings of the classes).
    """

    name: str
    kind: str
    path: Path
    names: tuple[Path, ...] = ()
    lookup: str = "words"
    source: str = ""


@dataclass(frozen=True)
class WeightSpec:
    """Backbone weights in a file: a torchvision state_dict for `backbone`."""

    name: str
    backbone: str
    path: Path


@dataclass(frozen=True)
class FileSpec:
    """An official file or folder: where it belongs below the data set's root, and where it comes from.

    `url` is its plain official address, when it has one that `c3 fetch` can take. `instead` are other files that serve
    as well, all of them together. An `optional` file is fetched, and is not missed.
    """

    path: str
    source: str = ""
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    instead: tuple[str, ...] = ()
    optional: bool = False

    @property
    def origin(self) -> str:
        return self.url or self.source


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
    counts: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    catalog: Path = Path()

    def expect(self, count: str, found: int, where: object) -> None:
        """Refuse a count that differs from what the official documents state (`counts` in the catalog)."""
        expected = self.counts.get(count, found)
        if found != expected:
            raise C3Error(
                f"{where}: {count.replace('_', ' ')}: expected {expected:,} (the official count), found {found:,}; the "
                f"file is incomplete or another edition. See: c3 catalog check {self.name}"
            )

    def path(self, option: str, default: str) -> Path:
        """Where a file or folder of the data set is: as the entry says, else where the official one unpacks."""
        return self.root / str(self.options.get(option, default))

    def official(self, option: str, default: str) -> Path:
        """The existing official file of that place; a missing one is refused with the next command."""
        return require_file(self.path(option, default), f"data set {self.name}", f"c3 catalog check {self.name}")

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
