"""run.json as types: what was trained, on which features, with which settings. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from ...common.errors import C3Error
from ...common.parsing import STRICT, parse, to_json
from ...extract.store.origin import VectorOrigin
from ..inputs import Inputs

SCHEMA = 3  # 3: `cache.tuned`, `inputs.global_vector`. 2: `zero_shot`, `reads`, `inputs.classes`
TUNED = ", tuned end to end"  # shown behind the name of weights that a run tuned
OVERRIDDEN = "; overridden: "  # in the source of a recipe, before the settings that the request changed
Setting = bool | int | float | str


@dataclass(frozen=True)
class FeatureSource:
    """Where the features of a run came from, in enough detail to compute the same features of other pictures.

    `path` and `digest` name the store. `weights` are those of the backbone, by the name that the store records, and
    `weights_asked` what the extraction asked for (a name of the catalog, a file). `tuned` says that the run changed
    them itself. `splits` has the rows of each split. `request` is the record of the options of `c3 extract`, None where
    no images were extracted; a run of an early version recorded none (`request_recorded` False), but its store did.
    `vectors` is the text tower of the class vectors, `licence` that of the backbone's weights; None where the store
    names none.
    """

    path: str
    digest: str
    dataset: str
    backbone: str
    weights: str
    weights_asked: str
    labelling: str
    splits: Mapping[str, int]
    weights_sha256: str | None = None  # None in a run of schema 1
    precision: str = "fp32"
    crops: str = "whole"
    tuned: bool = False
    vectors: VectorOrigin | None = None
    licence: str | None = None
    request: Mapping[str, Any] | None = None  # JSON, which ExtractOptions parses
    request_recorded: bool = True

    @property
    def catalog(self) -> str | None:
        """Return the user's own catalog that the extraction read, as an absolute path, or None."""
        path = (self.request or {}).get("catalog")
        return path if isinstance(path, str) else None

    @property
    def weights_title(self) -> str:
        """Return the name of the weights for people, which says whether the run tuned them."""
        return self.weights + TUNED * self.tuned


@dataclass(frozen=True)
class Timings:
    """What training cost: seconds, training rows a second, and the share of the time spent waiting for data."""

    seconds: float
    rows_per_s: float
    wait_share: float = 0.0


@dataclass(frozen=True)
class TunedFrom:
    """Where fine-tuning began, and how to extract with the backbone that it left.

    `run` is the id of the start, `weights_sha256` the hash of its weights file, `features` the digest of the store that
    the first run of the chain was trained on. `backbone_parameters` and `extract`, the command that computes features
    with the tuned backbone, are known once the run has finished.
    """

    run: str
    weights_sha256: str
    features: str
    backbone_parameters: int | None = None
    extract: str | None = None


@dataclass(frozen=True)
class ChosenEpoch:
    """Validation mAP, 0..1, of the start and of the weights kept, and the epoch of these (0: the start itself)."""

    start: float
    best: float
    epoch: int


@dataclass(frozen=True)
class SeenScore:
    """mAP, 0..1, over the seen classes of the validation split after training, and that of random scores there."""

    mAP: float
    random: float


