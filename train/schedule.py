"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

from .recipes import LoopOptions

LR_DROP = 0.1  # of the schedule `step`: the learning rate is multiplied by this at `drop_epoch` (paper, section 4.1)


def learning_rate(options: LoopOptions, step: int, epoch_steps: int) -> float:
    """Return the learning rate of step 0, 1, ... when an epoch has `epoch_steps` steps.

    `step`: lr, and a tenth of it from epoch `drop_epoch` on. `cosine`: lr (1 + cos(pi t)) / 2 with t from 0 after the
    warmup to 1 at the end (Loshchilov and Hutter 2017, without restarts). The first `warmup` steps rise linearly.
    """
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    if options.schedule == "step":
        return options.lr * (LR_DROP if step // epoch_steps >= options.drop_epoch else 1.0)
    left = max(options.epochs * epoch_steps - options.warmup, 1)
    return options.lr * (1 + math.cos(math.pi * (step - options.warmup) / left)) / 2
