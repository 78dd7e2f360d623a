"""JSON files of a run folder -> their content, checked; one line about the first thing that is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError

from ...common.errors import C3Error

STRICT = ConfigDict(strict=True, extra="forbid")


def read_json(path: Path, newest: int, remedy: str) -> dict[str, Any]:
    """Return the object in a JSON file whose `schema` is 1 to `newest`. Raises C3Error for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise C3Error(f"{path} cannot be read as json ({error}); {remedy}") from error
    found = content.get("schema") if isinstance(content, dict) else None
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= newest:
        newer = isinstance(found, int) and found > newest
        raise C3Error(
            f"{path} has schema {found}, this c3 reads schema {newest}; " + ("install a newer c3" if newer else remedy)
        )
    return dict(content)


def first_fault(error: ValidationError) -> str:
    """Return what is wrong with parsed content: the entry, what was expected and what was found."""
    fault = error.errors(include_url=False)[0]
    entry = ".".join(map(str, fault["loc"]))
    if fault["type"] in ("missing", "missing_argument"):
        return f"entry {entry} is missing"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"entry {entry} is unknown to this c3"
    return f"entry {entry}: {fault['msg'].lower()}, found {fault['input']!r:.60}"
