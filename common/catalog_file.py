"""Read `data_catalog.yaml` and the user's own catalog, which extends it entry by entry.

Every value stays the text that stands in the file: a class called `no`, a data set called `2024` and a folder called
`007` keep their names, with or without quotes. The schema of a setting decides its type.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from .errors import C3Error, described, unknown_name
from .text_files import read_text
from .unicode_forms import nfc
from .user_paths import expanded

VERSION = "1"
MOST = 1_000_000  # settings of a file, as often as aliases repeat them
ENTRY_SECTIONS = ("datasets", "vectors", "weights")
SECTIONS = (*ENTRY_SECTIONS, "recipes")
BUILT_IN = Path(__file__).parents[1] / "data_catalog.yaml"
LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader  # the former is twenty times as fast
NULL, MERGE = "tag:yaml.org,2002:null", "tag:yaml.org,2002:merge"

Setting: TypeAlias = "str | list[Setting] | dict[str, Setting] | None"
Recipes: TypeAlias = dict[str, dict[str, str]]  # method -> setting -> value, of one data set


@dataclass(frozen=True)
class Entry:
    """One named item of a section. Relative paths in it start at `base`; `file` is the catalog that holds it."""

    section: str
    name: str
    values: dict[str, Setting]
    base: Path
    file: Path


@dataclass(frozen=True)
class CatalogFile:
    """The sections of a catalog: name -> entry, and data set -> recipes."""

    datasets: dict[str, Entry]
    vectors: dict[str, Entry]
    weights: dict[str, Entry]
    recipes: dict[str, Recipes]

    def extended(self, own: CatalogFile) -> CatalogFile:
        """Return this catalog with the entries of `own`, which replace those of the same name."""
        return CatalogFile(
            self.datasets | own.datasets,
            self.vectors | own.vectors,
            self.weights | own.weights,
            self.recipes | {name: self.recipes.get(name, {}) | methods for name, methods in own.recipes.items()},
        )


def data_root() -> Path:
    """Return the folder of the built-in data sets: $C3_DATA, or `data` in the current folder."""
    try:
        return Path(expanded(os.environ.get("C3_DATA") or "data"))
    except ValueError as fault:
        raise C3Error(f"the variable C3_DATA: expected {fault}") from fault


def read_catalog(user_file: str | Path | None = None) -> CatalogFile:
    """Read the built-in catalog, extended by the user's own when there is one.

    Raises C3Error naming the file, and the setting or line, for what is not YAML or not a catalog.
    """
    catalog = _read(BUILT_IN, data_root())
    if user_file is None:
        return catalog
    path = Path(user_file)
    return catalog.extended(_read(path, path.parent))


def read_yaml(path: Path, kind: str) -> Any:
    """Return the content of a YAML file that the user wrote; `kind` says in errors what the file is."""
    try:
        return yaml.safe_load(read_text(path, kind))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:  # PyYAML leaves bad dates to Python
        raise _unreadable(path, kind, error) from error


def _unreadable(path: Path, kind: str, error: Exception) -> C3Error:
    mark = getattr(error, "problem_mark", None)
    where = f" line {mark.line + 1}" if mark else ""
    return C3Error(f"{kind} {path}{where} is not valid YAML: {getattr(error, 'problem', None) or error}")


def _read(path: Path, base: Path) -> CatalogFile:
    content = _read_texts(path)
    if not isinstance(content, dict) or content.get("version") != VERSION:
        found = content.get("version") if isinstance(content, dict) else content
        raise C3Error(f"catalog {path}: expected `version: {VERSION}` at the top, found {described(found)}")
    for section in content.keys() - {"version", *SECTIONS}:
        raise unknown_name(f"section in catalog {path}:", section, SECTIONS)
    sections = {section: _named_settings(content.get(section), f"{path}: {section}") for section in SECTIONS}
    entries = {
        section: {name: Entry(section, name, values, base, path) for name, values in sections[section].items()}
        for section in ENTRY_SECTIONS
    }
    recipes = {
        dataset: {method: _texts(values, f"{path}: recipes.{dataset}.{method}") for method, values in named.items()}
        for dataset, methods in sections["recipes"].items()
        for named in [_named_settings(methods, f"{path}: recipes.{dataset}")]
    }
    return CatalogFile(entries["datasets"], entries["vectors"], entries["weights"], recipes)


def _named_settings(content: Setting, where: str) -> dict[str, dict[str, Setting]]:
    """Return a mapping of names to settings; a section without content has none."""
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise C3Error(f"catalog {where}: expected a mapping of names to settings, found {described(content)}")
    named: dict[str, dict[str, Setting]] = {}
    for name, values in content.items():
        if not isinstance(values, dict):
            raise C3Error(f"catalog {where}.{name}: expected settings (name: value), found {described(values)}")
        named[name] = values
    return named


def _texts(values: dict[str, Setting], where: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    for name, value in values.items():
        if not isinstance(value, str):
            raise C3Error(f"catalog {where}.{name}: expected a number or a word, found {described(value)}")
        texts[name] = value
    return texts


def _read_texts(path: Path) -> Setting:
    try:
        root = yaml.compose(read_text(path, "catalog"), Loader=LOADER)
        return None if root is None else _Nodes(path).setting(root)
    except yaml.YAMLError as error:
        raise _unreadable(path, "catalog", error) from error
    except RecursionError:
        raise C3Error(f"catalog {path} is nested too deeply, or an alias in it refers to itself") from None


class _Nodes:
    """The nodes of a YAML file as texts, lists and dicts, each as often as aliases repeat it, up to `MOST`."""

    def __init__(self, path: Path) -> None:
        self._path, self._left = path, MOST

    def setting(self, node: yaml.Node) -> Setting:
        """Return the content of a node; `<<` merges other mappings, whose settings give way."""
        self._left -= 1
        if not self._left:
            raise C3Error(f"catalog {self._path}: its aliases repeat more than {MOST:,} settings")
        if isinstance(node, yaml.SequenceNode):
            return [self.setting(item) for item in node.value]
        if not isinstance(node, yaml.MappingNode):
            return None if node.tag == NULL else str(node.value)
        own: dict[str, Setting] = {}
        merged: dict[str, Setting] = {}
        for key, value in node.value:
            where = f"catalog {self._path} line {key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode):
                raise C3Error(f"{where}: expected a name before the colon, found a list or a mapping")
            name = nfc(key.value)
            if key.tag == MERGE:
                sources = self.setting(value)
                for source in sources if isinstance(sources, list) else [sources]:
                    if not isinstance(source, dict):
                        raise C3Error(f"{where}: << merges mappings only, found {described(source)}")
                    merged = source | merged
            elif name in own:
                raise C3Error(f"{where}: {name!r} is set twice; once is enough")
            else:
                own[name] = self.setting(value)
        return merged | own
