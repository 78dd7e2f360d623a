"""A label tree: the place of a label among wider terms, as photo programs show keywords."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ..common.errors import C3Error
from ..common.text_files import numbered_lines
from ..common.unicode_forms import clean_name

BETWEEN = "|"  # the terms of a line, as in lr:hierarchicalSubject
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2 (Char)
LabelTree = Mapping[str, tuple[tuple[str, ...], ...]]


def same_word(text: str) -> str:
    """Return the form in which keywords are compared: photo programs take `Dog` and `dog` for one.

    >>> same_word("  Night  Sky") == same_word("night sky")
    True
    """
    return clean_name(text).casefold()


def read_label_tree(path: Path) -> LabelTree:
    """Read lines such as `animal|dog`: `same_word` of the last term -> all paths that end in it, widest term first.

    Blank lines and lines that start with # are skipped; a label may stand in several lines. Raises C3Error for a line
    with an empty term or a character that XMP cannot hold, and for a file without a line of several terms.
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    for number, line in numbered_lines(path, "label tree"):
        if line.startswith("#"):
            continue
        terms = tuple(clean_name(term) for term in line.split(BETWEEN))
        if not all(terms):
            raise C3Error(f"{path} line {number}: expected terms such as animal{BETWEEN}dog, found {line!r}")
        if any(map(NOT_IN_XML.search, terms)):
            raise C3Error(f"{path} line {number}: {line!r} has a control character, which XMP cannot hold; remove it")
        paths = found.setdefault(same_word(terms[-1]), [])
        if terms not in paths:
            paths.append(terms)
    if not any(len(terms) > 1 for paths in found.values() for terms in paths):
        form = "; terms parted by tabs, > or / are not read" if found else ", it is empty"
        raise C3Error(f"{path}: expected lines such as animal{BETWEEN}dog, with the label as the last term{form}")
    return {label: tuple(paths) for label, paths in found.items()}
