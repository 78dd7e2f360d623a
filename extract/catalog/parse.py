"""Catalog entries -> typed specs; everything that does not fit is told in one line, with the path of each setting."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ...common.catalog_file import Entry, Setting
from ...common.errors import C3Error, unknown_name
from ...common.parsing import expectation
from .specs import Spec, Surroundings

S = TypeVar("S", bound=Spec)


def parse(spec: type[S], entry: Entry, surroundings: Surroundings, **given: object) -> S:
    """Read an entry as a spec, with facts `given` beside it that a catalog cannot set.

    Raises C3Error with file, path of the setting, expected and found, for every setting that does not fit.
    """
    where = f"{entry.section}.{entry.name}"
    given["name"] = entry.name
    known = [name for name in _settings(spec) if name not in given]
    faults = list(_empty(entry.values, where))
    if faults:
        raise C3Error(f"catalog {entry.file}: {'; '.join(faults)}: fill in the setting or delete it")
    faults = [str(unknown_name(f"setting of {where}:", name, known)) for name in given if name in entry.values]
    try:
        parsed = spec.model_validate(entry.values | given, context=surroundings)
    except ValidationError as error:
        faults += [_fault(fault, where, spec, known) for fault in error.errors()]
    if faults:
        raise C3Error(f"catalog {entry.file}: {'; '.join(faults)}")
    return parsed


def _empty(value: Setting, where: str) -> Iterator[str]:
    """Name the settings without a value: a forgotten one must not count as one that was left out."""
    if value is None:
        yield f"{where}: expected a value, found nothing"
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield from _empty(item, f"{where}.{name}")


def _fault(fault: ErrorDetails, where: str, spec: type[Spec], known: list[str]) -> str:
    *parents, name = fault["loc"]
    holder = ".".join(map(str, (where, *parents)))
    if fault["type"] == "extra_forbidden":
        others = _settings(_model_at(spec, parents)) if parents else known
        return str(unknown_name(f"setting of {holder}:", str(name), others))
    if fault["type"] == "missing":
        return f"{holder}: the setting {name!r} is missing"
    return f"{holder}.{name}: {expectation(fault)}"


def _settings(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(model: type[BaseModel], path: Iterable[object]) -> type[BaseModel]:
    """Follow the path of a setting into the models that hold it; numbers are places in a list."""
    for part in path:
        for name, field in model.model_fields.items():
            if part in (name, field.alias):
                model = next(_models(field.annotation), model)
    return model


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)
