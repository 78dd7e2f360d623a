"""Reading `data_catalog.yaml` and the user's own catalog, which extends it entry by entry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import C3Error

VERSION = 1
SECTIONS = ("datasets", "vectors", "weights", "recipes")
BUILT_IN = Path(__file__).parents[1] / "data_catalog.yaml"


@dataclass(frozen=True)
class Entry:
    """One named item of a section; relative paths in it start at `base`."""

    name: str
    values: dict[str, Any]
    base: Path
    file: Path


def data_root() -> Path:
    """Where the built-in data sets are looked for: $C3_DATA, or `data` in the current folder."""
    return Path(os.environ.get("C3_DATA", "data"))


def read_catalog(user_file: str | Path | None = None) -> dict[str, dict[str, Entry]]:
    """Section -> name -> Entry. An entry of the user's file replaces the built-in one of the same name."""
    catalog = _read(BUILT_IN, data_root())
    if user_file is not None:
        path = Path(user_file)
        for section, entries in _read(path, path.parent).items():
            catalog[section] |= entries
    return catalog


def read_yaml(path: Path, kind: str) -> Any:
    """The content of a YAML file of the user's; `kind` says in errors what it is."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise C3Error(f"{kind} {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise C3Error(f"{kind} {path}{where} is not valid YAML: {getattr(error, 'problem', None) or error}") from error


def _read(path: Path, base: Path) -> dict[str, dict[str, Entry]]:
    content = read_yaml(path, "catalog")
    if not isinstance(content, dict) or content.get("version") != VERSION:
        found = content.get("version") if isinstance(content, dict) else type(content).__name__
        raise C3Error(f"catalog {path}: expected `version: {VERSION}` at the top, found {found}")
    for section in content.keys() - {"version", *SECTIONS}:
        raise C3Error(f"catalog {path}: unknown section {section!r}; known: {', '.join(SECTIONS)}")
    catalog: dict[str, dict[str, Entry]] = {}
    for section in SECTIONS:
        entries = content.get(section) or {}
        if not isinstance(entries, dict) or not all(isinstance(values, dict) for values in entries.values()):
            raise C3Error(f"catalog {path}: section {section!r} must map names to settings")
        catalog[section] = {name: Entry(name, values, base, path) for name, values in entries.items()}
    return catalog
