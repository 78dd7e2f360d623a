"""The settings of a catalog entry, typed and frozen: data sets of every kind, word vectors, weights, official files.

Each class is the schema of its entries (`parse.py` turns what does not fit into one line) and what the readers work on.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from ...common.catalog_file import BUILT_IN
from ...common.errors import C3Error
from ...common.files import require_file
from ...common.unicode_forms import clean_name, on_disk
from ...common.user_paths import expanded

NAME_BYTES = 200  # of a data set: the name of a run folder has its method, seed and hash too


@dataclass(frozen=True)
class Surroundings:
    """What an entry is read with: the folder where its relative paths start, and the vectors of every name."""

    base: Path
    vectors: Callable[[str], VectorSpec]


def _expand(value: object, base: Path | None) -> str:
    """Return a path with `~` and `$VARIABLE` replaced, unless a file of exactly that name is below `base`.

    ValueError says what was expected.
    """
    if isinstance(value, Path):
        return str(value)
    if not isinstance(value, str):
        raise ValueError("the name of a file or folder")
    return value if "$" in value and base and os.path.lexists(base / value) else expanded(value)


def _below_base(value: object, info: ValidationInfo) -> Path:
    base = info.context.base if isinstance(info.context, Surroundings) else Path()
    return on_disk(base / _expand(value, base))


def _below_root(value: object, info: ValidationInfo) -> str:
    return _expand(value, info.data.get("root"))


def _named_vectors(value: object, info: ValidationInfo) -> object:
    if isinstance(value, VectorSpec) or value is None:
        return value
    if not isinstance(value, str) or not isinstance(info.context, Surroundings):
        raise ValueError("a name of the section `vectors`")
    return info.context.vectors(value)


def _part_of_a_file_name(value: str) -> str:
    if not value.strip() or set(value) & set("/\0\t\n\r") or len(value.encode()) > NAME_BYTES:
        raise ValueError(f"a name of 1 to {NAME_BYTES} bytes without / and line breaks, for run folders bear it")
    return value


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


BelowBase = Annotated[Path, BeforeValidator(_below_base)]
Place = Annotated[str, BeforeValidator(_below_root)]  # below the root of the data set
VectorKind = Literal["text", "word2vec", "npz", "npy", "pickle"]
DatasetName = Annotated[str, AfterValidator(_part_of_a_file_name)]
ClassName = Annotated[str, AfterValidator(clean_name)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Spec(BaseModel):
    """Settings that cannot be changed, without any that the class does not name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VectorSpec(Spec):
    """Where word vectors are and how to read them.

    `kind` is a format of `words/vector_files.py` (`text` is that of GloVe and fastText); without it, the content of the
    file decides. `names` are the files that name the rows of arrays without names. With `lookup` `words` a class may be
    the mean of its words; `names` takes whole names only, as for text embeddings of the classes. `dim` is the length of
    a vector, where the entry states it.
    """

    name: str
    kind: VectorKind | None = None
    path: BelowBase
    names: Annotated[tuple[BelowBase, ...], BeforeValidator(_one_or_many)] = ()
    lookup: Literal["words", "names"] = "words"
    source: str = ""
    dim: Annotated[int, Field(ge=1)] | None = None


class WeightSpec(Spec):
    """A file with a torchvision state_dict for `backbone`."""

    name: str
    backbone: str
    path: BelowBase


class FileSpec(Spec):
    """An official file or folder: where it belongs below the root of the data set, and where it comes from.

    `url` is its plain official address, where `c3 fetch` finds it. `instead` are other files that serve as well, all of
    them together. An `optional` file may be missing.
    """

    path: Place
    source: str = ""
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    instead: tuple[Place, ...] = ()
    optional: bool = False

    @property
    def origin(self) -> str:
        """Return the address, else the words of the catalog about where the file comes from."""
        return self.url or self.source


class ImageUrls(Spec):
    """A list of image addresses, its format, and the folder that `c3 fetch --images` fills (default: `images`)."""

    path: Place
    format: Literal["openimages", "nuswide", "table"]
    folder: Place | None = None


