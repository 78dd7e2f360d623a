"""The errors that a user of c3 is meant to read: one line each."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 100  # characters of a wrong value


class C3Error(Exception):
    """A problem the user can fix; the command line prints its one line and exits with code 2.

    The line says what is wrong and where, what was expected and found, and the next command when there is one.
    """


class NotFound(C3Error):
    """A file, store, run or name does not exist."""


class SettingError(C3Error):
    """A setting is unknown, has a wrong value or does not fit the others."""


class StoreDamaged(C3Error):
    """A part of a feature store is lost or damaged: where, what is wrong, and the command that mends it."""

    def __init__(self, location: str, fault: str, remedy: str) -> None:
        super().__init__(f"{location}: {fault}; {remedy}")
        self.location, self.fault, self.remedy = location, fault, remedy

    def __reduce__(self) -> tuple[type[StoreDamaged], tuple[str, str, str]]:
        return type(self), (self.location, self.fault, self.remedy)  # workers send errors by pickle


def unknown_name(kind: str, name: str, known: Iterable[str]) -> NotFound:
    """Return the error for a name that a registry lacks; it lists the known names and suggests the nearest one."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return NotFound(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}")


def described(value: object) -> str:
    """Describe a wrong value in the words of an error message."""
    if value is None:
        return "nothing"
    if isinstance(value, list):
        return clipped(f"a list ({', '.join(map(str, value))})")
    return clipped(f"settings ({', '.join(value)})" if isinstance(value, dict) else repr(value))


def clipped(text: str) -> str:
    """Return the start of a text that is too long for an error message."""
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
