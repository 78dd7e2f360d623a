"""Class names -> word vectors, from a file of vectors in the GloVe / fastText text format."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import C3Error

LOG = logging.getLogger("c3")


def class_vectors(names: Iterable[str], path: Path) -> np.ndarray:
    """(classes, d_w) float32 vectors, as read. A name that is not in the file is the mean of its words' vectors.

    Raises C3Error when a class has no vector at all; the line lists every such class.
    """
    names = list(names)
    wanted = {form for name in names for form in (_key(name), *_words(name))}
    table = read_text_vectors(path, wanted)
    vectors, without, partly = [], [], []
    for name in names:
        words = [_key(name)] if _key(name) in table else _words(name)
        found = [word for word in words if word in table]
        if not found:
            without.append(name)
            continue
        if len(found) < len(words):
            partly.append(f"{name} ({' '.join(found)})")
        vectors.append(np.mean([table[word] for word in found], axis=0))
    if without:
        raise C3Error(
            f"{len(without)} of {len(names)} classes have no vector in {path}: {', '.join(without)}. "
            "Add their words to the vectors file, or take the classes out of the labels"
        )
    if partly:
        LOG.warning("classes whose vector is the mean of only some of their words: %s", ", ".join(partly))
    return np.stack(vectors).astype(np.float32)


def read_text_vectors(path: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    """word -> (d_w,) float32 of the wanted words, in one pass over a text file of any size.

    A first line of two integers (fastText, word2vec) is skipped. Raises C3Error naming the line whose length differs.
    """
    table: dict[str, np.ndarray] = {}
    d_w = None
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1 and re.fullmatch(r"\d+ \d+\s*", line):
                continue
            word, _, rest = line.rstrip().partition(" ")
            if word not in wanted or word in table:
                continue
            try:
                vector = np.array(rest.split(), dtype=np.float32)
            except ValueError:
                raise C3Error(
                    f"{path} line {number}: the vector of {word!r} holds something that is no number"
                ) from None
            d_w = d_w or len(vector)
            if len(vector) != d_w or not np.isfinite(vector).all():
                raise C3Error(f"{path} line {number}: {word!r} has {len(vector)} finite values, expected {d_w}")
            table[word] = vector
    return table


def _key(name: str) -> str:
    return name.strip().lower()


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[\s_\-/,()&.']+", _key(name)) if word]
