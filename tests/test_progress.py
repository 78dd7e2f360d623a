"""Progress: what a line says, and that it has room in a narrow terminal."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from c3.common.progress import Bar, progress
from rich.console import Console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_names_failures_only_where_there_are_some() -> None:
    bar = Bar("tag", 10, "images")
    assert bar.line() == "tag: 0/10 images"
    bar.advance(4)
    assert "failed" not in bar.line() and "left" in bar.line()
    bar.advance(2, failed=1)
    assert "1 failed" in bar.line()


def test_a_narrow_line_leaves_out_its_end() -> None:
    bar = Bar("train", 1000, "images")
    bar.started -= 1000  # the rate stays what it is while the test runs
    bar.advance(500, note="epoch 3/8, loss 0.8223")
    whole = bar.line()
    assert whole.endswith("loss 0.8223")
    for width in (len(whole), 60, 45, 30):
        assert len(bar.line(width)) <= width
        assert whole.startswith(bar.line(width))
    assert bar.line(5) == "train: 500/1,000 images"


@pytest.mark.parametrize("columns", [80, 120])
def test_the_live_bar_stands_first_and_fits_into_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    with progress("train", 1000, "images") as bar:
        bar.advance(
            500, note="epoch 3/8, loss 0.8223, waited 0 %, [batch 7] and more that no terminal has room for " * 2
        )
        shown = bar._live.get_renderable()  # type: ignore[attr-defined]
    out = io.StringIO()
    Console(file=out, width=columns).print(shown)
    (line,) = out.getvalue().splitlines()
    assert line.startswith(("━", "-")) and "train: 500/1,000 images" in line
    assert len(line) <= columns
