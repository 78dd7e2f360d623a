"""SIGINT (Ctrl-C) and SIGTERM, which batch systems send before they kill, mean the same: stop, and lose nothing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM ends work as Ctrl-C does, by KeyboardInterrupt."""
    with _handled(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """A signal of either kind sets the event, for work that has to finish a step; after it Ctrl-C interrupts at once.

    SIGTERM may come twice: from a batch system that signals every process, and from the parent of this one.
    """
    stop = threading.Event()

    def handle(number: int, frame: Any) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.set()

    with _handled(handle, signal.SIGINT, signal.SIGTERM):
        yield stop


@contextmanager
def _handled(handler: Callable[[int, Any], None], *numbers: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread only
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
