"""Settings as frozen dataclasses whose types say which values they take."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, get_type_hints

from ..common.errors import C3Error, clipped

WORDS = {int: "a whole number", float: "a number"}
SWITCH = {"true": True, "false": False}


@dataclass(frozen=True)
class Takes:
    """A rule for the values of a setting, and how an error says it."""

    expected: str
    holds: Callable[[Any], bool]


def one_of(names: Iterable[str]) -> Takes:
    """Return the rule of a closed set of names."""
    known = tuple(names)
    expected = " or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}"
    return Takes(expected, known.__contains__)


LARGEST = Takes("below 2^31", lambda value: value < 2**31)  # what torch takes for the width of a layer, and more
Count = Annotated[int, Takes("at least 1", lambda value: value >= 1), LARGEST]
Natural = Annotated[int, Takes("at least 0", lambda value: value >= 0), LARGEST]
Positive = Annotated[float, Takes("a positive number", lambda value: 0 < value < math.inf)]
NotNegative = Annotated[float, Takes("0 or more", lambda value: 0 <= value < math.inf)]
OffOrPositive = Annotated[float, Takes("0 (off) or a positive number", lambda value: 0 <= value < math.inf)]
BelowOne = Annotated[float, Takes("0 to below 1", lambda value: 0 <= value < 1)]
Weight = Annotated[float, Takes("0 to 1", lambda value: 0 <= value <= 1)]


@dataclass(frozen=True)
class Settings:
    """The base of all settings. Raises C3Error for a value that the rule in the type of its field does not take."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self), include_extras=True).items():
            value = getattr(self, name)
            for rule in getattr(kind, "__metadata__", ()):
                if not rule.holds(value):
                    raise C3Error(f"setting {name}: expected {rule.expected}, found {value!r}")


Options = TypeVar("Options", bound=Settings)


def options_from(kind: type[Options], settings: Mapping[str, Any]) -> Options:
    """Return options of a class, filled with those settings that it has. Raises C3Error for a value of another type.

    >>> from c3.train.recipes import LoopOptions
    >>> options_from(LoopOptions, {"epochs": "3", "groups": 7}).epochs
    3
    """
    types = get_type_hints(kind)
    own = [field.name for field in fields(kind) if field.name in settings]
    return kind(**{name: _typed(name, settings[name], types[name]) for name in own})


def _typed(name: str, value: Any, kind: type[Any]) -> Any:
    if kind is bool:
        if (word := str(value).lower()) not in SWITCH:
            raise C3Error(f"setting {name}: expected {' or '.join(SWITCH)}, found {value!r}")
        return SWITCH[word]
    wrong = C3Error(f"setting {name}: expected {WORDS.get(kind, 'a text')}, found {clipped(repr(value))}")
    if kind in WORDS and isinstance(value, bool):  # Python takes true for 1
        raise wrong
    try:
        typed = kind(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if kind is int and isinstance(value, float) and value != typed:
        raise wrong
    return typed
