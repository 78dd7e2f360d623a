"""JSON records taken apart field by field: how files that c3 wrote become dataclasses, or one line of refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from .errors import C3Error

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
T = TypeVar("T")
D = TypeVar("D")


class Record:
    """A JSON object whose fields are taken one by one. Raises C3Error for a field that is absent, wrong or left over.

    `where` begins every message, for example `features.zarr: provenance`.

    >>> record = Record({"rows": 3}, "here")
    >>> record.take("rows", integer)
    3
    >>> record.require_empty()
    """

    def __init__(self, content: Json, where: str) -> None:
        if not isinstance(content, Mapping):
            raise C3Error(f"{where} should be a JSON object, found {content!r}; was it edited by hand?")
        self._left, self._where = dict(content), where

    def __contains__(self, name: str) -> bool:
        """Return whether a field is present and not taken yet."""
        return name in self._left

    def take(self, name: str, read: Callable[[Json], T]) -> T:
        """Take a field that must be present; `read` checks it and raises TypeError with what it should be."""
        if name not in self._left:
            raise C3Error(f"{self._where} has no {name!r}; was it edited by hand?")
        value = self._left.pop(name)
        try:
            return read(value)
        except TypeError as error:
            raise C3Error(
                f"{self._where}: {name!r} should be {error}, found {value!r}; was it edited by hand?"
            ) from error

    def take_or(self, name: str, read: Callable[[Json], T], default: D) -> T | D:
        """Take a field, or return `default` where it is absent."""
        return self.take(name, read) if name in self._left else default

    def require_empty(self) -> None:
        """Refuse fields that were not taken: a newer c3 may mean something by them."""
        if self._left:
            raise C3Error(f"{self._where} holds {next(iter(self._left))!r}, which this c3 does not know; update c3")


def anything(value: Json) -> Json:
    """Return any JSON value as it is."""
    return value


def text(value: Json) -> str:
    """Return a text. Raises TypeError for anything else, like the readers below."""
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def optional_text(value: Json) -> str | None:
    """Return a text or null."""
    return None if value is None else text(value)


def integer(value: Json) -> int:
    """Return a whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number")
    return value


def optional_integer(value: Json) -> int | None:
    """Return a whole number or null."""
    return None if value is None else integer(value)


def boolean(value: Json) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise TypeError("true or false")
    return value


def array(value: Json) -> Sequence[Json]:
    """Return a list."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError("a list")
    return value


def mapping(value: Json) -> Mapping[str, Json]:
    """Return a JSON object."""
    if not isinstance(value, Mapping):
        raise TypeError("a JSON object")
    return value


def texts(value: Json) -> list[str]:
    """Return a list of texts."""
    return [text(item) for item in array(value)]


def mapping_of(read: Callable[[Json], T]) -> Callable[[Json], dict[str, T]]:
    """Return a reader of JSON objects whose values are all read by `read`."""
    return lambda value: {name: read(item) for name, item in mapping(value).items()}