@dataclass(frozen=True)
class RunRecord:
    """The content of run.json.

    `settings` has every setting of the loop and of the method, and `recipe` says where they came from; `catalog` is the
    absolute path of the user's own catalog that the request named. `features` are those of the training, `inputs` the
    arrays on offer and `reads` the names of those that the method reads. `rows` is the number of training rows,
    `parameters` and `gflops` (10^9 operations an image) are those of the head. `ranks` processes shared the training.
    `seen` is absent where the store has no labelled split `val`. `tuned_from` and `validation` belong to runs whose
    backbone was tuned with the head.
    """

    __pydantic_config__: ClassVar[ConfigDict] = STRICT

    id: str
    method: str
    status: Literal["training", "finished"]
    created: str
    settings: Annotated[Mapping[str, Setting], Field(alias="config")]
    features: Annotated[FeatureSource, Field(alias="cache")]
    inputs: Inputs
    zero_shot: bool
    reads: tuple[str, ...]
    recipe: str
    rows: int
    parameters: int
    gflops: float
    device: str
    versions: Mapping[str, str] = field(default_factory=dict)
    ranks: int = 1
    timings: Timings | None = None
    seen: SeenScore | None = None
    tuned_from: Annotated[TunedFrom | None, Field(alias="end_to_end")] = None
    validation: ChosenEpoch | None = None
    catalog: str | None = None

    @property
    def val_score(self) -> float | None:
        """Return mAP, 0..1, over the seen classes of `val`, of the weights that were kept; None where unknown."""
        if self.validation:
            return self.validation.best
        return self.seen.mAP if self.seen else None

    @property
    def seed(self) -> int:
        """Return the seed of the training."""
        return int(self.number("seed"))

    @property
    def vectors(self) -> str:
        """Return the form in which the method takes word vectors: `l2` or `raw`."""
        return str(self.settings["vectors"])

    @property
    def first_features(self) -> str:
        """Return the digest of the store of the training, or of the first one in a chain of fine-tunings."""
        return self.tuned_from.features if self.tuned_from else self.features.digest

    @property
    def class_split(self) -> Mapping[str, Setting]:
        """Return the settings of a class split that is not the store's own; empty where it is the store's."""
        names = ("hide_seed", "folds", "fold", "held_images")
        return {name: self.settings[name] for name in names if name in self.settings}

    @property
    def of_fold(self) -> bool:
        """Whether the run is one of class-wise cross-validation."""
        return "folds" in self.settings

    @property
    def changed(self) -> dict[str, Setting]:
        """Return the settings that the request changed in the recipe, but for the seed, by name in order."""
        changes = self.recipe.partition(OVERRIDDEN)[2]
        names = {change.partition("=")[0] for change in changes.split(", ")} | self.class_split.keys()
        return {name: value for name, value in sorted(self.settings.items()) if name in names and name != "seed"}

    def number(self, name: str) -> float:
        """Return a numeric setting. Raises C3Error where the run has no such setting."""
        value = self.settings.get(name)
        if not isinstance(value, int | float):
            raise C3Error(f"run {self.id}: setting {name}: expected a number in run.json, found {value!r}")
        return value

    def record(self) -> dict[str, Any]:
        """Return the content of run.json, which `parse_record` reads back."""
        content = to_json(self, defaults=True)
        if not content["cache"].pop("request_recorded"):
            del content["cache"]["request"]
        for name in ("vectors", "licence"):
            if content["cache"][name] is None:
                del content["cache"][name]
        if self.tuned_from is None:
            del content["end_to_end"], content["validation"]
        else:
            content["end_to_end"] = {key: value for key, value in content["end_to_end"].items() if value is not None}
        for name in ("timings", "seen", "catalog"):
            if content[name] is None:
                del content[name]
        return {"schema": SCHEMA, **content}


def parse_record(content: dict[str, Any], where: str, remedy: str) -> RunRecord:
    """Return the record in the content of a run.json of any schema up to `SCHEMA`.

    Raises C3Error, which begins with `where` and ends with `remedy`, for anything else.
    """
    schema = content.pop("schema")
    return parse(RunRecord, _upgraded(content, schema), where, remedy)


def _upgraded(content: dict[str, Any], schema: int) -> dict[str, Any]:
    """Return the content of an older run.json as this version writes it; what is not as expected stays as it is."""
    content, features, inputs = dict(content), content.get("cache"), content.get("inputs")
    if isinstance(features, dict):
        features = {"request_recorded": "request" in features, **features}
        weights = features.get("weights")
        features.setdefault("weights_asked", weights)
        if schema < 3 and isinstance(weights, str) and weights.endswith(TUNED):
            features |= {"weights": weights.removesuffix(TUNED), "tuned": True}
        content["cache"] = features
    if isinstance(inputs, dict):
        if schema == 1 and isinstance(inputs.get("channels"), dict):  # three methods, all zero-shot, read all levels
            content = {"zero_shot": True, "reads": list(inputs["channels"]), **content}
            inputs = {"classes": 0, **inputs}
        content["inputs"] = {("global_vector" if name == "vector" else name): value for name, value in inputs.items()}
    return content
