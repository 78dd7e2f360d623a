"""What readers of word vectors find: the vectors of wanted words, of finite numbers; the first of a word counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from ...common.errors import C3Error
from ...common.unicode_forms import clean_name

LARGEST = 1e16  # of a number: the length of a vector of 10,000 of them is still finite in float32
NOTHING = 1e-12  # a vector that is shorter has no direction: normalising in torch leaves it as it is
NUMBER = int | float | np.integer | np.floating
SHOWN = 3  # words of the file, in an error


@dataclass
class WantedVectors:
    """The vectors (d_w,) float32 of the words of a file that are among the `wanted` ones (NFC).

    `words` counts all words of the file, `first` are some of them, and `repeated` are wanted words that stand there
    again with other numbers.
    """

    path: Path
    wanted: frozenset[str]
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    words: int = 0
    first: list[str] = field(default_factory=list)
    repeated: set[str] = field(default_factory=set)

    def add(self, word: str, values: ArrayLike, where: str = "") -> None:
        """Keep the vector of a wanted word, unless it has one; `where` in the file is for the error."""
        vector = finite_vector(values, f"{self.path}{where and ' '}{where}: the vector of {word!r}")
        known = self.vectors.setdefault(word, vector)
        if not np.array_equal(known, vector):
            self.repeated.add(word)

    def wants(self, word: str) -> str | None:
        """Count a word of the file in any Unicode form; return it as it is wanted, or None."""
        word = clean_name(word)
        self.words += 1
        if len(self.first) < SHOWN:
            self.first.append(word)
        return word if word in self.wanted else None


def finite_vector(values: ArrayLike, what: str) -> np.ndarray:
    """Return (d_w,) numbers as float32. Raises C3Error, beginning with `what`, for what is no finite number.

    Numbers beyond 1e16 are refused too: the length of such a vector can be infinite in float32.
    """
    exact = np.asarray(values)
    if exact.dtype.kind in "fiu" or (exact.dtype.hasobject and all(isinstance(x, NUMBER) for x in exact.flat)):
        exact = exact.astype(np.float64)
    if exact.dtype != np.float64 or exact.ndim != 1 or not exact.size:
        raise C3Error(f"{what} is no list of numbers")
    wrong = ~(np.abs(exact) <= LARGEST)  # also NaN
    if wrong.any():
        place = int(wrong.argmax())
        raise C3Error(
            f"{what} holds {exact[place]:g} (number {place + 1} of {len(exact)}), expected finite numbers up to "
            f"{LARGEST:g}"
        )
    return exact.astype(np.float32)


def is_zero(vector: np.ndarray) -> bool:
    """Return whether a vector has no direction; many tools write zeros for a word that they do not know."""
    return float(np.linalg.norm(vector.astype(np.float64))) < NOTHING
