"""Stop without loss on SIGINT (Ctrl-C) and on SIGTERM, which batch systems send before they kill."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM, as on Ctrl-C."""
    with _handled(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that either signal sets, for work that has to finish a step. A second Ctrl-C interrupts at once.

    A second SIGTERM changes nothing: a batch system signals every process, and so does the parent of this one.
    """
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        stop.set()

    with _handled(handle, signal.SIGINT, signal.SIGTERM):
        yield stop


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # Python gives signals to the main thread only
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)
