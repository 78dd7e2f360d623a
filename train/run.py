"""FRONT DOOR of training: cache + method + settings -> run folder."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.devices import denormals_flushed, resolve_device
from ..common.errors import C3Error, unknown_name
from ..common.memory import told_when_full
from ..common.signals import terminated_like_interrupted
from ..common.unicode_forms import path_text
from ..extract.store.cache import FeatureCache, Status
from .checkpoint import write_weights
from .class_split import ClassSplit
from .data.batches import BatchStream, has_positive
from .data.placement import Placement
from .data.shared_arrays import SharedArrays
from .distributed.world import World, launched, require_alone
from .loop import Job, fit
from .names import DEFAULT_METHOD
from .recipes import Recipe, resolve_recipe, settings_of
from .registry import inputs_of, method_class, methods_named, require_one_space, require_seen_classes
from .run_folder import (
    CHECKPOINT,
    FOLDS,
    RECORD,
    WEIGHTS,
    FeatureSource,
    Run,
    RunRecord,
    Timings,
    claimed,
    open_run,
    write_classes,
    write_record,
)
from .scorer import gflops, word_form
from .settings import Settings
from .tensorboard import require_tensorboard
from .training_state import Checkpointer
from .validation import Validation, seen_score

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainOptions:
    """The request of `c3 train`. `settings` override the recipe by name.

    Only method, settings and store decide the weights. `residency` says where the arrays are during training
    (data/placement.py). A checkpoint is written every `checkpoint_minutes`, and also every `checkpoint_steps` unless
    that is 0. `shared` holds the arrays that several trainings share (data/shared_arrays.py).
    """

    cache: Path | str
    method: str = DEFAULT_METHOD
    runs: Path = Path("runs")
    settings: Mapping[str, Any] = field(default_factory=dict)
    catalog: Path | None = None
    device: str = "auto"
    overwrite: bool = False
    residency: str = "auto"
    checkpoint_minutes: float = 5.0
    checkpoint_steps: int = 0
    tensorboard: bool = False
    shared: SharedArrays | None = None


def train_each(
    options: TrainOptions, seeds: Sequence[int] = (0,), more_caches: Sequence[Path | str] = ()
) -> Iterator[Run]:
    """Train every method that `options.method` stands for (`table1`, or one name) with every seed, a run each.

    `more_caches` are trained on after `options.cache` in the same way. A setting that only some methods of a group have
    goes to those. Raises C3Error for one that none has. Processes started by torchrun train each run together; only the
    first of them yields it.
    """
    methods = methods_named(options.method)
    takes = {method: settings_of(method_class(method).Options) for method in methods}
    for name in options.settings:
        if not any(name in known for known in takes.values()):
            every = sorted({key for known in takes.values() for key in known})
            raise unknown_name(f"setting of {options.method}", name, every)
    caches = list(dict.fromkeys([options.cache, *more_caches]))
    with launched(options.device) as world:
        for cache, method, seed in itertools.product(caches, methods, seeds):
            settings = {name: value for name, value in options.settings.items() if name in takes[method]}
            asked = replace(options, cache=cache, method=method, settings=settings | {"seed": seed})
            run = train(asked, world)
            if world.first:
                yield run


@terminated_like_interrupted()
@denormals_flushed()
@told_when_full("use a smaller batch_size, or settings that make smaller layers")
def train(options: TrainOptions, world: World | None = None) -> Run:
    """Train one method on a complete cache and return its run folder.

    The name of the folder is a function of method, data set, settings and store: the same request finds its finished
    run and does nothing; an unfinished one continues from its checkpoint. Raises C3Error before anything is written.

    In a world of several processes all of them call this; the first one writes, and all return the same run.
    """
    if world is None:
        require_alone("this training")
        world = World(resolve_device(options.device))
    with world.together():
        kind = method_class(options.method)
        if options.tensorboard:
            require_tensorboard()
        cache = FeatureCache.open(options.cache)
        cache.require_complete()
        require_seen_classes(cache)
        kind.reads(inputs_of(cache))  # a method that the store has no arrays for is refused
        recipe, identity, path = planned(options, cache, world.size)
        if recipe.loop.compile and world.size > 1:
            raise C3Error("setting compile: several processes cannot train a compiled model; leave it false")
        found = None if options.overwrite else begun(path, world)
    world.require_same("method, settings and store", int(short_hash(identity), 16))
    world.require_same(f"what is in {path}", _stage(found))
    if found and found.finished:
        return found
    with world.together():
        torch.manual_seed(recipe.loop.seed)
        cache = recipe.loop.view(cache)
        model = kind(inputs_of(cache), recipe.method)
        vectors = word_form(cache.classes, recipe.loop.vectors).trained
        model.prepare(vectors)
        reads = model.reads(model.inputs)
        place = Placement(options.residency, world.device, world.local_size, options.shared)
        stream = BatchStream(cache, "train", reads, recipe.loop.batch_size, recipe.loop.seed, place=place, world=world)
        validation = Validation(cache, reads, world=world) if recipe.loop.patience else None
    checkpointer = Checkpointer(path / CHECKPOINT, identity, options.checkpoint_minutes, options.checkpoint_steps)
    board = options.tensorboard
    job = Job(model, stream, vectors, recipe.loop, world.device, path, checkpointer, validation, board, world=world)
    record = _record(path, options, recipe, cache, job)
    if found:
        record = replace(record, created=found.record.created)
    with ExitStack() as held:
        with world.together():
            if world.first:
                held.enter_context(opened_folder(path, found, options.overwrite))
                write_record(path, record)
        LOG.info("%s on %s: %s", path.name, _computed_on(world), recipe.source)
        _tell_rows(path.name, cache, recipe.loop, stream)
        timings = Timings(**fit(job))
        scored = seen_score(cache, model, vectors.to(world.device), world)
        finished = replace(record, timings=timings, seen=scored, status="finished")
        with world.together():
            if world.first:
                write_weights(path / WEIGHTS, model.state_dict())
                write_classes(path, cache.classes)
                write_record(path, finished)
                checkpointer.path.unlink(missing_ok=True)
    return open_run(path) if world.first else Run(path, finished, None)  # another machine may see the files late


def _stage(run: Run | None) -> int:
    """Return how far a run folder is: 0 nothing, 1 begun, 2 with a checkpoint, 3 finished."""
    if run is None:
        return 0
    return 3 if run.finished else 1 + (run.path / CHECKPOINT).exists()


def _computed_on(world: World) -> str:
    return f"{world.size} processes ({world.device.type})" if world.size > 1 else str(world.device)


def planned(
    options: TrainOptions, cache: FeatureCache, ranks: int = 1
) -> tuple[Recipe[Settings], dict[str, Any], Path]:
    """Return the recipe of a request, what decides its weights, and the run folder that is named after it.

    Runs of folds lie in a folder of their own, so that no table shows them.

    Raises C3Error for a method, a setting or a value that does not exist.
    """
    kind, dataset = method_class(options.method), cache.origin.dataset
    require_one_space(options.method, cache)
    recipe = resolve_recipe(
        options.method, kind.Options, dataset, options.settings, options.catalog, _rows_to_train(cache)
    )
    # the number of processes decides which rows meet in a batch, and so the weights
    divided = {"ranks": ranks} if ranks > 1 else {}
    identity = {"method": options.method, "store": cache.digest, **recipe.as_dict(), **divided}
    name = f"{options.method}-{dataset}-s{recipe.loop.seed}-{short_hash(identity)}"
    return recipe, identity, (options.runs / FOLDS if recipe.loop.folds else options.runs) / name


def _rows_to_train(cache: FeatureCache) -> int:
    """Count the readable rows of `train` with a positive label of a seen class, on the store's own split.

    A fold may have fewer: its runs keep the epochs of the others, or they could not stand for them.
    """
    if "train" not in cache.splits:
        return 0
    labelled = has_positive(cache.labels("train"), cache.classes.seen)
    return int(np.count_nonzero(labelled & (cache.status("train") == Status.OK)))


def _tell_rows(run: str, cache: FeatureCache, split: ClassSplit, stream: BatchStream) -> None:
    """Say how many rows of train are not trained on, and why; rows that a fold holds back have a line of their own."""
    held = np.zeros(cache.rows("train"), bool)
    if split.held_images:
        held[split.held_rows(cache.image_ids("train"))] = True
    lacking = {reason: np.count_nonzero(rows & ~held) for reason, rows in stream.lacking.items()}
    if told := ", ".join(f"{count:,} {reason}" for reason, count in lacking.items() if count):
        LOG.info("%s trains on %s rows; left out: %s", run, f"{len(stream.rows):,}", told)
    if held.any():
        LOG.info("%s holds back %s rows of train (%g of its images), which lose their labels and are scored with val",
                 run, f"{held.sum():,}", split.held_images)  # fmt: skip


def begun(path: Path, world: World = World()) -> Run | None:
    """Return the run in the folder of a request, finished or not; None where there is none."""
    if not (path / RECORD).exists():
        return None
    found = open_run(path)
    if found.finished:
        LOG.info("%s is trained already; nothing to do", path)
        if world.first:
            (path / CHECKPOINT).unlink(missing_ok=True)  # a kill can come between the record and this
    return found


@contextmanager
def opened_folder(path: Path, found: Run | None, overwrite: bool) -> Iterator[None]:
    """Prepare the folder of a run and hold it inside the block.

    Raises C3Error where another process holds it, or has trained the run since it was `found`.
    """
    with claimed(path):
        if not overwrite and _stage(begun(path)) != _stage(found):
            raise C3Error(f"another process has trained {path} meanwhile; give the command again")
        _prepare(path, found)
        yield


def _prepare(path: Path, unfinished: Run | None) -> None:
    """Keep the folder of a run where a checkpoint can be continued, else make it new."""
    try:
        if unfinished and (path / CHECKPOINT).exists():
            for scratch in path.glob(".*.new"):  # of a process that was killed while it wrote
                scratch.unlink()
            return
        if unfinished:
            LOG.info("%s was not finished and has no checkpoint; training it again from the start", path)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    except OSError as error:
        raise C3Error(f"cannot create the run folder {path}: {error.strerror}") from error


def _record(path: Path, options: TrainOptions, recipe: Recipe[Settings], cache: FeatureCache, job: Job) -> RunRecord:
    model = job.model
    return RunRecord(
        id=path.name,
        method=options.method,
        status="training",
        created=now(),
        settings=recipe.as_dict(),
        features=source_of(cache),
        inputs=model.inputs,
        zero_shot=model.zero_shot,
        reads=model.reads(model.inputs),
        recipe=recipe.source,
        rows=len(job.stream.rows),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        gflops=gflops(model),
        device=str(job.device),
        versions={"python": platform.python_version()}
        | {name: version(name) for name in ("c3-mlzsl", "torch", "zarr", "numpy")},
        ranks=job.world.size,
        catalog=path_text(options.catalog.resolve()) if options.catalog else None,
    )


def now() -> str:
    """Return the time in UTC, as records hold it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def short_hash(identity: Mapping[str, Any]) -> str:
    """Return eight hex digits of what decides the weights of a run."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def source_of(cache: FeatureCache) -> FeatureSource:
    """Return where the features of a store came from, as run.json keeps it."""
    origin, provenance = cache.origin, cache.provenance
    return FeatureSource(
        path=cache.storage.address,
        digest=cache.digest,
        dataset=origin.dataset,
        backbone=origin.backbone,
        licence=cache.provenance.licence,
        weights=provenance.weights,
        weights_asked=provenance.weights_asked,
        labelling=origin.labelling,
        splits=cache.shape.row_counts,
        weights_sha256=origin.weights_sha256,
        precision=origin.precision,
        crops=origin.crops,
        vectors=cache.notes.vectors,
        request=provenance.request,
    )
