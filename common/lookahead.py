"""Start work ahead of its use: a bounded number of tasks under way, results in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class Pending(Protocol[Result_co]):
    """Work under way, such as a concurrent.futures.Future."""

    def result(self) -> Result_co:
        """Wait for the work and return its result, or raise its error."""

    def cancel(self) -> object:
        """Drop the work if it has not begun."""


def look_ahead(
    start: Callable[[Item], Pending[Result]], items: Iterable[Item], ahead: int
) -> Generator[Result, None, None]:
    """Start work on every item and yield the results in the order of the items.

    `ahead` tasks are under way while the caller uses a result; items are taken only as far as that needs. An error of
    a task is raised in the place of its result. Closing the generator cancels what has not begun.
    """
    waiting: deque[Pending[Result]] = deque()
    try:
        for item in items:
            waiting.append(start(item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pending in waiting:
            pending.cancel()


def iterate_ahead(items: Generator[Item, None, None], ahead: int, thread: str) -> Iterator[Item]:
    """Yield the same items, or the same error in its place; a thread of that name makes the next `ahead` of them.

    The generator is closed at the end, or when the caller stops.
    """
    end = object()
    with closing(items), ThreadPoolExecutor(1, thread) as worker:

        def start(source: Iterator[Item]) -> Pending[Item | object]:
            return worker.submit(next, source, end)

        with closing(look_ahead(start, repeat(items), ahead)) as found:
            for item in found:
                if item is end:
                    return
                yield item  # type: ignore[misc]  # anything but `end` is an item
