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
LONGEST = 1 << 10  # characters of a text up to which a block of them is padded to one width


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
            for block in values.blocks(DIGEST_STEP):
                counted = _counted(block)
                if counted is None:
                    add(*map(nfc, block.tolist()))
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


def _counted(block: np.ndarray) -> bytes | None:
    """Return every text of (rows,) after its length and a colon.

    None where one is not ASCII, is longer than LONGEST or ends in NUL, which numpy does not count.

    What `add` hashes of texts one by one, ten times as fast: hashing ten million rows takes seconds.
    """
    lengths = np.strings.str_len(block)
    longest = int(lengths.max(initial=0))
    if longest > LONGEST or np.strings.endswith(block, "\0").any():
        return None
    try:
        text = block.astype(f"S{max(longest, 1)}")
    except UnicodeEncodeError:
        return None
    prefixes = np.array([b"%d:" % length for length in range(longest + 1)])
    whole = np.strings.add(prefixes[lengths], text)
    sizes = np.strings.str_len(prefixes)[lengths] + lengths
    cells = whole.view(np.uint8).reshape(len(block), -1)
    return cells[np.arange(cells.shape[1]) < sizes[:, None]].tobytes()


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
