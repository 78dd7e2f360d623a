"""The one error class that a user of c3 is meant to read."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class C3Error(Exception):
    """A problem the user can fix; the command line prints its one line and exits with code 2.

    The line says what is wrong and where, what was expected and found, and the next command when there is one.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> C3Error:
    """An error for a name that is not in a registry; it lists the names that are, and the nearest one first."""
    known = list(known)
    near = get_close_matches(name, known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return C3Error(f"unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}")
