"""The start of fine-tuning: a finished run, its settings, its data set and its backbone."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...common.errors import C3Error, unknown_name
from ...extract.options import ExtractOptions
from ...extract.request import Request, prepare
from ...extract.store.cache import FeatureCache
from ..class_split import ClassSplit
from ..names import DEFAULT_METHOD
from ..recipes import LoopOptions, Recipe
from ..run_folder import FEATURES, WEIGHTS, Run, TunedFrom, list_runs, open_run, read_classes
from ..schedule import LR_DROP
from ..settings import options_from
from .end_to_end import EndToEndOptions

LOG = logging.getLogger(__name__)

# Where fine-tuning differs from the recipe of the run that it starts from; chosen on val (docs/training.md).
EPOCHS, SCHEDULE, WARMUP = 3, "cosine", 10


@dataclass(frozen=True)
class FineTuneOptions:
    """The request of `c3 finetune`. `settings` override those of the run `start`, by name.

    Without `start`, it is the newest finished run of the data set and `method` below `runs`, with the seed that the
    settings name, if any. The other fields are those of `TrainOptions`.
    """

    dataset: str
    start: Path | None = None
    method: str = DEFAULT_METHOD
    runs: Path = Path("runs")
    settings: Mapping[str, Any] = field(default_factory=dict)
    catalog: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int = 0
    tensorboard: bool = False


def tuning_recipe(start: Run, settings: Mapping[str, Any]) -> Recipe[EndToEndOptions]:
    """Return the loop settings of a run, changed by the defaults of fine-tuning and then by `settings`.

    The learning rate is a tenth of the run's, as at the end of the schedule `step`, because the head is trained
    already. There is no weight decay: it would pull the weights of a trained backbone to zero. Raises C3Error for a
    setting that the weights of the head depend on.
    """
    config = start.record.settings
    loop = {field.name for field in fields(LoopOptions)} - {field.name for field in fields(ClassSplit)} - {"vectors"}
    known = loop | {field.name for field in fields(EndToEndOptions)}
    for name in settings:
        if name not in known and name in config:
            raise C3Error(f"setting {name} belongs to the head, which is that of {start.path}: train one with it first")
        if name not in known:
            raise unknown_name("setting of training end to end", name, sorted(known))
    own = {name: value for name, value in config.items() if name != "backbone_lr"}
    tuning = {"epochs": EPOCHS, "schedule": SCHEDULE, "warmup": WARMUP, "weight_decay": 0.0}
    tuning["lr"] = start.record.number("lr") * LR_DROP
    source = f"end to end from {start.id}"
    if settings:
        source += "; overridden: " + ", ".join(f"{name}={value}" for name, value in settings.items())
    chosen = own | tuning | dict(settings)
    return Recipe(options_from(LoopOptions, chosen), options_from(EndToEndOptions, chosen), source)


def start_of(options: FineTuneOptions) -> Run:
    """Return the run that is named, or the newest finished run that fits."""
    if options.start is not None:
        run = open_run(options.start)
        run.require_finished()
        if split := run.record.class_split:
            named = ", ".join(f"{name} {value}" for name, value in split.items())
            raise C3Error(f"{run.path} has a class split of its own ({named}); start from a run on the store's split")
        if run.dataset != options.dataset:
            raise C3Error(f"{run.path} is a run on {run.dataset}; expected one on {options.dataset}")
        return run
    seed = options.settings.get("seed")
    fitting = [
        run
        for run in list_runs(options.runs)
        if (run.dataset, run.method) == (options.dataset, options.method)
        and run.finished
        and run.record.tuned_from is None
        and not run.record.class_split
        and (seed is None or str(seed) == str(run.seed))
    ]
    if not fitting:
        with_seed = "" if seed is None else f" with seed {seed}"
        raise C3Error(
            f"{options.runs} has no finished run of {options.method} on {options.dataset}{with_seed} to start from; "
            f"train one with: c3 train --cache features.zarr --method {options.method}, or name one: "
            f"c3 finetune RUN --dataset {options.dataset}"
        )
    LOG.info("starting from %s, the newest run that fits; c3 finetune RUN starts from another", fitting[-1].path)
    return fitting[-1]


def origin_of(start: Run) -> TunedFrom:
    """Return where the weights began: the run, the hash of its file, and the digest of the features at first."""
    weights = hashlib.sha256((start.path / WEIGHTS).read_bytes()).hexdigest()
    return TunedFrom(start.id, weights, start.record.first_features)


def request_of(start: Run, options: FineTuneOptions) -> Request:
    """Return the request that extracted the features of a run, with its data set read again and its backbone.

    Raises C3Error if the features would now be others.
    """
    made = start.record.features
    asked = made.request
    if not made.request_recorded:  # a run of an older c3: its store knows
        asked = FeatureCache.open(made.path).provenance.request
    if asked is None:
        raise C3Error(f"the features of {start.path} were not extracted from images by c3; there is nothing to tune")
    known = ExtractOptions.from_record(dict(asked), start.path / FEATURES)
    if known.precision == "fp16":
        raise C3Error(f"the features of {start.path} are of precision fp16, whose gradients vanish; extract others")
    catalog = options.catalog or known.catalog
    if catalog and not options.catalog and not catalog.is_file():
        raise C3Error(
            f"the catalog of the data set of {start.path}, {catalog}, is gone; name the one that has it now: "
            f"c3 --catalog FILE finetune {start.path} --dataset {options.dataset}"
        )
    request = prepare(replace(known, weights=start.weights_asked, catalog=catalog, device=options.device))
    if request.digest == made.digest:
        return request
    own, now = read_classes(start), request.manifest.classes
    same = {
        "classes": own.names == now.names and np.array_equal(own.seen, now.seen),
        "word vectors": np.array_equal(own.vectors, now.vectors),
        "numbers of rows": made.splits == {name: len(rows) for name, rows in request.manifest.splits.items()},
        "backbone weights": made.weights_sha256 == request.backbone.weights_sha256,
    }
    differing = [name for name, equal in same.items() if not equal] or ["labels or images"]
    raise C3Error(
        f"data set {options.dataset} is not what {start.path} was trained on: other {', '.join(differing)} (digest of "
        f"the features: expected {made.digest}, found {request.digest}); extract it again and train on that"
    )
