"""The manifest: one row per crop, with sparse labels and classes. It fixes the row order of a store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...common.errors import C3Error, unknown_name
from ...common.unicode_forms import nfc
from ..backbone.pictures.crop_policies import BOXES, POLICIES, WHOLE_IMAGE
from ..backbone.pictures.crop_policies import NAMES as CROP_POLICIES
from ..store.origin import Notes
from ..store.tables import Classes, Rows, SparseLabels
from ..store.texts import Texts
from .label_sources import HUMAN

DIGEST_STEP = 1 << 16  # rows hashed at a time
LONGEST = 1 << 10  # characters of a part of a text up to which a block of them is padded to one width


@dataclass(frozen=True)
class ReadOptions:
    """How to read a data set, beyond its catalog entry.

    `crops` is a name of crop_policies.py, `label_source` one of label_sources.py. Classes without a vector are an error
    unless `drop_unknown_classes`. `splits` are those to read, all when empty; files of other splits may be missing.
    """

    crops: str = "whole"
    label_source: str = HUMAN
    drop_unknown_classes: bool = False
    splits: tuple[str, ...] = ()

    def wants(self, split: str) -> bool:
        """Return whether to read a split."""
        return not self.splits or split in self.splits


def unvectored(seen: Sequence[str], unseen: Sequence[str] = ()) -> Classes:
    """Return classes without vectors yet: the seen ones, then the unseen ones."""
    names = (*seen, *unseen)
    return Classes(names, np.arange(len(names)) < len(seen), np.empty((len(names), 0), np.float32))


def whole_images(path: list[str] | Texts, image_id: list[str] | Texts, labels: SparseLabels) -> Rows:
    """Return rows of whole images; `path` and `image_id` are (rows,) text, held once where the lists are equal."""
    crops = np.broadcast_to(np.array(WHOLE_IMAGE, np.float32), (len(path), 4))  # held once
    paths = Texts.of(path)
    equal = isinstance(image_id, list) and image_id == path
    return Rows(paths if equal else Texts.of(image_id), crops, labels, paths)


@dataclass(frozen=True)
class Manifest:
    """Everything about a data set that extraction needs, read from its official files.

    `labelling` is `complete` (an absent label is negative) or `verified` (an absent label is unknown). `crops` names
    the crop policy. `class_keys` are other names under which the vectors of the classes may be filed (Open Images
    MIDs). `notes` are facts about the data for the evaluator.
    """

    dataset: str
    root: Path
    labelling: str
    classes: Classes
    splits: dict[str, Rows]
    crops: str = "whole"
    class_keys: tuple[str, ...] = ()
    notes: Notes = Notes()

    def select(self, splits: Sequence[str] = (), limit: int | None = None) -> Manifest:
        """Keep the named splits (all when empty) and at most `limit` rows of each."""
        unknown = [name for name in splits if name not in self.splits]
        if unknown:
            raise C3Error(f"data set {self.dataset} has no split {unknown[0]!r}; it has {', '.join(self.splits)}")
        kept = {name: split for name, split in self.splits.items() if not splits or name in splits}
        if limit is not None:
            kept = {name: split.head(limit) for name, split in kept.items()}
        empty = [name for name, split in kept.items() if not len(split)]
        if empty:
            raise C3Error(f"data set {self.dataset}: split {empty[0]!r} has no rows")
        return replace(self, splits=kept)

    def keep_classes(self, keep: np.ndarray) -> Manifest:
        """Only the classes of a mask (classes,) bool; the labels of the others are taken out of the rows."""
        kept = np.flatnonzero(keep)
        classes = Classes(
            tuple(self.classes.names[c] for c in kept), self.classes.seen[kept], self.classes.vectors[kept]
        )
        keys = tuple(self.class_keys[c] for c in kept) if self.class_keys else ()
        splits = {name: replace(split, labels=split.labels.keep_classes(keep)) for name, split in self.splits.items()}
        return replace(self, classes=classes, class_keys=keys, splits=splits)

    def untrainable(self) -> dict[str, int]:
        """Return the number of rows of each split that have no positive label of a seen class, where there are any."""
        counts = {}
        for name, rows in self.splits.items():
            positive = (rows.labels.value > 0) & self.classes.seen[rows.labels.indices]
            counts[name] = len(rows) - len(np.unique(rows.labels.row[positive]))
        return {name: count for name, count in counts.items() if count}

    def digest(self) -> str:
        """sha256 over classes, vectors, row order, crops and labels: two manifests that agree give equal stores."""
        state = hashlib.sha256()

        def add(*parts: object) -> None:
            encoded = (str(part).encode() for part in parts)
            state.update(b"".join(b"%d:%b" % (len(data), data) for data in encoded))

        def add_texts(values: Texts) -> None:
            for start in range(0, len(values), DIGEST_STEP):
                rows = slice(start, start + DIGEST_STEP)
                counted = _counted(values, rows)
                if counted is None:
                    add(*map(nfc, values[rows].tolist()))
                else:
                    state.update(counted)

        def add_array(values: np.ndarray, dtype: str) -> None:
            state.update(b"%d:" % (values.size * np.dtype(dtype).itemsize))
            for start in range(0, len(values), DIGEST_STEP):
                state.update(np.ascontiguousarray(values[start : start + DIGEST_STEP], dtype).data)

        add(self.labelling, *self.classes.names)
        add_array(self.classes.seen, "?")
        add_array(self.classes.vectors, "<f4")
        for name, split in self.splits.items():
            add(name, len(split))
            add_texts(split.image_id)
            add_texts(split.path)
            add_array(split.crop, "<f4")
            add_array(split.labels.indptr, "<i8")
            add_array(split.labels.indices, "<i4")
            add_array(split.labels.value, "i1")
        return state.hexdigest()


def _counted(texts: Texts, rows: slice) -> bytes | None:
    """Return every text of some rows after its length and a colon.

    None where one is not ASCII, has a NUL, or has a part longer than LONGEST.

    What `add` hashes of texts one by one, many times as fast: hashing ten million rows takes seconds. The length and
    the parts of a text stand side by side in cells of fixed width, filled up with NUL.
    """
    columns: list[np.ndarray] = []
    lengths = np.zeros(len(range(len(texts))[rows]), np.int64)
    for values, codes in texts.parts:
        chosen, code = (values[rows], None) if codes is None else (values, codes[rows])
        if code is not None and len(code) < len(values):
            chosen, code = values[code], None
        # numpy does not count a NUL at the end of a text
        length = np.strings.str_len(np.strings.add(chosen, b"." if chosen.dtype.kind == "S" else ".")) - 1
        longest = int(length.max(initial=0))
        if longest > LONGEST:
            return None
        try:
            column = chosen.astype(f"S{max(longest, 1)}", copy=False)
        except UnicodeEncodeError:
            return None
        columns.append(column if code is None else column[code])
        lengths += length if code is None else length[code]
    counts, kind = np.unique(lengths, return_inverse=True)
    columns.insert(0, np.array([b"%d:" % count for count in counts])[kind])
    cells = np.empty(len(lengths), [(str(number), column.dtype) for number, column in enumerate(columns)])
    for number, column in enumerate(columns):
        cells[str(number)] = column
    data = cells.view(np.uint8)
    found = data if data.all() else data[data != 0]
    expected = int(lengths.sum()) + int(np.strings.str_len(columns[0]).sum())
    return found.tobytes() if len(found) == expected else None


def crop_manifest(manifest: Manifest, policy: str) -> Manifest:
    """Turn whole images into the crops of a policy, image by image: the crops of an image are neighbours.

    Every crop has the labels and the image_id of its image. Like `whole`, each is resized to a square.
    """
    if policy not in CROP_POLICIES:
        raise unknown_name("crop policy", policy, CROP_POLICIES)
    if policy in ("whole", BOXES):
        return replace(manifest, crops=policy)
    crops = np.array(POLICIES[policy], np.float32)
    return replace(
        manifest, crops=policy, splits={name: _expand(split, crops) for name, split in manifest.splits.items()}
    )


def _expand(rows: Rows, crops: np.ndarray) -> Rows:
    repeated = rows.take(np.repeat(np.arange(len(rows)), len(crops)))
    return replace(repeated, crop=np.tile(crops, (len(rows), 1)))
