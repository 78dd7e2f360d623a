"""A function called for many items, in this process or in several at once, each item in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any

from ..common.errors import C3Error
from ..common.signals import terminated_like_interrupted

LOG = logging.getLogger(__name__)

# A server imports everything once, and children are forked from it: they start in hundredths of a second, without the
# threads and the CUDA context of this process.
PROCESSES = get_context("forkserver")


def outcomes(
    task: Callable[[Any, int], Any], items: Sequence[Any], jobs: int = 1, modules: Sequence[str] = ()
) -> Iterator[tuple[int, Any | C3Error]]:
    """Call `task(item, slot)` for every item; yield the item's number and the result, or the C3Error in its place.

    With one job here and in order; else in at most `jobs` processes at a time, in the order in which they end. Task,
    items and results are pickled then, and `modules` are imported once for all; the processes alive have slots 0 to
    jobs - 1. A process that dies is a C3Error too. What a process writes to stderr becomes lines of this one's log,
    with the item's number.

    When the iterator is closed, or a signal arrives, the processes get SIGTERM and have the time to save; a second
    signal kills them.
    """
    if jobs == 1:
        return _here(task, items)
    PROCESSES.set_forkserver_preload(list(modules))
    return _in_processes(task, items, jobs)


def _here(task: Callable[[Any, int], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any | C3Error]]:
    for number, item in enumerate(items):
        try:
            yield number, task(item, 0)
        except C3Error as error:
            yield number, error


def _in_processes(
    task: Callable[[Any, int], Any], items: Sequence[Any], jobs: int
) -> Iterator[tuple[int, Any | C3Error]]:
    waiting, free, running = deque(enumerate(items)), deque(range(jobs)), []
    try:
        while waiting or running:
            while waiting and free:
                number, item = waiting.popleft()
                running.append(_Child(task, item, free.popleft(), number, f"{number + 1} of {len(items)}"))
            ended = wait([child.answer for child in running])
            for child in [child for child in running if child.answer in ended]:
                running.remove(child)
                free.append(child.slot)
                yield child.number, child.outcome()
    finally:
        _end(running)


class _Child:
    """One item in a process of its own."""

    def __init__(self, task: Callable[[Any, int], Any], item: Any, slot: int, number: int, name: str) -> None:
        self.slot, self.number, self.name, self._last_line = slot, number, name, ""
        self.answer, answer = PROCESSES.Pipe(duplex=False)
        lines, stderr = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(target=_work, args=(task, item, slot, answer, stderr), daemon=True)
        self._process.start()
        answer.close()  # the child's ends: ours would keep the pipes open after its death
        stderr.close()
        self._reader = Thread(target=self._relay, args=(lines,), daemon=True)
        self._reader.start()

    def outcome(self) -> Any | C3Error:
        """What the process gave, or why it gave nothing; waits for its end."""
        with self.answer:
            self._reader.join()  # until nobody has the other end: the server may be dead, and know of no end
            self._process.join()
            try:
                return self.answer.recv()
            except EOFError:
                return C3Error(f"{self._death()}; the same command continues")

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is alive."""
        if self._reader.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, number)

    def _relay(self, lines: Connection) -> None:
        with lines, open(lines.fileno(), errors="replace", closefd=False) as text:
            for line in text:
                if line.strip():
                    self._last_line = line.strip()
                    LOG.info("%s: %s", self.name, line.rstrip())

    def _death(self) -> str:
        code = self._process.exitcode
        if code == -signal.SIGKILL:
            return "its process was ended by SIGKILL, which is what the system does when memory runs out"
        if code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code} ({self._last_line})"


def _work(task: Callable[[Any, int], Any], item: Any, slot: int, answer: Connection, stderr: Connection) -> None:
    """What a child runs."""
    os.setpgrp()  # Ctrl-C reaches the parent alone, which passes it on once: a second signal would not wait
    os.dup2(stderr.fileno(), sys.stderr.fileno())
    stderr.close()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    Thread(target=_follow, daemon=True).start()
    with terminated_like_interrupted():
        try:
            answer.send(task(item, slot))
        except C3Error as error:
            answer.send(error)
        except KeyboardInterrupt as interrupt:
            answer.send(C3Error(f"interrupted. {interrupt}"))


def _follow() -> None:
    """Stop in good order when the parent dies without a word."""
    parent_process().join()
    os.kill(os.getpid(), signal.SIGTERM)


def _end(children: Sequence[_Child]) -> None:
    for child in children:
        child.send(signal.SIGTERM)
    try:
        for child in children:
            LOG.info("%s: %s", child.name, child.outcome())
    except KeyboardInterrupt:
        for child in children:
            child.send(signal.SIGKILL)
        raise
