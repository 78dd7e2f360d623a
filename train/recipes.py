"""The settings of a training run: the recipe of the method for the data set, overridden by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from ..common.catalog_file import read_catalog
from ..common.errors import C3Error, unknown_name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Options = TypeVar("Options", bound="DataclassInstance")
FALLBACK = "default"  # the recipes of a data set that has none of its own
SWITCH = {"true": True, "false": False}


@dataclass(frozen=True)
class LoopOptions:
    """Settings of the loop that every method shares.

    `schedule` is `step` or `cosine`, and `warmup` its first steps (schedule.py). `clip` bounds the norm of the
    gradient, `ema` is the decay of averaged weights (averaging.py), and training ends after `patience` epochs without a
    better validation score (validation.py); 0 turns each off. `compile` uses torch.compile. `vectors` is `l2`
    (normalised) or `raw`; `precision` is `fp32`, or `bf16` for the forward pass under autocast.
    """

    epochs: int = 20
    batch_size: int = 48
    lr: float = 5e-5
    weight_decay: float = 4e-3
    schedule: str = "step"
    drop_epoch: int = 7
    warmup: int = 0
    clip: float = 0.0
    ema: float = 0.0
    patience: int = 0
    compile: bool = False
    vectors: str = "l2"
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        # batch statistics need two images
        for name, least in (("epochs", 1), ("batch_size", 2), ("warmup", 0), ("patience", 0)):
            if getattr(self, name) < least:
                raise C3Error(f"setting {name}: expected at least {least}, found {getattr(self, name)}")
        if not 0 < self.lr < float("inf") or not 0 <= self.weight_decay < float("inf"):
            raise C3Error(
                f"settings lr and weight_decay: expected positive numbers, found {self.lr} and {self.weight_decay}"
            )
        if not 0 <= self.clip < float("inf"):
            raise C3Error(f"setting clip: expected 0 (off) or a positive number, found {self.clip}")
        if not 0 <= self.ema < 1:
            raise C3Error(f"setting ema: expected 0 (off) to below 1, found {self.ema}")
        for name, known in (
            ("schedule", ("step", "cosine")),
            ("vectors", ("l2", "raw")),
            ("precision", ("fp32", "bf16")),
        ):
            if getattr(self, name) not in known:
                raise C3Error(f"setting {name}: expected {' or '.join(known)}, found {getattr(self, name)!r}")


@dataclass(frozen=True)
class Recipe:
    """The loop's and the method's options, and where their values come from."""

    loop: LoopOptions
    method: Any
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Return flat settings, as run.json holds them."""
        return asdict(self.loop) | asdict(self.method)


def settings_of(options: type[Any]) -> dict[str, type[Any]]:
    """Return every setting that a method with these options takes, and the class that holds it."""
    return {field.name: kind for kind in (LoopOptions, options) for field in fields(kind)}


def resolve_recipe(
    method: str, options: type[Any], dataset: str, overrides: Mapping[str, Any], catalog: Path | None = None
) -> Recipe:
    """Merge the catalog's recipe (of the data set, else `default`) with the overrides; names and types are checked."""
    recipes = read_catalog(catalog).recipes
    name = dataset if method in recipes.get(dataset, {}) else FALLBACK
    values = dict(recipes[name].get(method, {}))
    source = f"recipe {name}/{method}: {values.pop('source', 'no source given')}"
    if overrides:
        source += "; overridden: " + ", ".join(f"{name}={value}" for name, value in overrides.items())
    settings = values | dict(overrides)
    known = settings_of(options)
    for name in settings:
        if name not in known:
            raise unknown_name(f"setting of method {method}", name, known)
    return Recipe(options_from(LoopOptions, settings), options_from(options, settings), source)


def options_from(kind: type[Options], settings: Mapping[str, Any]) -> Options:
    """Return options of a class, filled with those settings that it has. Raises C3Error for a value of another type.

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
    try:
        typed = kind(value)
    except (TypeError, ValueError):
        raise C3Error(f"setting {name}: expected {kind.__name__}, found {value!r}") from None
    if kind is int and float(value) != typed:
        raise C3Error(f"setting {name}: expected a whole number, found {value!r}")
    return typed
