"""fit(): the training loop, one function read from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import C3Error
from ..progress import progress
from .averaging import Average, copied
from .batches import Batch, BatchStream
from .methods.base import Method
from .recipes import LoopOptions
from .runs import write_csv
from .schedule import learning_rate
from .validation import Validation


def batch_loss(
    model: Method, arrays: Mapping[str, Tensor], labels: Tensor, vectors: Tensor, precision: str = "fp32"
) -> dict[str, Tensor]:
    """The loss of one batch and its parts: labels (batch, trained classes) int8, vectors (trained classes, d_w).

    A zero-shot method is asked only for the classes with a known label in the batch: no loss sees the others, and where
    labels are sparse they are nearly all. `bf16` is for the model; losses are always computed in float32.
    """
    if model.zero_shot and not model.asks_all and not (known := (labels != 0).any(dim=0)).all():
        labels, vectors = labels[:, known], vectors[known]
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        embedding = model(arrays)
        scores = model.training_scores(embedding, vectors)
    embedding = tuple(map(_widened, embedding)) if isinstance(embedding, tuple) else _widened(embedding)
    return model.loss(embedding, _widened(scores), labels, vectors)


def _widened(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.bfloat16 else values


@dataclass(frozen=True)
class Job:
    """What is trained and on what; `log` is the file that gets a line an epoch.

    vectors (trained classes, d_w) float32. `validation` is there where the options have patience.
    """

    model: Method
    stream: BatchStream
    vectors: Tensor
    options: LoopOptions
    device: torch.device
    log: Path
    validation: Validation | None = None


def fit(job: Job) -> dict[str, float]:
    """Train the model of a job in place on the seen classes; write a line an epoch to its log; return timings.

    Adam with coupled weight decay. The weights at the end are those after the last step, or their average, or those of
    the epoch with the best validation score, as the options say. A loss that is not finite stops the training with the
    step and the rows of the batch.
    """
    model, stream, options = job.model, job.stream, job.options
    model.to(job.device).train()
    vectors = job.vectors.to(job.device)
    if options.compile:
        model.compile()
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
    average = Average(model, options.ema) if options.ema else None
    best, best_epoch, best_state = -1.0, 0, None
    lines: list[dict[str, float]] = []
    seconds = waited = 0.0
    with progress("train", options.epochs * len(stream.rows), "images") as bar:
        for epoch in range(options.epochs):
            totals: dict[str, float] = {}
            epoch_started, epoch_waited = time.perf_counter(), 0.0
            batches, number = stream.epoch(epoch), 0
            while True:
                asked = time.perf_counter()
                if (batch := next(batches, None)) is None:
                    break
                epoch_waited += time.perf_counter() - asked
                step = epoch * stream.steps + number
                lr = learning_rate(options, step, stream.steps)
                parts = _step(job, optimiser, batch, vectors, lr)
                if not math.isfinite(parts["loss"]):
                    rows = ", ".join(map(str, sorted(batch.rows.tolist())))
                    raise C3Error(
                        f"the loss is {parts['loss']} at step {step} of epoch {epoch} "
                        f"(rows {rows} of {stream.split}); lower --lr, or look at the features of these rows"
                    )
                if average:
                    average.update(model, step)
                number += 1
                share = len(batch.rows) / len(stream.rows)
                for name, value in parts.items():
                    totals[name] = totals.get(name, 0.0) + value * share
                wait = epoch_waited / (time.perf_counter() - epoch_started)
                note = f"epoch {epoch + 1}/{options.epochs}, loss {parts['loss']:.4f}, waited {wait:.0%}"
                bar.advance(len(batch.rows), note=note)
            epoch_seconds = time.perf_counter() - epoch_started
            seconds, waited = seconds + epoch_seconds, waited + epoch_waited
            line = {"epoch": epoch + 1, "step": step + 1, "lr": lr, **totals}
            line |= {
                "rows_per_s": round(len(stream.rows) / epoch_seconds, 1),
                "wait_share": round(epoch_waited / epoch_seconds, 4),
            }
            if job.validation:
                with average.applied(model) if average else nullcontext():
                    line["val_mAP"] = score = job.validation.score(model, vectors)
                    if score > best:
                        best, best_epoch, best_state = score, epoch, copied(model)
            lines.append(line)
            write_csv(job.log, lines)
            if job.validation and epoch - best_epoch >= options.patience:
                break
    if best_state or average:
        model.load_state_dict(best_state or average.state)
    return {
        "seconds": seconds,
        "wait_share": waited / seconds,
        "rows_per_s": len(lines) * len(stream.rows) / seconds,
    }


def _step(job: Job, optimiser: Optimizer, batch: Batch, vectors: Tensor, lr: float) -> dict[str, float]:
    """One step of the optimiser; gives the loss and its parts. Without a finite loss the weights stay as they are."""
    for group in optimiser.param_groups:
        group["lr"] = lr
    arrays = {name: values.to(job.device, non_blocking=True).float() for name, values in batch.arrays.items()}
    parts = batch_loss(job.model, arrays, batch.labels.to(job.device), vectors, job.options.precision)
    values = {name: value.item() for name, value in parts.items()}
    if math.isfinite(values["loss"]):
        optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()
        if job.options.clip:
            nn.utils.clip_grad_norm_(job.model.parameters(), job.options.clip)
        optimiser.step()
        job.model.after_step()
    return values
