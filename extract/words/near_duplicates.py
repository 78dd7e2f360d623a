"""Find unseen classes that nearly equal a seen one (`boats`, `boat`), which a zero-shot score should not count."""

from __future__ import annotations

import re
import unicodedata

import numpy as np

from ...common.unicode_forms import nfc
from ..store.tables import Classes

COSINE = 0.75  # of two word vectors, from which on names mark the same pictures (plane, airplane)


def near_duplicates(classes: Classes, cosine: float = COSINE) -> dict[str, list[str]]:
    """Return unseen class -> seen classes that leak into it, most similar first; classes without a leak are left out.

    Two names leak when they differ only in number, case or punctuation, or when the cosine of their vectors is at least
    `cosine`.
    """
    unseen, seen = (np.flatnonzero(mask) for mask in (~classes.seen, classes.seen))
    unit = classes.vectors / np.maximum(np.linalg.norm(classes.vectors, axis=1, keepdims=True), 1e-12)
    similarity = unit[unseen] @ unit[seen].T  # (unseen, seen)
    stems = np.array([_stem(name) for name in classes.names])
    close = (similarity >= cosine) | (stems[unseen][:, None] == stems[seen][None])
    leaks = {}
    for row in np.flatnonzero(close.any(axis=1)):
        columns = np.flatnonzero(close[row])
        ordered = columns[np.argsort(-similarity[row, columns], kind="stable")]
        leaks[classes.names[unseen[row]]] = [classes.names[seen[column]] for column in ordered]
    return leaks


def _stem(name: str) -> str:
    """Return a name in any script without case, punctuation and brackets, its last word in the singular."""
    name = nfc(name.casefold())
    word = _letters(re.sub(r"\(.*?\)", "", name)) or _letters(name) or name
    for ending, singular in (("ies", "y"), ("sses", "ss"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + singular
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def _letters(text: str) -> str:
    """Return the letters, their marks and the digits of a text: marks are vowels in some scripts."""
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN")
