"""Something that happens in the middle of a training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from c3.train.training_state import Checkpointer


def after(steps: int, action: Callable[[], object], patch: pytest.MonkeyPatch) -> None:
    """Run an action after so many steps of the trainings that follow, before the last of them is saved."""
    real, done = Checkpointer.step, []

    def step(self: Checkpointer) -> None:
        real(self)
        done.append(1)
        if len(done) == steps:
            action()

    patch.setattr(Checkpointer, "step", step)
