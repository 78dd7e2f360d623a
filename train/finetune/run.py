"""Front door of fine-tuning: a finished run and the images of its data set give a run with a backbone of its own."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from ...common.devices import denormals_flushed, resolve_device
from ...common.errors import C3Error
from ...common.signals import terminated_like_interrupted
from ...common.unicode_forms import path_text
from ...extract.backbone.network import state_hash
from ...extract.options import from_anywhere
from ...extract.request import Request, package_versions
from ..checkpoint import write_weights
from ..distributed.world import require_alone
from ..loop import Job, fit
from ..recipes import LoopOptions
from ..run import begun, now, opened_folder, short_hash
from ..run_folder import (
    BACKBONE,
    CHECKPOINT,
    FEATURES,
    WEIGHTS,
    ChosenEpoch,
    Run,
    RunRecord,
    Timings,
    TunedFrom,
    evaluate_command,
    open_run,
    read_log,
    write_classes,
    write_record,
)
from ..scorer import rebuild, word_form
from ..tensorboard import require_tensorboard
from ..training_state import Checkpointer
from ..validation import Validation
from .end_to_end import EndToEnd
from .images import PIXELS, ImageStream, ImageTable
from .start import FineTuneOptions, origin_of, request_of, start_of, tuning_recipe

LOG = logging.getLogger(__name__)
__all__ = ["FineTuneOptions", "finetune", "summary"]

SCORED_AT_ONCE = 32  # images; the layers of a backbone take far more memory than its features


@terminated_like_interrupted()
@denormals_flushed()
def finetune(options: FineTuneOptions) -> Run:
    """Train the backbone of a finished run together with its head, from images, and return the new run.

    The weights kept are those of the epoch with the best mAP over the seen classes of `val`; the run itself, before
    the first step, is a candidate. Without such labels they are those after the last epoch. The run folder,
    checkpoints and repetition work as in `train`. Raises C3Error before anything is written, also when the data set
    differs from that of the run.
    """
    require_alone("training end to end")
    device = resolve_device(options.device)
    if options.tensorboard:
        require_tensorboard()
    start = start_of(options)
    recipe = tuning_recipe(start, options.settings)
    head, request = rebuild(start), request_of(start, options)
    settings, origin = {**start.record.settings, **recipe.as_dict()}, origin_of(start)
    began = {"run": origin.run, "weights_sha256": origin.weights_sha256, "features": origin.features}
    identity = {"method": start.method, "store": request.digest, **began, **settings}
    path = options.runs / f"{start.method}-{start.dataset}-e2e-s{recipe.loop.seed}-{short_hash(identity)}"
    found = None if options.overwrite else begun(path)
    if found and found.finished:
        return found
    torch.manual_seed(recipe.loop.seed)
    model = EndToEnd(head, request.backbone, recipe.method)
    classes = request.manifest.classes
    vectors = word_form(classes, recipe.loop.vectors).trained
    table, stream = _images(start, request, recipe.loop, device)
    validation = _validation(table, request, recipe.loop)
    checkpointer = Checkpointer(path / CHECKPOINT, identity, options.checkpoint_minutes, options.checkpoint_steps)
    record = replace(
        start.record,
        id=path.name,
        status="training",
        created=found.record.created if found else now(),
        settings=settings,
        recipe=recipe.source,
        device=str(device),
        ranks=1,
        versions=package_versions(),
        tuned_from=origin,
        timings=None,
        validation=None,
    )
    with opened_folder(path, found, options.overwrite):
        write_record(path, record)
        LOG.info("%s on %s: %s", path.name, device, recipe.source)
        score = validation.score(model.to(device), vectors.to(device)) if validation else None
        if score is not None:
            LOG.info("%s has a validation mAP of %.2f %% before the first step", start.id, 100 * score)
        job = Job(
            model, stream, vectors, recipe.loop, device, path, checkpointer, validation, options.tensorboard, score
        )
        record = replace(record, timings=Timings(**fit(job)), validation=_chosen(path, score))
        return _finish(path, record, origin, model, request)


def _images(start: Run, request: Request, loop: LoopOptions, device: torch.device) -> tuple[ImageTable, ImageStream]:
    """Return the images that the run was trained on; all are decoded once if extraction could not read some."""
    expected = start.record.rows
    for read_before in (("train",), ()):
        table = ImageTable(request.manifest, read_before, request.options.decoding, request.backbone.resize)
        stream = ImageStream(table, "train", loop.batch_size, loop.seed, device)
        if len(stream.rows) == expected:
            return table, stream
    raise C3Error(
        f"{start.path} was trained on {expected:,} images, of which {len(stream.rows):,} can be read now; is the image "
        f"folder {request.manifest.root} whole?"
    )


def _validation(table: ImageTable, request: Request, loop: LoopOptions) -> Validation | None:
    """Return the images that choose among epochs, or None when `val` has no label of a seen class."""
    manifest = request.manifest
    labels = manifest.splits["val"].labels if "val" in manifest.splits else None
    if labels is not None and manifest.classes.seen[labels.indices[labels.value > 0]].any():
        return Validation(table, (PIXELS,), at_a_time=SCORED_AT_ONCE)
    if loop.patience:
        raise C3Error(f"data set {manifest.dataset} has no labels of seen classes in val; set patience=0")
    LOG.warning("val has no labels of seen classes: the weights after the last epoch are kept")
    return None


def _finish(path: Path, record: RunRecord, origin: TunedFrom, model: EndToEnd, request: Request) -> Run:
    """Write the weights of both parts, the classes and the finished record, which says how to extract the features."""
    tuned = model.backbone.weights()
    write_weights(path / BACKBONE, tuned)
    write_weights(path / WEIGHTS, model.head.state_dict())
    write_classes(path, request.manifest.classes)
    options = replace(request.options, weights=str(path / BACKBONE), out=path / FEATURES)
    request.backbone.weights_sha256 = state_hash(tuned)
    extraction = replace(request, options=options)
    features = replace(
        record.features,
        path=path_text((path / FEATURES).resolve()),
        digest=extraction.digest,
        tuned=True,
        weights_asked=from_anywhere(options.weights),
        weights_sha256=request.backbone.weights_sha256,
        request=options.record(),
        request_recorded=True,
    )
    parameters = sum(parameter.numel() for parameter in model.backbone.parameters())
    made_again = replace(origin, backbone_parameters=parameters, extract=options.command())
    write_record(path, replace(record, status="finished", features=features, tuned_from=made_again))
    (path / CHECKPOINT).unlink(missing_ok=True)
    return open_run(path)


def _chosen(path: Path, start: float | None) -> ChosenEpoch | None:
    """Return the validation mAP (0..1) of the start and of the weights kept, and their epoch; 0 is the start."""
    if start is None:
        return None
    scores = [start, *(line.values["val_mAP"] for line in read_log(path))]
    return ChosenEpoch(start, max(scores), scores.index(max(scores)))


def summary(run: Run) -> str:
    """Describe a finished run in a sentence, and give the next commands."""
    timings, chosen, tuned = run.record.timings, run.record.validation, run.record.tuned_from
    if timings is None or tuned is None:
        raise ValueError(f"{run.path} is no finished run of c3 finetune")
    told = f"{run.path} is trained end to end: {timings.seconds:.0f} s, {timings.rows_per_s:.0f} images/s"
    if chosen:
        which = f"after epoch {chosen.epoch}" if chosen.epoch else "of the start: no epoch was better"
        told += f"; validation mAP {100 * chosen.start:.2f} -> {100 * chosen.best:.2f} %, {which}"
    return f"{told}\nNext: {tuned.extract}\nthen: {evaluate_command(run.path)}"
