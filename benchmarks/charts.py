"""Draw the charts of docs/benchmarks.md from its own tables.

    python benchmarks/charts.py

A chart can therefore never disagree with its table: each png keeps a digest of the numbers that it shows, and a test
compares that with the page. Run this after every change of a table that has a chart.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import matplotlib
from c3.common.files import writing
from c3.evaluate.report.figures import COLOURS, INK, MARKERS, STYLE
from claims import PAGE, Page
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo

IMAGES = PAGE.parent / "img"
WIDTH = 4.4  # inches: text of 9 points can be read on a phone
OURS, PEER, ROW, TALL = COLOURS[0], "#B5B5B5", 0.21, 0.31
TICKS = [step * 10.0**power for power in range(-3, 8) for step in (1, 3)]
DIGEST = "Comment"  # a field of png that holds the digest

Series = Mapping[str, float]


@dataclass(frozen=True)
class Panel:
    """Numbers that one pair of axes shows.

    `bars` are horizontal, the largest on top; those whose name begins with c3 have the colour of c3. `lines` are
    (x, y) points by name, on logarithmic axes. Bars `around` a number begin there and have their names above them.
    """

    title: str
    bars: Series | None = None
    lines: Mapping[str, Sequence[tuple[float, float]]] | None = None
    around: float | None = None
    ours: bool = False  # all bars have the colour of c3
    kept: bool = False  # the order of the bars, rather than by size


def claims(page: Page) -> list[Panel]:
    """Return how far every claim is from its aim."""
    shares = {claim.what: round(claim.share, 3) for claim in page.claims}
    return [Panel("how many times the aim is reached", bars=shares, around=1.0)]


def extraction(page: Page) -> list[Panel]:
    """Return extraction beside the bare backbone, and what keeping freed memory is worth."""
    beside = page.under("Writing beside the backbone", "backbone", "ratio")[0]
    memory = page.under("Memory between batches", "backbone", "faster")[0]
    return [
        Panel("extract: images/s / backbone alone", bars=_series(beside.texts("backbone"), beside.numbers("ratio")),
              ours=True),
        Panel("freed memory kept: speed / before", bars=_series(memory.texts("backbone"), memory.numbers("faster")),
              ours=True),
    ]  # fmt: skip


def reading(page: Page) -> list[Panel]:
    """Return size and shuffled epochs of every store, beside the memmap."""
    sizes = page.under("Reading and writing", "store", "bytes / raw")[0]
    read = page.under("Reading", "store", "cold", "warm", "/ memmap")[0]
    return [
        Panel("size: bytes / float16", bars=_series(sizes.texts("store"), sizes.numbers("bytes / raw"))),
        *(
            Panel(f"read {said}: rows/s / memmap", bars=_series(read.texts("store"), read.numbers("/ memmap", nth)))
            for nth, said in enumerate(("cold", "warm"))
        ),
    ]


def training(page: Page) -> list[Panel]:
    """Return rows per second of every way, beside the bare step."""
    panels = []
    for table in page.under("Training", "way", "of bare"):
        ways = [f"c3 {way}" if way.startswith(("ram", "stream")) else way for way in table.texts("way")]
        methods = [before for before, name in pairwise(table.header) if name == "of bare"]
        panels += [
            Panel(f"train {method}: rows/s / bare step", bars=_series(ways, table.numbers("of bare", nth)), kept=True)
            for nth, method in enumerate(methods)
        ]
    return panels


def evaluation(page: Page) -> list[Panel]:
    """Return rows per second of evaluation, beside the usual ways."""
    return [
        Panel(f"{table.before.partition(',')[0]}: rows/s",
              bars=_series(table.texts("way"), table.numbers("rows/s")), kept=True)
        for table in page.under("Evaluation", "way", "rows/s")
    ]  # fmt: skip


def scale(page: Page) -> list[Panel]:
    """Return time and memory of the steps of an extraction that grow with the rows."""
    table = page.under("Millions of rows", "rows", "step", "MiB at most")[0]
    seconds = next(name for name in table.header if name.startswith("seconds"))
    shown = ("create", "c3 inspect", "manifest digest", "read statuses")
    panels = []
    for column in (seconds, "MiB at most"):
        triples = zip(table.texts("step"), table.numbers("rows"), table.numbers(column), strict=True)
        points = [(step, (rows, value)) for step, rows, value in triples if rows and value]
        panels.append(
            Panel(f"{column}, by rows", lines={name: [at for step, at in points if step == name] for name in shown})
        )
    return panels


CHARTS: Mapping[str, Callable[[Page], list[Panel]]] = {
    f"benchmarks-{draw.__name__}.png": draw for draw in (claims, extraction, reading, training, evaluation, scale)
}


def digest(panels: Sequence[Panel]) -> str:
    """Return a digest of the numbers and words that a chart shows."""
    return hashlib.sha256(json.dumps([vars(panel) for panel in panels]).encode()).hexdigest()[:16]


@matplotlib.rc_context(STYLE)
def figure_of(panels: Sequence[Panel]) -> Figure:
    """Draw the panels below one another."""
    heights = [
        2.6 if panel.bars is None else 0.6 + ROW * len(panel.bars) * (1 + bool(panel.around)) for panel in panels
    ]
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    axes = figure.subplots(len(panels), 1, height_ratios=heights, squeeze=False).ravel()
    for axis, panel in zip(axes, panels, strict=True):
        axis.set_title(panel.title, loc="left")
        if panel.lines:
            _lines(axis, panel.lines)
        elif panel.around:
            _bars_around(axis, panel.bars or {}, panel.around)
        else:
            _bars(axis, panel.bars or {}, panel)
    return figure


def save(panels: Sequence[Panel], path: Path) -> None:
    """Write a chart as png, with the digest of its numbers."""
    with matplotlib.rc_context(STYLE):
        save_small(figure_of(panels), path, {DIGEST: digest(panels)})


def save_small(figure: Figure, path: Path, said: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write a figure as png of few colours, which is small, with texts by name."""
    drawn, texts = io.BytesIO(), PngInfo()
    with matplotlib.rc_context(STYLE):
        figure.savefig(drawn, format="png", facecolor="white")
    for name, text in said.items():
        texts.add_text(name, text)
    with Image.open(drawn) as image, writing(path) as scratch:
        image.convert("RGB").quantize(32, dither=Image.Dither.NONE).save(scratch, "PNG", optimize=True, pnginfo=texts)


