"""Collect the warnings of a decoder with the picture they belong to.

`warnings.catch_warnings` swaps the state of the whole process, so that threads catch each other's warnings. Here one
filter is added instead: it keeps the warnings of threads that are decoding, and leaves all others to the next filter.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast


class _Collector(threading.local):
    """The text pattern of a filter. `texts` are the warnings of this thread, None while it decodes nothing."""

    texts: list[str] | None = None

    def match(self, text: str) -> bool:
        """Keep a warning of a thread that is decoding."""
        if self.texts is not None:
            self.texts.append(text)
        return self.texts is not None


_COLLECTOR = _Collector()
_FILTER = ("ignore", _COLLECTOR, Warning, None, 0)  # "ignore": it is collected, and shown nowhere else
_LOCK = threading.Lock()


@contextmanager
def collected_warnings() -> Generator[list[str], None, None]:
    """Collect the texts of this thread's warnings inside the block."""
    _add_filter()
    before, _COLLECTOR.texts = _COLLECTOR.texts, []
    try:
        yield _COLLECTOR.texts
    finally:
        _COLLECTOR.texts = before


def _add_filter() -> None:
    """Put the filter first, also again after code elsewhere restored the filters of an earlier time."""
    filters = cast("list[Any]", warnings.filters)  # a list; its type promises patterns of `re` only
    if not (filters and filters[0] is _FILTER):
        with _LOCK:
            if _FILTER in filters:
                filters.remove(_FILTER)
            filters.insert(0, _FILTER)
