"""Child processes in hundredths of a second: they are forked from a server that has imported everything once.

A process has one such server, with the modules that were asked for last before its start: all test files ask here.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver

FORKS = multiprocessing.get_context("forkserver")
# an optimiser would import torch._dynamo
FORKS.set_forkserver_preload(
    ["c3.extract.migrate", "c3.extract.cluster", "c3.train.run", "torch._dynamo", "c3.cli", "pytest"]
)


def start_server() -> None:
    """Start the server now, for code that would start one with fewer modules."""
    forkserver.ensure_running()
