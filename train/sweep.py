"""A grid of settings, run after run over one store: every combination is an ordinary run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from ..errors import C3Error
from .run import TrainOptions, train
from .runs import Run

LOG = logging.getLogger("c3")


@dataclass(frozen=True)
class Swept:
    """The runs of a sweep in grid order, and why some combinations failed: (settings, reason)."""

    runs: tuple[Run, ...]
    failures: tuple[tuple[dict[str, Any], str], ...]

    def first_failure(self) -> str:
        """One line about the first failure."""
        settings, reason = self.failures[0]
        return f"{', '.join(f'{name} {value}' for name, value in settings.items())}: {reason}"


def sweep(base: TrainOptions, grid: Mapping[str, Sequence[Any]], measure: Callable[[Run], Run]) -> Swept:
    """Train and measure every combination of the grid's values, the last name varying fastest.

    A combination that is trained already is not trained again, so that the same call continues a stopped sweep. One
    that fails (a loss that diverges) is noted and the rest goes on; an unknown setting stops the sweep at once.
    """
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    runs, failures = [], []
    for number, settings in enumerate(combinations, 1):
        try:
            runs.append(measure(train(replace(base, settings={**base.settings, **settings}))))
            LOG.info("%d of %d is done: %s", number, len(combinations), runs[-1].path)
        except C3Error as error:
            if not runs and not failures:
                raise  # what stops the first one is nearly always a mistake in the request
            LOG.warning("failed: %s", error)
            failures.append((settings, str(error)))
    return Swept(tuple(runs), tuple(failures))