class DatasetSpec(Spec):
    """The settings that data sets of every kind have. Places of files are relative to `root`.

    `counts` are official numbers that the files must match. `leak_cosine` is the cosine of two class vectors from which
    an unseen class counts as a near duplicate of a seen one. `catalog` is the file that holds the entry.
    """

    name: DatasetName
    catalog: Path = Path()
    kind: str
    root: BelowBase
    labelling: Literal["complete", "verified"] = Field("complete", alias="labels")
    vectors: Annotated[VectorSpec | None, BeforeValidator(_named_vectors)] = None
    title: str = ""
    source: str = ""
    files: tuple[FileSpec, ...] = ()
    counts: dict[str, int] = {}
    images: Place = "."
    image_urls: ImageUrls | None = None
    leak_cosine: Annotated[float, Field(ge=-1, le=1)] | None = None

    @property
    def check(self) -> str:
        """Return the command that checks the files of the data set."""
        own = [] if self.catalog in (BUILT_IN, Path()) else ["--catalog", str(self.catalog)]
        return shlex.join(["c3", *own, "catalog", "check", self.name])

    def expect(self, count: str, found: int, where: object) -> None:
        """Refuse a count that differs from what the official documents state (`counts` in the catalog)."""
        expected = self.counts.get(count, found)
        if found != expected:
            raise C3Error(
                f"{where}: {count.replace('_', ' ')}: expected {expected:,} (the official count), found {found:,}; the "
                f"file is incomplete or another edition. See: {self.check}"
            )

    def official(self, place: str) -> Path:
        """Return an official file below the root; a missing one is refused with the next command."""
        return require_file(self.root / place, f"data set {self.name}", self.check)

    def own(self, setting: str, place: str | None) -> Path:
        """Return the file that the user named in `setting`; a missing file or setting is refused."""
        if place is None:
            raise C3Error(f"catalog {self.catalog}: datasets.{self.name}: the setting {setting!r} is missing")
        return require_file(self.root / place, f"data set {self.name}: {setting} file")

    @property
    def images_root(self) -> Path:
        """Return the place of the images folder, which may be missing."""
        return on_disk(self.root / self.images)

    def images_folder(self) -> Path:
        """Return the folder of the images; a missing one is refused with the next command."""
        folder = self.images_root
        if not folder.is_dir():
            raise C3Error(
                f"data set {self.name}: images folder {folder} {'is a file' if folder.exists() else 'does not exist'}; "
                f"if it has moved, change the setting 'images' in the catalog. See: {self.check}"
            )
        return folder


class TableSpec(DatasetSpec):
    """A csv of images, labels and splits, and lists of the unseen and of all classes. The demo is one, drawn by c3.

    `label_separator` stands between the labels in a cell of the csv.
    """

    kind: Literal["table", "demo"]
    table: Place | None = None  # images can be fetched before there is one
    label_separator: Annotated[str, Field(min_length=1)] = "|"
    classes: Place | None = None
    unseen: Place | None = None


class NusWideSpec(DatasetSpec):
    """NUS-WIDE: which classes, how many images of train to hold out as `val`, and where the official files are."""

    kind: Literal["nuswide"]
    classes: Literal["concepts"] | None = None
    validation: Annotated[int, Field(ge=0)] = 0
    images: Place = "Flickr"
    concepts: Place = "ConceptsList/Concepts81.txt"
    tags: Place = "NUS_WID_Tags/TagList1k.txt"
    tag_folder: Place = "NUS_WID_Tags"
    groundtruth: Place = "Groundtruth"
    train_images: Place = "ImageList/TrainImagelist.txt"
    test_images: Place = "ImageList/TestImagelist.txt"
    all_images: Place = "ImageList/Imagelist.txt"


class BoxedSpec(DatasetSpec):
    """A data set with boxes.

    `box_margin` is the context added on every side, as a share of the box's side (clipped at the image's edge).
    `box_min_side` is the smallest side of a box, as a share of the image's side; smaller boxes make no row.
    """

    box_margin: Share = 0.1
    box_min_side: Share = 0.05


class OpenImagesSpec(BoxedSpec):
    """Open Images: where the official files are, and `unseen`, a list of MIDs in place of the 400 of LESA and BiAM."""

    kind: Literal["openimages"]
    images: Place = "images"
    unseen: Place | None = None
    trainable: Place = "classes-trainable.txt"
    descriptions: Place = "class-descriptions.csv"
    unseen_labels: Place = "unseen_labels.pkl"
    unseen_top: Place = "top_400_unseen.csv"
    train_human: Place = "train-annotations-human-imagelabels.csv"
    val_human: Place = "validation-annotations-human-imagelabels.csv"
    test_human: Place = "test-annotations-human-imagelabels.csv"
    train_machine: Place = "train-annotations-machine-imagelabels.csv"
    train_boxes: Place = "train-annotations-bbox.csv"
    val_boxes: Place = "validation-annotations-bbox.csv"
    test_boxes: Place = "test-annotations-bbox.csv"
    val_list: Place = "validation-images-with-rotation.csv"
    test_list: Place = "test-images-with-rotation.csv"


class CocoYears(Spec):
    """The official set, such as train2017, that serves as a split; a split without one does not exist."""

    train: str = "train2017"
    val: str = ""
    test: str = "val2017"


class CocoSpec(BoxedSpec):
    """COCO: the classes of a zero-shot split, and annotation files whose places differ from the official ones.

    With `drop_unseen_images`, images of train that show an unseen class are left out.
    """

    kind: Literal["coco"]
    years: CocoYears = CocoYears()
    seen: tuple[ClassName, ...] = ()
    unseen: tuple[ClassName, ...] = ()
    drop_unseen_images: bool = False
    train_annotations: Place | None = None
    val_annotations: Place | None = None
    test_annotations: Place | None = None


KINDS: dict[str, type[DatasetSpec]] = {
    "table": TableSpec,
    "demo": TableSpec,
    "nuswide": NusWideSpec,
    "openimages": OpenImagesSpec,
    "coco": CocoSpec,
}
