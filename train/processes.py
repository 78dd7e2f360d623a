"""Call a function for many items: one after the other in this process, or several at once, each in its own process."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Generic, TypeVar

from ..common.errors import C3Error
from ..common.signals import terminated_like_interrupted

LOG = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
Task = Callable[[Item, int], Result]

# A server imports everything once and forks every child: children start in hundredths of a second, without the threads
# and the CUDA context of this process.
PROCESSES = get_context("forkserver")


def outcomes(
    task: Task[Item, Result], items: Sequence[Item], jobs: int = 1, modules: Sequence[str] = ()
) -> Generator[tuple[int, Result | C3Error], None, None]:
    """Call `task(item, slot)` for every item; yield the number of the item and its result or its C3Error.

    One job runs here and in order. Several jobs run in at most `jobs` processes at a time, and results come as they
    end; task, items and results are then pickled, and `modules` are imported once for all. The running processes have
    slots 0 to jobs - 1. A process that dies gives a C3Error. Lines that a process writes to stderr are logged here with
    the number of its item.

    When the generator is closed, or a signal arrives, the processes get SIGTERM and the time to save; a second signal
    kills them.
    """
    if jobs == 1:
        return _here(task, items)
    PROCESSES.set_forkserver_preload(list(modules))
    return _in_processes(task, items, jobs)


def _here(task: Task[Item, Result], items: Sequence[Item]) -> Generator[tuple[int, Result | C3Error], None, None]:
    for number, item in enumerate(items):
        try:
            yield number, task(item, 0)
        except C3Error as error:
            yield number, error


def _in_processes(
    task: Task[Item, Result], items: Sequence[Item], jobs: int
) -> Generator[tuple[int, Result | C3Error], None, None]:
    waiting, free = deque(enumerate(items)), deque(range(jobs))
    running: list[_Child[Result]] = []
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
        _stop(running)


class _Child(Generic[Result]):
    """A process that runs the task for one item."""

    def __init__(self, task: Task[Item, Result], item: Item, slot: int, number: int, name: str) -> None:
        self.slot, self.number, self.name, self._last_line = slot, number, name, ""
        self.answer, answer = PROCESSES.Pipe(duplex=False)
        lines, stderr = PROCESSES.Pipe(duplex=False)
        self._process = PROCESSES.Process(target=_work, args=(task, item, slot, answer, stderr), daemon=True)
        self._process.start()
        answer.close()  # the child's ends: open here, they would keep the pipes open after its death
        stderr.close()
        self._reader = Thread(target=self._relay, args=(lines,), daemon=True)
        self._reader.start()

    def outcome(self) -> Result | C3Error:
        """Wait for the end of the process; return its result, or the error that says why there is none."""
        with self.answer:
            self._reader.join()  # ends when the child's stderr closes, even if the fork server is dead
            self._process.join()
            try:
                found: Result | C3Error = self.answer.recv()
            except EOFError:
                return C3Error(f"{self._death()}; the same command continues")
            return found

    def send(self, number: signal.Signals) -> None:
        """Send the process a signal if it is alive."""
        if self._reader.is_alive() and self._process.pid is not None:
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
            return "its process was ended by SIGKILL, which the system sends when memory runs out"
        if code is not None and code < 0:
            return f"its process was ended by {signal.Signals(-code).name}"
        return f"its process ended with exit code {code} ({self._last_line})"


def _work(task: Task[Item, Result], item: Item, slot: int, answer: Connection, stderr: Connection) -> None:
    """Run the task in a child process and send its outcome."""
    os.setpgrp()  # Ctrl-C reaches the parent alone, which passes it on once: a second signal would not wait
    os.dup2(stderr.fileno(), sys.stderr.fileno())
    stderr.close()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    Thread(target=_stop_with_parent, daemon=True).start()
    with terminated_like_interrupted():
        try:
            answer.send(task(item, slot))
        except C3Error as error:
            answer.send(error)
        except KeyboardInterrupt as interrupt:
            answer.send(C3Error(f"interrupted. {interrupt}"))


def _stop_with_parent() -> None:
    """Send this process SIGTERM, so that it saves, when the parent is killed."""
    if parent := parent_process():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _stop(children: Sequence[_Child[Result]]) -> None:
    """End processes with SIGTERM and log their outcomes; another SIGINT kills them."""
    for child in children:
        child.send(signal.SIGTERM)
    try:
        for child in children:
            LOG.info("%s: %s", child.name, child.outcome())
    except KeyboardInterrupt:
        for child in children:
            child.send(signal.SIGKILL)
        raise
