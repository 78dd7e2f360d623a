"""Read the labels in the cell of a table: names joined by a separator, or a list as JSON and Python write it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ...common.unicode_forms import clean_name, is_text

SEPARATORS = "|;,\t\n\r；，、｜¦"  # which programs write; none is part of a name unless a list of classes says so
NAMED = "where it belongs to a name, list the classes in a file (classes: FILE)"
EMPTY_SET = "set()"  # as Python writes a set without labels
LISTS = {"[": "]", "(": ")", "{": "}"}
TEXT = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
# Not left to ast alone: it reads ['dog' 'cat'], as numpy prints arrays, as the one text "dogcat".
LIST = re.compile(rf"[\[({{]\s*(?:{TEXT}\s*(?:,\s*{TEXT}\s*)*,?\s*)?[\])}}]")
BETWEEN_NAMES = re.compile(r"[\s/\\+&:]+")


@dataclass(frozen=True)
class LabelCells:
    """How the labels of a table are written: `separator` stands between them.

    `classes` are all class names where a list has them, else empty; `unseen` are further names that are known to be
    classes. `entry` is the catalog's entry, for errors. Every distinct cell is read once.
    """

    separator: str
    classes: frozenset[str]
    unseen: frozenset[str]
    entry: str
    _checked: dict[str, str] = field(default_factory=dict)  # part of a cell -> its name; a million cells share a few

    def names(self, cell: str) -> tuple[str, ...]:
        """Return the class names in a cell, each once, in the form of `clean_name`.

        Raises ValueError with what was expected and found.
        """
        if not cell or cell == EMPTY_SET:
            return ()
        checked = self._checked
        names = []
        for part in self._parts(cell):
            name = checked.get(part)
            if name is None:
                name = checked[part] = self._check(part)
            if name and name not in names:
                names.append(name)
        return tuple(names)

    def _parts(self, cell: str) -> Sequence[str]:
        if self._known(cell):
            return [cell]
        if (cell[0] == "[" and self.classes) and all(map(self._known, map(clean_name, cell.split(self.separator)))):
            return cell.split(self.separator)
        if cell[0] in " [({" and (text := cell.strip())[:1] in LISTS and (text[0] in "[{" or LIST.fullmatch(text)):
            return [clean_name(cell)] if self._known(clean_name(cell)) else _listed(text)
        parts = cell.split(self.separator)
        listed = self.classes or self.unseen
        return [clean_name(cell)] if listed and len(parts) > 1 and self._known(clean_name(cell)) else parts

    def _known(self, name: str) -> bool:
        return name in self.classes or name in self.unseen

    def _check(self, part: str) -> str:
        name = clean_name(part)
        if not name or self._known(name):
            return name
        if not is_text(name):
            raise ValueError(f"label {name!r} is no text that a file can hold")
        other = next((mark for mark in SEPARATORS if mark in part.strip()), None)
        if self.classes:
            parts = [] if other is None else [clean_name(one) for one in part.split(other)]
            hint = (
                f"; set label_separator: {_in_yaml(other)} in {self.entry}"
                if parts and self.classes.issuperset(parts)
                else ""
            )
            raise ValueError(f"label {name!r} is not in the list of classes{hint}")
        if other is not None:
            raise ValueError(
                f"label {part.strip()!r} holds {other!r}; expected names joined by {self.separator!r}. Where it joins "
                f"labels, set label_separator: {_in_yaml(other)} in {self.entry}; {NAMED}"
            )
        if '"' in name:
            raise ValueError(f"label {name!r} holds a quote, so that a quote is open or has text around it; {NAMED}")
        return name


def _in_yaml(mark: str | None) -> str:
    """Return a separator as YAML reads it: in single quotes, a tab would be a backslash and a t."""
    return json.dumps(mark, ensure_ascii=False)


def joined_names(names: Iterable[str]) -> list[str]:
    """Return the names that are other names joined by a blank or one of / + & :, which may be several labels in one."""
    known = frozenset(names)
    parts = ((name, BETWEEN_NAMES.split(name)) for name in sorted(known))
    return [name for name, words in parts if len(words) > 1 and known.issuperset(words)]


def _listed(text: str) -> list[str]:
    """Return the texts of a list. Raises ValueError for one that holds something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        try:
            found = list(ast.literal_eval(text)) if LIST.fullmatch(text) else None
        except (ValueError, SyntaxError):
            found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise ValueError(f'expected a list of texts, such as ["dog", "cat"], found {text[:100]!r}')
    return found
