"""Look up the word vectors of classes; report what was found, what was not, and which classes share a vector."""

from __future__ import annotations

import logging
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...common.unicode_forms import clean_name
from ..catalog.specs import VectorSpec
from .tower_files import origin_of
from .vector_files import read_vectors
from .wanted_vectors import is_zero

LOG = logging.getLogger(__name__)
SHOWN = 10  # names in a line of the log
# "s" is the rest of a possessive
STOP_WORDS = frozenset(
    ("a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "s", "the", "to", "with")
)  # fmt: skip

CASES: tuple[Callable[[str], str], ...] = (str, str.lower, str.capitalize, str.upper)  # of the words of a whole name


@dataclass(frozen=True)
class Coverage:
    """How many classes have a vector: by their whole name, as the mean of their words, of only some words, or none.

    `partly` maps a class to its words without a vector; `identical` lists groups of classes that share one vector.
    `zeros` are words of the file whose vector is all zeros: it has no direction, so it counts as none.
    """

    classes: int
    whole: int
    averaged: int
    partly: dict[str, list[str]]
    missing: tuple[str, ...]
    identical: tuple[tuple[str, ...], ...]
    zeros: tuple[str, ...] = ()

    @property
    def zeros_note(self) -> str:
        """Return the words with a vector of zeros in brackets, for the end of an error; empty where there are none."""
        return f" (all zeros in the file, which counts as no vector: {_some(self.zeros)})" if self.zeros else ""

    def lines(self) -> list[str]:
        """Return the report in words, one finding per line."""
        lines = [
            f"{self.classes - len(self.missing)} of {self.classes} classes have a vector: {self.whole} by their whole "
            f"name, {self.averaged} as the mean of their words, {len(self.partly)} of these of only some words"
        ]
        if self.partly:
            lines.append("words without a vector: " + _some(f"{c} ({' '.join(w)})" for c, w in self.partly.items()))
        if self.missing:
            lines.append("classes without a vector: " + _some(self.missing))
        if self.zeros:
            lines.append("words whose vector is all zeros, which counts as none: " + _some(self.zeros))
        if self.identical:
            lines.append(
                f"{len(self.identical)} groups of classes share one vector and cannot be told apart: "
                + _some(" = ".join(group) for group in self.identical)
            )
        return lines


def class_vectors(names: Sequence[str], spec: VectorSpec, keys: Sequence[str] = ()) -> tuple[np.ndarray, Coverage]:
    """Return vectors (classes, d_w) float32 as read, NaN in the rows of classes without one, and the coverage.

    A class is looked up under its key (`keys`, for Open Images the MID), its name as written, in lower case, and with
    `_`, `-` or a blank between its words, as written, in lower case, with capitals (New_York) and in capitals, with its
    accents and without; then, unless the file holds whole names only (a text tower made it, or its spec says so), as
    the mean of its words that have a vector. Stop words count only where a name has no other words. A key in brackets
    at the end of a name, which tells two classes of one name apart, is ignored. A vector of zeros counts as none.
    """
    keys = keys or [""] * len(names)
    plain = [clean_name(name.removesuffix(f" ({key})")) for name, key in zip(names, keys, strict=True)]
    forms = [_whole_forms(name, key) for name, key in zip(plain, keys, strict=True)]
    by_words = spec.lookup == "words" and origin_of(spec.path) is None
    words = [_words(name) if by_words else [] for name in plain]
    wanted = {form for group in forms for form in group} | {form for group in words for word in group for form in word}
    read = read_vectors(spec, wanted)
    vectors = {word: vector for word, vector in read.items() if not is_zero(vector)}
    found = [_lookup(forms[c], words[c], vectors) for c in range(len(names))]
    d_w = next((len(vector) for vector, _, _ in found if vector is not None), 0)
    matrix = np.full((len(names), d_w), np.nan, np.float32)
    for c, (vector, _, _) in enumerate(found):
        if vector is not None:
            matrix[c] = vector
    coverage = Coverage(
        classes=len(names),
        whole=sum(vector is not None and whole for vector, whole, _ in found),
        averaged=sum(vector is not None and not whole for vector, whole, _ in found),
        partly={names[c]: lost for c, (vector, _, lost) in enumerate(found) if vector is not None and lost},
        missing=tuple(names[c] for c, (vector, _, _) in enumerate(found) if vector is None),
        identical=_identical(names, matrix),
        zeros=tuple(sorted(read.keys() - vectors.keys())),
    )
    return matrix, coverage


def _lookup(
    forms: list[str], words: list[list[str]], vectors: Mapping[str, np.ndarray]
) -> tuple[np.ndarray | None, bool, list[str]]:
    """Return the vector, whether the whole name has it, and the words that are missing from the mean."""
    for form in forms:
        if form in vectors:
            return vectors[form], True, []
    found = [next((vectors[form] for form in word if form in vectors), None) for word in words]
    present = [vector for vector in found if vector is not None]
    mean = np.mean(present, axis=0) if present else None
    if mean is None or is_zero(mean):
        return None, False, []
    return mean, len(words) == 1, [word[0] for word, vector in zip(words, found, strict=True) if vector is None]


def _whole_forms(name: str, key: str) -> list[str]:
    """Return the forms in which a file may hold a whole name, the likeliest first."""
    words = _split(name)
    spelled = (words, [_without_accents(word) for word in words])
    cased = [tuple(map(case, form)) for form in spelled for case in CASES]
    cased += [(form[0].capitalize(), *map(str.lower, form[1:])) for form in spelled if form]  # Ice_cream
    joined = [sign.join(form) for form in cased for sign in "_- "]
    return [form for form in dict.fromkeys([clean_name(key), name, name.lower(), *joined]) if form]


def _words(name: str) -> list[list[str]]:
    """Return the forms of every word of a name, the likeliest first, without stop words."""
    words = [word for word in _split(name) if word.lower() not in STOP_WORDS] or _split(name)
    return [_forms(word) for word in words]


def _forms(word: str) -> list[str]:
    plain = _without_accents(word)
    cases = (str.lower, str, str.capitalize, str.upper)
    return list(dict.fromkeys(case(form) for case in cases for form in (word, plain)))


def _without_accents(word: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))


def _split(name: str) -> list[str]:
    """Return the words of a name with their accents, in NFC."""
    plain = unicodedata.normalize("NFKC", name)
    return [word for word in re.split(r"[\s_\-/,()&.'’\"!?:;+]+", plain) if word]


def _identical(names: Sequence[str], vectors: np.ndarray) -> tuple[tuple[str, ...], ...]:
    groups: dict[bytes, list[str]] = defaultdict(list)
    for name, vector in zip(names, vectors, strict=True):
        if vector.size and not np.isnan(vector[0]):
            groups[vector.tobytes()].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _some(items: Iterable[str]) -> str:
    items = list(items)
    return ", ".join(items[:SHOWN]) + (f" and {len(items) - SHOWN} more" if len(items) > SHOWN else "")
