"""Read the label files of NUS-WIDE: find those that exist, map their lines to images, and check that they agree."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ...common.errors import C3Error
from ...common.files import require_file
from ...common.text_files import image_list, require_lines
from ..catalog.specs import NusWideSpec
from .bit_tables import read_bits

PARTS = {"train": "Train", "test": "Test"}  # split -> the word in official file names


@dataclass(frozen=True)
class Positives:
    """Positive labels of a split: image `row[i]` of its official list has class `column[i]`, both (entries,) int64."""

    row: np.ndarray
    column: np.ndarray

    @classmethod
    def join(cls, parts: Iterable[Positives]) -> Positives:
        """Join several tables of one split."""
        parts = list(parts)
        return cls(np.concatenate([part.row for part in parts]), np.concatenate([part.column for part in parts]))


class NusWideLabels:
    """The image lists of a NUS-WIDE folder, and the label files whose lines follow these lists.

    Lists and label files are checked as they are read: C3Error names the file and the line.
    """

    def __init__(self, spec: NusWideSpec) -> None:
        self.spec = spec
        self.images = {split: image_list(self._list(part)) for split, part in PARTS.items()}
        both = set(self.images["train"]) & set(self.images["test"])
        if both:
            raise C3Error(f"{self._list('Test')}: {min(both)} is also an image of TrainImagelist.txt")
        for split, part in PARTS.items():
            spec.expect(f"{split}_images", len(self.images[split]), self._list(part))

    @property
    def folder(self) -> Path:
        """Return the folder `TrainTestLabels` if it exists, else `AllLabels`."""
        parent = self.spec.root / self.spec.groundtruth
        for name in ("TrainTestLabels", "AllLabels"):
            if (parent / name).is_dir():
                return parent / name
        raise C3Error(
            f"data set {self.spec.name}: neither TrainTestLabels nor AllLabels found below {parent}; "
            f"see: {self.spec.check}"
        )

    def concepts(self, names: list[str], column: np.ndarray) -> dict[str, Positives]:
        """Read the human labels of the concepts `names`, as classes `column`, for train and test.

        Where both forms of the label files exist, they must agree on every image.
        """
        parts: dict[str, list[Positives]] = {split: [] for split in PARTS}
        whole = self.folder.with_name("AllLabels")
        for name, number in zip(names, column, strict=True):
            if self.folder == whole:
                found = self._cut(self._labels(whole / f"Labels_{name}.txt"), np.array([number]))
            else:
                found = {split: self._part_labels(name, split, number) for split in PARTS}
                if whole.is_dir():
                    self._require_agreement(whole / f"Labels_{name}.txt", number, found)
            for split, positives in found.items():
                parts[split].append(positives)
        return {split: Positives.join(tables) for split, tables in parts.items()}

    def tags(self, column: np.ndarray) -> dict[str, Positives]:
        """Read the Flickr tags for train and test; tag t of TagList1k is class `column[t]`, left out where it is -1."""
        folder = self.spec.root / self.spec.tag_folder
        if (folder / "AllTags1k.txt").is_file():
            return self._cut(folder / "AllTags1k.txt", column)
        tables = {}
        for split, part in PARTS.items():
            path = self._labels(folder / f"{part}_Tags1k.dat")
            lines, row, tag = read_bits(path, len(column))
            require_lines(path, lines, len(self.images[split]), self._list(part))
            known = column[tag] >= 0
            tables[split] = Positives(row[known], column[tag[known]])
        return tables

    def _part_labels(self, name: str, split: str, number: int) -> Positives:
        part = PARTS[split]
        path = self._labels(self.folder / f"Labels_{name}_{part}.txt")
        lines, row, _ = read_bits(path, 1)
        require_lines(path, lines, len(self.images[split]), self._list(part))
        return Positives(row, np.full(len(row), number))

    def _cut(self, path: Path, column: np.ndarray) -> dict[str, Positives]:
        """Divide a file that follows Imagelist.txt, in which train and test are mixed, into the two splits."""
        split_of, row_of = self._places
        lines, row, found = read_bits(path, len(column))
        require_lines(path, lines, len(split_of), self._list(""))
        known = column[found] >= 0
        row, found = row[known], column[found[known]]
        return {
            split: Positives(row_of[row[split_of[row] == number]], found[split_of[row] == number])
            for number, split in enumerate(PARTS)
        }

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray]:
        """Return, for every line of Imagelist.txt, the number of its split in PARTS and its row in that split."""
        rows = enumerate(PARTS)
        place = {image: (number, row) for number, split in rows for row, image in enumerate(self.images[split])}
        path = self._list("")
        every = image_list(path)
        for line, image in enumerate(every, start=1):
            if image not in place:
                raise C3Error(f"{path} line {line}: {image} is neither in TrainImagelist.txt nor in TestImagelist.txt")
        if len(every) != len(place):
            raise C3Error(f"{path} has {len(every):,} images, TrainImagelist.txt and TestImagelist.txt {len(place):,}")
        places = np.array([place[image] for image in every])
        return places[:, 0], places[:, 1]

    def _require_agreement(self, path: Path, number: int, found: dict[str, Positives]) -> None:
        for split, positives in self._cut(self._labels(path), np.array([number])).items():
            differing = np.setxor1d(positives.row, found[split].row)
            if len(differing):
                raise C3Error(
                    f"{path} and TrainTestLabels disagree on {len(differing):,} images of {split}, the first is "
                    f"{self.images[split][differing[0]]}: one of them is out of order. Unpack Groundtruth.zip again"
                )

    def _list(self, part: str) -> Path:
        spec = self.spec
        return spec.official({"Train": spec.train_images, "Test": spec.test_images, "": spec.all_images}[part])

    def _labels(self, path: Path) -> Path:
        return require_file(path, f"data set {self.spec.name}: label file", self.spec.check)
