"""Run an action in the middle of a training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from c3.train.training_state import Checkpointer


def after(steps: int, action: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Run `action` after `steps` steps of the trainings that follow, before the last of these steps is saved."""
    real, done = Checkpointer.step, []

    def step(self: Checkpointer) -> None:
        real(self)
        done.append(1)
        if len(done) == steps:
            action()

    patch.setattr(Checkpointer, "step", step)
