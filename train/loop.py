"""fit(): the training loop, one function read from top to bottom."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import C3Error
from ..progress import progress
from .batches import BatchStream
from .methods.base import Method
from .recipes import LoopOptions

LR_DROP = 0.1  # the learning rate is multiplied by this at `drop_epoch` (paper, section 4.1)


def batch_loss(
    model: Method, arrays: Mapping[str, Tensor], labels: Tensor, vectors: Tensor, precision: str = "fp32"
) -> dict[str, Tensor]:
    """The loss of one batch and its parts: labels (batch, trained classes) int8, vectors (trained classes, d_w).

    A zero-shot method is asked only for the classes with a known label in the batch: no loss sees the others, and where
    labels are sparse they are nearly all. `bf16` is for the model; losses are always computed in float32.
    """
    if model.zero_shot and not (known := (labels != 0).any(dim=0)).all():
        labels, vectors = labels[:, known], vectors[known]
    with torch.autocast(labels.device.type, torch.bfloat16, enabled=precision == "bf16"):
        embedding = model(arrays)
        scores = model.scores(embedding, vectors)
    embedding = tuple(map(_widened, embedding)) if isinstance(embedding, tuple) else _widened(embedding)
    return model.loss(embedding, _widened(scores), labels, vectors)


def _widened(values: Tensor) -> Tensor:
    return values.float() if values.dtype == torch.bfloat16 else values


def fit(
    model: Method, stream: BatchStream, vectors: Tensor, options: LoopOptions, device: torch.device, log: Path
) -> dict[str, float]:
    """Train `model` in place on the seen classes of `vectors`; write a line an epoch to `log`; return timings.

    Adam with coupled weight decay; the learning rate drops tenfold after `drop_epoch` epochs. A loss that is not finite
    stops the training with the step and the rows of the batch.
    """
    model.to(device).train()
    vectors = vectors.to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.lr, weight_decay=options.weight_decay, fused=True)
    started, waited, step = time.perf_counter(), 0.0, 0
    with log.open("w", newline="") as file, progress("train", options.epochs * len(stream.rows), "images") as bar:
        writer = None
        for epoch in range(options.epochs):
            lr = options.lr * (LR_DROP if epoch >= options.drop_epoch else 1.0)
            for group in optimiser.param_groups:
                group["lr"] = lr
            totals: dict[str, Tensor] = {}
            epoch_started, asked = time.perf_counter(), time.perf_counter()
            for batch in stream.epoch(epoch):
                waited += time.perf_counter() - asked
                arrays = {name: values.to(device, non_blocking=True).float() for name, values in batch.arrays.items()}
                parts = batch_loss(model, arrays, batch.labels.to(device), vectors, options.precision)
                if not torch.isfinite(parts["loss"]):
                    rows = ", ".join(map(str, sorted(batch.rows.tolist())))
                    raise C3Error(
                        f"the loss is {parts['loss'].item()} at step {step} of epoch {epoch} "
                        f"(rows {rows} of {stream.split}); lower --lr, or look at the features of these rows"
                    )
                optimiser.zero_grad(set_to_none=True)
                parts["loss"].backward()
                optimiser.step()
                model.after_step()
                step += 1
                share = len(batch.rows) / len(stream.rows)
                for name, value in parts.items():
                    totals[name] = totals.get(name, 0.0) + value.detach() * share
                bar.advance(len(batch.rows), note=f"epoch {epoch + 1}/{options.epochs}")
                asked = time.perf_counter()
            means = {name: value.item() for name, value in totals.items()}
            bar.note = f"epoch {epoch + 1}/{options.epochs}, loss {means['loss']:.4f}"
            rate = len(stream.rows) / (time.perf_counter() - epoch_started)
            line = {"epoch": epoch + 1, "step": step, "lr": lr, **means, "rows_per_s": round(rate, 1)}
            if writer is None:
                writer = csv.DictWriter(file, fieldnames=list(line))
                writer.writeheader()
            writer.writerow(line)
            file.flush()
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "wait_share": waited / seconds,
        "rows_per_s": options.epochs * len(stream.rows) / seconds,
    }
