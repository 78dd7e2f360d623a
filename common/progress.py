"""Show the progress of long work: a live bar on a terminal, plain log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LOG = logging.getLogger(__name__)
BAR_WIDTH, BESIDE = 20, 4  # characters of a live bar, and of the spinner and blanks beside it
LINE_EVERY = 15.0  # seconds between log lines when the output is not a terminal


class Bar:
    """Count finished and failed units; `advance` is cheap enough to call for every batch."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = self.failed = 0
        self.note = ""
        self.started = self._last_line = time.monotonic()

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self.started, 1e-9)

    def advance(self, count: int, failed: int = 0, note: str = "") -> None:
        """Count `count` more units, of which `failed` failed; `note` replaces the free text at the end of the line."""
        self.done += count
        self.failed += failed
        self.note = note or self.note
        self._show()

    def line(self, width: int | None = None) -> str:
        """Return one plain line: count, time left, failures, rate, note. What `width` has no room for is left out."""
        parts = [f"{self.title}: {self.done:,}/{self.total:,} {self.unit}"]
        if self.done:
            parts.append(f"{_clock((self.total - self.done) / self.rate)} left")
        parts += [f"{self.failed:,} failed"] if self.failed else []
        parts += [f"{self.rate:.1f} {self.unit}/s"] if self.done else []
        parts += [self.note] if self.note else []
        while width is not None and len(parts) > 1 and len(", ".join(parts)) > width:
            parts.pop()
        return ", ".join(parts)

    def _show(self) -> None:
        if time.monotonic() - self._last_line >= LINE_EVERY and self.done < self.total:
            self._last_line = time.monotonic()
            LOG.info(self.line())

    def close(self) -> None:
        """Log the summary."""
        if self.done:
            failed = f", {self.failed:,} failed" if self.failed else ""
            LOG.info("%s: %s %s in %s, %.1f %s/s%s", self.title, f"{self.done:,}", self.unit,
                     _clock(time.monotonic() - self.started), self.rate, self.unit, failed)  # fmt: skip


class _LiveBar(Bar):
    """A bar at the left, a spinner that turns before the first unit is done, and as much of `line` as has room."""

    def __init__(self, title: str, total: int, unit: str) -> None:
        super().__init__(title, total, unit)
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        bar = BarColumn(bar_width=BAR_WIDTH)
        columns = (bar, SpinnerColumn(), TextColumn("{task.description}", markup=False))
        self._live = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._live.add_task(self._text(), total=total)
        self._live.start()

    def _show(self) -> None:
        self._live.update(self._task, completed=self.done, description=self._text())

    def _text(self) -> str:
        return self.line(self._live.console.width - BAR_WIDTH - BESIDE)

    def close(self) -> None:
        self._live.stop()
        super().close()


@contextmanager
def progress(title: str, total: int, unit: str) -> Iterator[Bar]:
    """Show the progress of `total` units of work, and end with one summary line. Silent when the log is."""
    bar = (_LiveBar if sys.stderr.isatty() and LOG.isEnabledFor(logging.INFO) else Bar)(title, total, unit)
    try:
        yield bar
    finally:
        bar.close()


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