def main() -> None:
    """Draw every chart, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CHARTS), default=list(CHARTS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=IMAGES)
    asked = parser.parse_args()
    page = Page.read()
    for name in asked.only:
        save(CHARTS[name](page), asked.out / name)
        print(asked.out / name)


def _series(names: Sequence[str], values: Sequence[float | None]) -> Series:
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _bars(axis: Axes, values: Series, panel: Panel) -> None:
    """Draw bars with their names on the left and their numbers at their ends."""
    names = list(values)[::-1] if panel.kept else sorted(values, key=lambda name: values[name])
    colours = [OURS if panel.ours or name.startswith("c3") else PEER for name in names]
    drawn = axis.barh(names, [values[name] for name in names], color=colours, height=0.7)
    axis.bar_label(drawn, [f"{values[name]:,g}" for name in names], padding=3, fontsize=8)
    axis.margins(x=0.18, y=0.02)
    axis.grid(False, axis="y")
    _plain(axis.xaxis)


def _bars_around(axis: Axes, values: Series, middle: float) -> None:
    """Draw bars to the right of a line where they are larger, to its left where they are smaller."""
    names = sorted(values, key=lambda name: values[name])
    found = [values[name] for name in names]
    colours = [OURS if value >= middle else COLOURS[1] for value in found]
    axis.barh(range(len(names)), [value - middle for value in found], left=middle, color=colours, height=0.4)
    axis.axvline(middle, color=INK, linewidth=1)
    ends = (0.8 * min(found), 1.25 * max(found))
    axis.set(xscale="log", xlim=ends, ylim=(-0.5, len(names)), yticks=[])
    for place, (name, value) in enumerate(zip(names, found, strict=True)):
        axis.text(ends[0], place + 0.27, f"{name}: {value:,.2f}", fontsize=8, va="bottom",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    axis.spines["left"].set_visible(False)
    axis.set_xticks([tick for tick in TICKS if ends[0] <= tick <= ends[1]])
    _plain(axis.xaxis)


def _lines(axis: Axes, lines: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    for number, (name, points) in enumerate(lines.items()):
        axis.plot(*zip(*points, strict=True), label=name, color=COLOURS[number], marker=MARKERS[number], markersize=5)
    axis.set(xscale="log", yscale="log")
    axis.legend(fontsize=8)
    low, high = axis.get_ylim()
    axis.set_yticks([tick for tick in TICKS if low <= tick <= high])
    _plain(axis.xaxis)
    _plain(axis.yaxis)


def _plain(ticks: Axis) -> None:
    """Write plain numbers at the ticks."""
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    ticks.set_minor_formatter(NullFormatter())
    ticks.set_minor_locator(NullLocator())


if __name__ == "__main__":
    main()
