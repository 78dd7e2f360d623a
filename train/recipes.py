"""The settings of a training run: the recipe of the method for the data set, overridden by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Generic

from ..common.catalog_file import Recipes, read_catalog
from ..common.errors import unknown_name
from .class_split import ClassSplit
from .names import ABLATED, WORD_FORMS
from .run_folder import OVERRIDDEN
from .settings import (
    BelowOne,
    Count,
    Natural,
    NotNegative,
    OffOrPositive,
    Options,
    Positive,
    Settings,
    Takes,
    one_of,
    options_from,
)

FALLBACK = "default"  # the recipes of a data set that has none of its own
# Of these. On 180 photographs c3-plus and conse gained up to there and not beyond (docs/own-data.md).
LEAST_STEPS = 100


@dataclass(frozen=True)
class LoopOptions(ClassSplit):
    """Settings of the loop that every method shares, with those of the class split.

    `optimizer` is `adam`, whose weight decay is added to the gradient, or `adamw`, which shrinks the weights themselves
    (Loshchilov and Hutter 2019). `schedule` is `step` or `cosine`, and `warmup` its first steps (schedule.py). `clip`
    bounds the norm of the gradient, `ema` is the decay of averaged weights (averaging.py), and training ends after
    `patience` epochs without a better validation score (validation.py); 0 turns each off. `compile` uses torch.compile.
    `vectors` is the form of the word vectors (models/word_forms.py); `precision` is `fp32`, or `bf16` for the forward
    pass under autocast.
    """

    epochs: Count = 20
    batch_size: Annotated[int, Takes("at least 2", lambda value: value >= 2)] = 48  # batch statistics need two images
    lr: Positive = 5e-5
    weight_decay: NotNegative = 4e-3
    optimizer: Annotated[str, one_of(("adam", "adamw"))] = "adam"
    schedule: Annotated[str, one_of(("step", "cosine"))] = "step"
    drop_epoch: Natural = 7
    warmup: Natural = 0
    clip: OffOrPositive = 0.0
    ema: BelowOne = 0.0
    patience: Natural = 0
    compile: bool = False
    vectors: Annotated[str, one_of(WORD_FORMS)] = "l2"
    precision: Annotated[str, one_of(("fp32", "bf16"))] = "fp32"
    seed: Annotated[int, Takes("0 to 2^63 - 1", lambda value: 0 <= value < 2**63)] = 0  # what numpy and torch take


@dataclass(frozen=True)
class Recipe(Generic[Options]):
    """The loop's and the method's options, and where their values come from."""

    loop: LoopOptions
    method: Options
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Return flat settings, as run.json holds them; those of a class split only where it is drawn."""
        settings = asdict(self.loop) | asdict(self.method)
        return {name: value for name, value in settings.items() if name not in self.loop.off_names}


def settings_of(options: type[Settings]) -> dict[str, type[Settings]]:
    """Return every setting that a method with these options takes, and the class that holds it."""
    return {field.name: kind for kind in (LoopOptions, options) for field in fields(kind)}


def resolve_recipe(
    method: str,
    options: type[Options],
    dataset: str,
    overrides: Mapping[str, Any],
    catalog: Path | None = None,
    rows: int = 0,
) -> Recipe[Options]:
    """Merge the catalog's recipe with the overrides; names and types are checked.

    The recipe is that of the data set, else of `default`. An ablation without one of its own has that of the method
    that it is made of. `source` says which was found. On fewer training `rows` than the recipes of `default` were
    chosen on, these get more epochs (see `LEAST_STEPS`).
    """
    values, recipe, source = _found(read_catalog(catalog).recipes, method, dataset)
    settings = values | dict(overrides)
    known = settings_of(options)
    for name in settings:
        if name not in known:
            raise unknown_name(f"setting of method {method}", name, known)
    if recipe == FALLBACK and rows and "epochs" not in overrides:
        longer = _lengthened(options_from(LoopOptions, settings), rows)
        settings = values | longer | dict(overrides)
        source += f"; {longer['epochs']} epochs, for {LEAST_STEPS} steps on {rows:,} rows" if longer else ""
    if overrides:
        source += OVERRIDDEN + ", ".join(f"{name}={value}" for name, value in overrides.items())
    return Recipe(options_from(LoopOptions, settings), options_from(options, settings), source)


def _found(recipes: Mapping[str, Recipes], method: str, dataset: str) -> tuple[dict[str, str], str, str]:
    """Return the settings of the recipe of a method on a data set, its name, and where they come from in words."""
    for name in dict.fromkeys((dataset, FALLBACK)):
        for owner in dict.fromkeys((method, ABLATED.get(method, method))):
            if owner in recipes.get(name, {}):
                values = dict(recipes[name][owner])
                fallback = "" if name == dataset else f" ({dataset} has none)"
                return values, name, f"recipe {name}/{owner}{fallback}: {values.pop('source', 'no source given')}"
    return {}, "", f"no recipe for {method} on {dataset}: the defaults of the settings"


def _lengthened(loop: LoopOptions, rows: int) -> dict[str, int]:
    """Return the epochs that make `LEAST_STEPS` steps on `rows` rows, and `drop_epoch` at the same share of them.

    Nothing where the epochs of `loop` are enough.
    """
    epochs = -(-LEAST_STEPS // -(-rows // loop.batch_size))
    if epochs <= loop.epochs:
        return {}
    return {"epochs": epochs, "drop_epoch": round(loop.drop_epoch * epochs / loop.epochs)}
