"""Refuse to measure on a machine that is busy: its figures would be wrong, and look like any others."""

from __future__ import annotations

import os

from c3.common.errors import C3Error

QUIET = 0.3  # load of the last minute: what an idle system does by itself


def require_quiet(busy: bool) -> float:
    """Return the load of the last minute. Raises C3Error where it is above QUIET, unless `busy` says to go on."""
    load = os.getloadavg()[0]
    if load > QUIET and not busy:
        raise C3Error(
            f"the load of this machine is {load:.1f}, expected at most {QUIET}: figures would be wrong. Stop what else "
            "runs and wait a minute, or give --busy"
        )
    return load
