"""JSON and settings -> typed records, by pydantic. What does not fit is told in one line, in the words of c3."""

from __future__ import annotations

import json
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
_ADAPTERS: dict[type, TypeAdapter[Any]] = {}  # made once, which takes a millisecond


def parse(kind: type[T], content: object, where: str, remedy: str = EDITED) -> T:
    """Return JSON `content` as a dataclass. Raises C3Error, which begins with `where`, for an entry that does not fit.

    Half a surrogate pair, as a path that is not UTF-8 has it, becomes a question mark.
    """
    text = json.dumps(content, ensure_ascii=False).encode(errors="replace")
    try:
        parsed: T = _adapter(kind).validate_json(text)  # strict parsing takes a list for a tuple in JSON alone
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise C3Error(f"{where} cannot be read: {_said(fault)}; {remedy}") from error
    return parsed


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


def _adapter(kind: type) -> TypeAdapter[Any]:
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]
