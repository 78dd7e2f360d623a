"""Look up the vectors of a user's words, or name every word without one in one line."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from ..common.errors import C3Error
from ..common.unicode_forms import clean_name, is_text
from ..extract.catalog.catalog import Catalog, vectors_of
from ..extract.store.origin import VectorOrigin
from ..extract.store.tables import Classes
from ..extract.words.class_vectors import class_vectors
from ..extract.words.prompts import tower_vectors
from ..extract.words.text_towers import load_tower
from ..extract.words.tower_files import origin_of, require_same_tower
from ..extract.words.wanted_vectors import finite_vector, is_zero

LOG = logging.getLogger(__name__)
SAME = 0.99  # vectors of a word with a larger cosine are the same vector, perhaps written with fewer digits

JOINING = ",;|"


@dataclass(frozen=True)
class ByTower:
    """A text tower, KIND:MODEL, that reads the words in `templates` (none: those of the run, else of the tower)."""

    tower: str
    templates: tuple[str, ...] = ()


VectorSource = str | os.PathLike[str] | np.ndarray | ByTower


@dataclass(frozen=True)
class Vocabulary:
    """Words, each once, their vectors (words, d_w) float32 as read, and the source of these in words."""

    words: tuple[str, ...]
    vectors: np.ndarray
    source: str


def find_vocabulary(
    words: Sequence[str],
    vectors: VectorSource | None,
    classes: Classes,
    catalog: Catalog,
    drop_unknown: bool = False,
    trained: VectorOrigin | None = None,
) -> Vocabulary:
    """Find the vectors of words in `vectors`: a file, a name in the catalog, an array (words, d_w), or by a text tower.

    Words are compared and kept in the form of `clean_name`: NFC, single blanks.
    `classes` are the classes that the model knows; without `vectors`, words are looked up among them. Names of several
    words are looked up like class names. `drop_unknown` leaves out words without a vector, and repeated words. Raises
    C3Error naming these otherwise, for an empty vocabulary, and for other vectors than the model was trained with;
    `trained` is the tower of these, where it is known.
    """
    words = [clean_name(word) for word in words]
    if not words:
        raise C3Error("the vocabulary is empty: expected at least one word")
    for place, word in enumerate(words, start=1):
        if not word:
            raise C3Error(f"words of the vocabulary: word {place} is empty; expected at least one sign")
        if not is_text(word):
            raise C3Error(
                f"words of the vocabulary: expected texts that can be written, found {word!r} as word {place}"
            )
    unique = list(dict.fromkeys(words))
    known = {clean_name(name) for name in classes.names}
    if joined := [word for word in unique if word not in known and any(mark in word for mark in JOINING)]:
        LOG.warning("words that may be several words in one: %s; give each on its own", ", ".join(map(repr, joined)))
    if vectors is None:
        found, source = _of_classes(unique, classes), "the run's own classes (--vectors has those of other words)"
    elif isinstance(vectors, np.ndarray):
        found, source = _of_array(words, unique, vectors), "the array of vectors"
    elif isinstance(vectors, str | os.PathLike):
        found, source = _of_file(unique, os.fspath(vectors), classes, catalog, trained)
    elif isinstance(vectors, ByTower):
        found, source = _of_tower(unique, vectors, classes, trained), vectors.tower
    else:
        raise C3Error(
            "vectors: expected a file, a name of the catalog, a tower or a numpy array (words, d_w), found "
            f"{type(vectors).__name__}"
        )
    missing = np.isnan(found).any(axis=1) if found.shape[1] else np.ones(len(unique), bool)
    lost = [_with_nearest(word, known) for word, gone in zip(unique, missing, strict=True) if gone]
    repeated = [word for word, count in Counter(words).items() if count > 1]
    faults = [f"{len(repeated)} repeated: {', '.join(repeated)}"] if repeated else []
    faults += [f"{len(lost)} without a vector in {source}: {', '.join(lost)}"] if lost else []
    if missing.all():
        raise C3Error(
            f"words of the vocabulary: {'; '.join(faults)}. None is left to ask for: give other words, or vectors that "
            "have these with --vectors or --tower"
        )
    if faults and not drop_unknown:
        raise C3Error(f"words of the vocabulary: {'; '.join(faults)}. Leave them out with --drop-unknown")
    for fault in faults:
        LOG.warning("left out of the vocabulary, %s", fault)
    kept = tuple(word for word, gone in zip(unique, missing, strict=True) if not gone)
    return Vocabulary(kept, found[~missing], source)


def _with_nearest(word: str, known: Collection[str]) -> str:
    """Return a word without a vector, and the nearest name of a class where one is spelled nearly so."""
    near = get_close_matches(word.lower(), known, n=1)
    return f"{word} (did you mean {near[0]}?)" if near else word


def _of_classes(words: Sequence[str], classes: Classes) -> np.ndarray:
    place = {clean_name(name): index for index, name in enumerate(classes.names)}
    none = np.full(classes.d_w, np.nan, np.float32)
    return np.stack([classes.vectors[place[word]] if word in place else none for word in words])


def _of_array(words: Sequence[str], unique: Sequence[str], vectors: np.ndarray) -> np.ndarray:
    """Return the rows of an array as float32; a row of zeros, which has no direction, becomes NaN."""
    if vectors.ndim != 2 or len(vectors) != len(words):
        raise C3Error(
            f"vectors: expected ({len(words)}, d_w) finite numbers, one row for every word, found {vectors.shape}"
        )
    found = np.stack([finite_vector(vectors[words.index(word)], f"vectors: the row of {word!r}") for word in unique])
    found[[is_zero(vector) for vector in found]] = np.nan
    return found


def _of_file(
    words: Sequence[str], name: str, classes: Classes, catalog: Catalog, trained: VectorOrigin | None
) -> tuple[np.ndarray, str]:
    """Look up words and classes in one pass over a file; the classes show whether it is the right file."""
    spec, asked = vectors_of(name, catalog), set(words)
    require_same_tower(trained, origin_of(spec.path), "the run", name)
    names = [*words, *(name for name in map(clean_name, classes.names) if name not in asked)]
    vectors, coverage = class_vectors(names, spec)
    if partly := [f"{word} ({' '.join(lost)})" for word, lost in coverage.partly.items() if word in asked]:
        LOG.warning("%s: words left out of a mean because they have no vector: %s", spec.name, ", ".join(partly))
    if vectors.shape[1] == classes.d_w:
        _require_same_space(spec.path, names, vectors, classes)
    return vectors[: len(words)], f"{name}{coverage.zeros_note}"


def _of_tower(words: Sequence[str], asked: ByTower, classes: Classes, trained: VectorOrigin | None) -> np.ndarray:
    """Let a tower read the words, and the classes where it is unknown what read them: to show whether it did."""
    tower = load_tower(asked.tower)
    same = trained is not None and trained.sha256 == tower.sha256
    templates = asked.templates or (trained.templates if trained and same else ())
    found = tower_vectors(words, tower, templates)
    require_same_tower(trained, found.origin, "the run", asked.tower)
    if trained is None and found.vectors.shape[1] == classes.d_w:
        names = list(dict.fromkeys(map(clean_name, classes.names)))
        _require_same_space(asked.tower, names, tower_vectors(names, tower, templates).vectors, classes)
    return found.vectors


def _require_same_space(path: Path | str, names: Sequence[str], vectors: np.ndarray, classes: Classes) -> None:
    """Raise C3Error unless most classes have the vectors that the run was trained with.

    Two files of the same width need not be the same space: scores would compare unrelated numbers.
    """
    trained = dict(zip(map(clean_name, classes.names), classes.vectors, strict=True))
    pairs = [
        (vector, trained[name])
        for name, vector in zip(names, vectors, strict=True)
        if name in trained and not np.isnan(vector[0])
    ]
    if not pairs:
        return
    first, second = (np.stack(side).astype(np.float64) for side in zip(*pairs, strict=True))
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosine = (first * second).sum(axis=1) / np.maximum(lengths, np.finfo(float).tiny)
    same = int((cosine > SAME).sum())
    if 2 * same < len(pairs):
        raise C3Error(
            f"{path} holds other vectors than the run was trained with: of {len(pairs)} of its classes that the file "
            f"names, {same} have the same vector; give the file that the store was made with"
        )
