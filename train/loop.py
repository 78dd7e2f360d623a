"""The training loop: `fit` reads from top to bottom."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..common.errors import C3Error
from ..common.memory import freed_memory_kept
from ..common.progress import progress
from ..common.signals import stop_requests
from .averaging import copied
from .data.batches import Batch, ShuffledBatches
from .distributed.rank_rows import rank_sizes
from .distributed.replica import replicate
from .distributed.world import World
from .models.base import Method
from .recipes import LoopOptions
from .run_folder import LOG as LOG_FILE
from .run_folder import write_csv
from .schedule import learning_rate
from .tensorboard import write_scalars
from .training_state import Checkpointer, TrainingState
from .validation import Validation

LOG = logging.getLogger(__name__)


def batch_loss(
    model: Method,
    arrays: Mapping[str, Tensor],
    labels: Tensor,
    vectors: Tensor,
    precision: str = "fp32",
    gather: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> dict[str, Tensor]:
    """Return the loss of a batch and its parts, scalars by name.

    arrays: name -> (batch, *shape) float32; labels (batch, trained classes) int8; vectors (trained classes, d_w)
    float32. `gather` adds the rows of the batch that other processes have, so that the loss is that of the whole batch
    with its pairs across images.

    A zero-shot method scores only the classes with a known label in the batch: no loss uses the others, which are
    nearly all where labels are sparse. `bf16` is the precision of the model; losses are always computed in float32.
    """
    labels = gather(labels)
    if model.zero_shot and not model.asks_all and not (known := (labels != 0).any(dim=0)).all():
        labels, vectors = labels[:, known], vectors[known]
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        embedding = model(arrays)
        scores = model.training_scores(embedding, vectors)

    def whole(values: Tensor) -> Tensor:
        return gather(values.float() if values.dtype == torch.bfloat16 else values)

    embedding = tuple(map(whole, embedding)) if isinstance(embedding, tuple) else whole(embedding)
    return model.loss(embedding, whole(scores), labels, vectors)


@dataclass(frozen=True)
class Job:
    """A model, the batches it is trained on, and where the log goes; TensorBoard scalars too with `board`.

    vectors (trained classes, d_w) float32. With `validation`, which `patience` needs, the weights of the best epoch are
    kept; `start` is the score of the weights before the first step, if these are a candidate too. Stream and validation
    have the same `world`; only its first process writes.
    """

    model: Method
    stream: ShuffledBatches
    vectors: Tensor
    options: LoopOptions
    device: torch.device
    folder: Path
    checkpointer: Checkpointer
    validation: Validation | None = None
    board: bool = False
    start: float | None = None
    world: World = World()


@freed_memory_kept()  # or every batch is copied into new pages, which takes as long as copying it
def fit(job: Job) -> dict[str, float]:
    """Train the model of a job in place on the seen classes, from its checkpoint if there is one; return timings.

    The final weights are those after the last step, their average, or those of the epoch with the best validation
    score, as the options say.

    SIGINT and SIGTERM finish the step, save a checkpoint and raise KeyboardInterrupt. If the store cannot read a batch,
    everything before it is saved and a C3Error raised. A loss that is not finite raises a C3Error with the step and the
    rows of the batch; the last checkpoint stays. Whatever ends one process of the world ends all after the same step.
    """
    model, stream, options, world = job.model, job.stream, job.options, job.world
    model.to(job.device).train()
    replicate(model, world, options.seed)
    vectors = job.vectors.to(job.device)
    state = TrainingState(model, options, job.device, world)
    with world.together():
        restored = job.checkpointer.restore(state)
    if restored:
        LOG.info("continuing after %d batches of epoch %d", state.at.batch, state.at.epoch + 1)
    elif job.start is not None:
        state.at.best, state.at.best_epoch, state.best = job.start, -1, copied(model)
    if options.compile:
        model.compile()
    at, sizes = state.at, stream.sizes
    steps, counts = len(sizes), rank_sizes(sizes, world.size).tolist()
    todo = (options.epochs - at.epoch) * len(stream.rows) - sum(sizes[: at.batch])
    with progress("train", todo, "images") as bar, stop_requests() as stop:
        while at.epoch < options.epochs and not _exhausted(state, options):
            batches = stream.epoch(at.epoch, at.batch)
            started = time.perf_counter()
            for batch, waited in _agreed(job, state, batches, stop):
                step, size = at.epoch * steps + at.batch, sizes[at.batch]
                gather = partial(world.gather, counts=counts[at.batch])
                parts = _step(job, state.optimiser, batch, vectors, learning_rate(options, step, steps), gather)
                if not math.isfinite(parts["loss"]):
                    rows = ", ".join(map(str, sorted(gather(torch.from_numpy(batch.rows)).tolist())))
                    raise C3Error(
                        f"the loss is {parts['loss']} at step {step} of epoch {at.epoch} "
                        f"(rows {rows} of {stream.split}); lower --lr, or look at the features of these rows"
                    )
                if state.average:
                    state.average.update(model, step)
                ended = time.perf_counter()
                at.add(parts, size / len(stream.rows), ended - started, waited)
                started = ended
                note = f"epoch {at.epoch + 1}/{options.epochs}, loss {parts['loss']:.4f}, waited {at.wait_share:.0%}"
                bar.advance(size, note=note)
                job.checkpointer.step()
            _end_epoch(job, state, vectors)
    state.require_finite()
    if kept := state.best or (state.average.state if state.average else None):
        model.load_state_dict(kept)
    return {
        "seconds": at.seconds,
        "wait_share": at.waited / at.seconds,
        "rows_per_s": len(at.lines) * len(stream.rows) / at.seconds,
    }


def _agreed(job: Job, state: TrainingState, batches: Iterator[Batch], stop: Event) -> Iterator[tuple[Batch, float]]:
    """Yield the batches, each with the seconds that the slowest rank waited for it, once all ranks agree to go on.

    The state is saved when a checkpoint is due, and before a signal or a damaged store ends the training.
    """
    while True:
        batch, failure, asked = None, None, time.perf_counter()
        try:
            batch = next(batches, None)
        except C3Error as error:
            failure = error
        waited = time.perf_counter() - asked
        failed, stopped, due, waited = job.world.maximum(
            job.world.failure_code(failure), stop.is_set(), job.checkpointer.due, waited
        )
        if failed or stopped or due:
            job.checkpointer.save(state)
        if failed:
            raise failure or job.world.error_of(failed)
        if stopped:
            done = state.at.epoch * len(job.stream.sizes) + state.at.batch
            raise KeyboardInterrupt(f"{job.folder} keeps the training up to step {done}; the same command continues")
        if batch is None:
            return
        yield batch, waited


def _step(
    job: Job, optimiser: Optimizer, batch: Batch, vectors: Tensor, lr: float, gather: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """Take a step of the optimiser; return the loss and its parts. A loss that is not finite changes no weights."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["scale"]
    parts = batch_loss(job.model, batch.features(), batch.labels, vectors, job.options.precision, gather)
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(parts["loss"])
    parts = {name: value.detach() for name, value in parts.items()}
    # the averaged loss is the same number on all ranks, so they all decide alike
    job.world.average([*(p.grad for p in job.model.parameters() if p.grad is not None), *parts.values()])
    values = {name: value.item() for name, value in parts.items()}
    if math.isfinite(values["loss"]):
        if job.options.clip:
            nn.utils.clip_grad_norm_(job.model.parameters(), job.options.clip)
        optimiser.step()
        job.model.after_step()
    return values


def _end_epoch(job: Job, state: TrainingState, vectors: Tensor) -> None:
    """Write the log line of the epoch, with its validation score, and move to the next epoch."""
    at, steps = state.at, len(job.stream.sizes)
    step = (at.epoch + 1) * steps
    line = {"epoch": at.epoch + 1, "step": step, "lr": learning_rate(job.options, step - 1, steps), **at.totals}
    line["rows_per_s"] = round(len(job.stream.rows) / at.epoch_seconds, 1)
    line["wait_share"] = round(at.wait_share, 4)
    if job.validation:
        with state.average.applied(job.model) if state.average else nullcontext():
            line["val_mAP"] = score = job.validation.score(job.model, vectors)
            if score > at.best:
                at.best, at.best_epoch, state.best = score, at.epoch, copied(job.model)
    at.next_epoch(line)
    with job.world.together():
        if job.world.first:
            write_csv(job.folder / LOG_FILE, at.lines)
        if job.world.first and job.board:
            write_scalars(job.folder / "tensorboard", line)


def _exhausted(state: TrainingState, options: LoopOptions) -> bool:
    """Return whether none of the last `patience` epochs was the best."""
    return bool(options.patience) and state.at.epoch - state.at.best_epoch > options.patience
