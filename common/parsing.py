"""JSON and settings -> typed records, by pydantic. What does not fit is told in one line, in the words of c3."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from .errors import C3Error, described

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

T = TypeVar("T")

STRICT = ConfigDict(strict=True, extra="forbid")  # of a dataclass and those inside it: `__pydantic_config__ = STRICT`
EDITED = "was it edited by hand, or written by a newer c3?"
EXPECTED = {
    "string_type": "a text",
    "string_too_short": "a text with at least {min_length} character",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "literal_error": "{expected}",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "settings (name: value)",
    "dataclass_type": "settings (name: value)",
    "model_type": "settings (name: value)",
    "greater_than_equal": "at least {ge:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "value_error": "{error}",  # ours: validators raise ValueError with what was expected
}
# Halves of surrogate pairs, which stand for the bytes of a path that is not UTF-8, -> characters for private use:
# pydantic reads no such half.
PRIVATE = {half: half + 0x100000 for half in range(0xD800, 0xE000)}
HALVES = {private: half for half, private in PRIVATE.items()}
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}  # made once, which takes a millisecond


def parse(kind: type[T], content: object, where: str, remedy: str = EDITED) -> T:
    """Return JSON `content` as a dataclass. Raises C3Error, beginning with `where`, for an entry that does not fit."""
    text = json.dumps(content, ensure_ascii=False)
    spelled = text.translate(PRIVATE)
    try:
        parsed: T = _adapter(kind).validate_json(spelled)  # strict parsing takes a list for a tuple in JSON alone
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise C3Error(f"{where} cannot be read: {_said(fault)}; {remedy}") from error
    return parsed if spelled == text else _restored(parsed)


def to_json(record: object, *, defaults: bool = False) -> dict[str, Any]:
    """Return the JSON that `parse` reads back; entries that have their default value only with `defaults`."""
    content: dict[str, Any] = _adapter(type(record)).dump_python(
        record, mode="json", by_alias=True, exclude_defaults=not defaults
    )
    return content


def expectation(fault: ErrorDetails) -> str:
    """Return what was expected of a value, and what was found."""
    words = EXPECTED.get(fault["type"], "{message}").format(message=fault["msg"], **fault.get("ctx", {}))
    return f"expected {words}, found {described(fault['input'])}"


def _said(fault: ErrorDetails) -> str:
    entry = " ".join(["entry", ".".join(map(str, fault["loc"]))]).rstrip()
    if fault["type"] in ("missing", "missing_argument"):
        return f"{entry} is missing"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{entry} is unknown to this c3"
    return f"{entry}: {expectation(fault)}"


def _restored(value: Any) -> Any:
    """Return a record with the halves that `PRIVATE` replaced."""
    if isinstance(value, str):
        return value.translate(HALVES)
    if isinstance(value, list | tuple):
        return type(value)(map(_restored, value))
    if isinstance(value, dict):
        return {_restored(name): _restored(item) for name, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _restored(getattr(value, field.name)) for field in fields(value)})
    return Path(_restored(str(value))) if isinstance(value, Path) else value


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
