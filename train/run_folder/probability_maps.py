"""probabilities.json as types: how the scores of a run become probabilities. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from ...common.errors import C3Error
from ...common.parsing import STRICT, parse, to_json
from .folder import PROBABILITIES, evaluate_command, read_json, write_json

PROBABILITIES_SCHEMA = 1
Finite = Annotated[float, Field(allow_inf_nan=False)]
Slope = Annotated[float, Field(ge=0, allow_inf_nan=False)]  # a probability never falls where the score rises
Kind = Literal["platt", "isotonic"]
Reading = Literal["logistic", "clipped"]


@dataclass(frozen=True)
class SharedMap:
    """The map that all classes share: log odds at ascending scores, with straight lines between them.

    `platt` has two scores, and its line goes on beyond them. `isotonic` has any number, and stays where it ends.
    """

    kind: Kind
    scores: tuple[Finite, ...]
    logits: tuple[Finite, ...]


@dataclass(frozen=True)
class ClassMap:
    """What a class adds to the shared map: its log odds are slope * shared + intercept. `positives` are its labels."""

    name: str
    positives: int
    slope: Slope
    intercept: Finite


@dataclass(frozen=True)
class OtherMap:
    """The same for every other class and word; runs of `folds` chose it, or it is the shared map itself (0)."""

    slope: Slope = 1.0
    intercept: Finite = 0.0
    folds: int = 0


@dataclass(frozen=True)
class ProbabilityMaps:
    """The content of probabilities.json.

    `images` and `positives` (labels) are those of the seen classes of validation that the maps were fitted on. `errors`
    is the expected calibration error of both kinds of a shared map, 0..1, on images left out of the fit; the smaller
    one chose. `reading` is how a score would be read without a map: by the logistic function, or clipped to 0..1.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    images: int
    positives: int
    errors: Mapping[Kind, Finite]
    reading: Reading
    shared: SharedMap
    other: OtherMap
    classes: tuple[ClassMap, ...]


def write_probabilities(folder: Path, maps: ProbabilityMaps) -> None:
    """Replace probabilities.json."""
    write_json(folder / PROBABILITIES, {"schema": PROBABILITIES_SCHEMA, **to_json(maps, defaults=True)})


def read_probabilities(folder: Path) -> ProbabilityMaps | None:
    """Return the maps of a run, or None where it has none. Raises C3Error for a damaged file."""
    path, remedy = folder / PROBABILITIES, f"write it again: {evaluate_command(folder)}"
    if not path.exists():
        return None
    content = read_json(path, PROBABILITIES_SCHEMA, remedy)
    content.pop("schema")
    maps = parse(ProbabilityMaps, content, str(path), remedy)
    scores, logits = maps.shared.scores, maps.shared.logits
    if len(scores) < 2 or len(scores) != len(logits):
        raise C3Error(
            f"{path} is damaged: expected as many log odds as scores, two or more, found {len(scores)} scores and "
            f"{len(logits)} log odds; {remedy}"
        )
    if falls := [(a, b) for a, b in pairwise(scores) if b <= a]:
        raise C3Error(
            f"{path} is damaged: expected scores that ascend, found {falls[0][1]} after {falls[0][0]}; {remedy}"
        )
    return maps
