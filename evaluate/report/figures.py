"""Arrays -> the paper's figures 1 and 3 to 6, reliability and training curves, as matplotlib figures. No torch."""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ...common.files import writing
from ...train.names import LABEL_MAPS
from .block import TITLES
from .explain import Comparison, Embedding, Example
from .profiles import Profiles, X
from .reliability import Diagram, occupied
from .series import TASKS, Cost, Curve, Training

# Okabe and Ito's palette, told apart with any colour vision; the markers tell apart in grey as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D1F", "#7F7F7F")
MARKERS = "osD^vPX*"
INK = "#222222"  # becomes the page's own text colour where a figure is put into it
STYLE = matplotlib.RcParams({
    "font.size": 9, "axes.titlesize": 9, "figure.dpi": 100, "savefig.dpi": 200, "svg.fonttype": "none",
    "svg.hashsalt": "c3", "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": "#7F7F7F", "grid.alpha": 0.25, "grid.linewidth": 0.6, "legend.frameon": False,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "figure.facecolor": "none", "axes.facecolor": "none",
})  # fmt: skip
FEWEST = 10  # labels of a bin of figure 7 that is drawn
SHARED = 5  # channels of figure 1 that have a colour
LABELS = {"groups": "groups g", "lambda_reg": "λ, weight of the regulariser"}
HEAT = LinearSegmentedColormap.from_list("heat", matplotlib.colormaps["inferno"](np.linspace(0.25, 1, 256)))
LEGENDS = {
    "occlusion": "how much the score falls when this place is hidden",
    "shares": "share of this place in the score",
}


@matplotlib.rc_context(STYLE)
def draw_profiles(shown: Profiles, title: str, narrow: bool = False) -> Figure:
    """Draw figure 1: a row for every class, its mean response on every channel; pooled levels left, X right.

    The channels that respond most to two classes at once have a colour, the same in every row; all others are grey.
    """
    columns, rows = shown.columns, len(shown.names)
    text = 1.0 + 0.16 * (len(shown.pairs()) + 2 * bool(shown.agreement)) * (1 + narrow)
    if narrow:
        figure = Figure(figsize=(3.6, 1.1 * rows * len(columns) + text), layout="constrained")
        axes = figure.subplots(rows * len(columns), 1).reshape(len(columns), rows).T
    else:
        figure = Figure(figsize=(7.2, 1.1 * rows + text), layout="constrained")
        axes = figure.subplots(rows, len(columns), squeeze=False, sharex="col")
    for column, (part, values) in enumerate(columns.items()):
        both = np.sort(values, axis=0)[-2]  # what the second most responsive class reaches
        shared = np.argsort(-both, kind="stable")[:SHARED]
        for axis, own in zip(axes[:, column], values, strict=True):
            axis.vlines(np.arange(len(own)), 0, own, color="#9A9A9A", lw=0.4, rasterized=True)
            for number, channel in enumerate(shared):
                axis.vlines(channel, 0, own[channel], color=COLOURS[number], lw=1.6)
            axis.axhline(0, color=INK, lw=0.5)
            axis.margins(x=0.01)
        axes[0, column].set_title(f"{part}: {values.shape[1]:,} channels")
        axes[-1, column].set_xlabel("channel")
    for row, name, seen, count in zip(axes, shown.names, shown.seen, shown.images, strict=True):
        for axis in row if narrow else row[:1]:
            axis.set_ylabel(f"{name}\n{'seen' if seen else 'unseen'}, {count} images", fontsize=7)
    level_axis, place = axes[0, 0], 0
    for part, values in shown.spread.items():
        if part != X:
            level_axis.annotate(part, (place, 0.98), xycoords=("data", "axes fraction"), fontsize=6, va="top")
            for axis in axes[:, 0]:
                axis.axvline(place, color=INK, lw=0.5, ls=":")
            place += values.shape[1]
    figure.suptitle(_broken(f"{title}\nmean response, in standard deviations from the mean of all images", narrow))
    lines = [
        f"{first} – {second}: word vectors {cosine:+.2f}; profiles "
        + ", ".join(f"{part} {r:+.2f}" for part, r in found.items())
        for first, second, cosine, found in shown.pairs()
    ]
    told = "\n".join(["cosine of word vectors, correlation of profiles:", *lines])
    if agreed := shown.agreement:
        told += (
            f"\n{agreed.pairs:,} pairs of {agreed.classes} classes that share no image, rank correlation of the two: "
            + ", ".join(f"{part} {r:+.2f}" for part, r in agreed.correlation.items())
        )
    figure.supxlabel(_broken(told, narrow), fontsize=7)
    return figure


@matplotlib.rc_context(STYLE)
def draw_embedding(shown: Embedding, title: str, narrow: bool = False) -> Figure:
    """Draw figure 3: a panel for each stage, every class in its colour and marker."""
    figure, axes = _panels(len(shown.points), 3.4, title, narrow)
    for axis, (stage, points) in zip(axes, shown.points.items(), strict=True):
        for number, name in enumerate(shown.names):
            own = points[shown.classes == number]
            axis.scatter(
                own[:, 0], own[:, 1], s=11, linewidths=0, alpha=0.85, label=name, clip_on=False, **_look(number)
            )
        axis.set(xticks=[], yticks=[], title=f"{stage} (silhouette {shown.silhouette[stage]:+.2f})")
        axis.grid(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2 if narrow else 4,
                  markerscale=1.6)  # fmt: skip
    return figure


@matplotlib.rc_context(STYLE)
def draw_curves(shown: Sequence[Curve], title: str, narrow: bool = False) -> Figure:
    """Draw figure 4: mAP over g and over lambda, ZSL and GZSL, with the deviation over seeds as a bar."""
    figure, axes = _panels(len(shown), 2.9, title, narrow)
    for axis, curve in zip(axes, shown, strict=True):
        for number, (task, values) in enumerate(curve.values.items()):
            means, spreads = zip(*values, strict=True)
            axis.errorbar(curve.x, means, yerr=spreads, capsize=3, label=TASKS[task], clip_on=False, **_look(number))
        kept = ", ".join(f"{'λ' if name == 'lambda_reg' else 'g'} = {value:g}" for name, value in curve.kept.items())
        axis.set(xlabel=LABELS[curve.setting], ylabel="mAP (%)", title=kept, xticks=curve.x)
        axis.set_ylim(bottom=0)
    axes[0].legend()
    return figure


@matplotlib.rc_context(STYLE)
def draw_costs(shown: Sequence[Cost], title: str, narrow: bool = False) -> Figure:
    """Draw figure 5: mAP, time and arithmetic of every method, as bars that share the method axis."""
    figure, axes = _panels(3, 1.5 + 0.42 * len(shown), title, narrow)
    place = np.arange(len(shown))
    for number, (task, name) in enumerate(TASKS.items()):
        values = [cost.values[task] for cost in shown]
        bars = axes[0].barh(place + 0.2 - 0.4 * number, np.nan_to_num(values), 0.38, color=COLOURS[number], label=name)
        axes[0].bar_label(bars, [f"{value:.1f}" if value == value else "-" for value in values], padding=2, fontsize=7)
    for axis, values, label in (
        (axes[1], [cost.ms for cost in shown], "ms an image, less is better"),
        (axes[2], [cost.gflops for cost in shown], "GFLOPs an image, less is better"),
    ):
        axis.bar_label(axis.barh(place, values, 0.5, color=COLOURS[2]), fmt="%.3g", padding=2, fontsize=7)
        axis.set(xlabel=label, yticks=place, yticklabels=[cost.title for cost in shown] if narrow else [])
        axis.margins(x=0.18)
        _plain(axis, "x", values)
    axes[0].set(xlabel="mAP (%)", yticks=place, yticklabels=[cost.title for cost in shown])
    axes[0].margins(x=0.18)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    for axis in axes:
        axis.xaxis.label.set_fontsize(8)
        axis.grid(axis="y", visible=False)
    return figure


@matplotlib.rc_context(STYLE)
def draw_reliability(shown: Diagram, title: str, narrow: bool = False) -> Figure:
    """Draw figure 7: a panel for each split, the share of true labels over their probability; the diagonal is right.

    Raw scores are thin and grey. A bin with fewer than `FEWEST` labels is left out.
    """
    figure, axes = _panels(len(shown.panels), 4.4, title, narrow)
    for axis, (split, found) in zip(axes, shown.panels.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
        for number, (kind, own) in enumerate(found.items()):
            for bins, name, style in (
                (own.before, "raw scores", {"color": "#9A9A9A", "marker": MARKERS[number], "lw": 0.8}),
                (own.after, "probabilities", {**_look(number), "lw": 1.6}),
            ):
                told = f"{kind}, {name}: error {bins.error:.4f}"
                axis.plot(*occupied(bins, FEWEST), ms=4, label=told, clip_on=False, **style)
        axis.set(xlabel="probability", ylabel="share of labels that are true", title=split, xlim=(0, 1), ylim=(0, 1))
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    return figure


@matplotlib.rc_context(STYLE)
def draw_examples(shown: Sequence[Example], title: str, maps: str = LABEL_MAPS[0]) -> Figure:
    """Draw figure 6: for each image the photograph, then where its best unseen and seen labels come from."""
    columns = 1 + max(len(example.unseen) + min(len(example.seen), 2) for example in shown)
    figure = Figure(figsize=(1.5 * columns, 1.85 * len(shown) + 0.4), layout="constrained")
    for row, example in zip(_photographs(figure, [example.pixels for example in shown], columns), shown, strict=True):
        row[0].set_title("\n".join(("true:", *_short((*example.true_unseen, *example.true_seen)))), fontsize=6)
        for axis, predicted in zip(row[1:], (*example.unseen, *example.seen[:2]), strict=False):
            kind = "seen" if predicted.seen else "unseen"
            said = f"{predicted.name}\n{kind}, {'true' if predicted.correct else 'not labelled'}"
            _overlay(axis, example.pixels, predicted.response, said)
    figure.suptitle(title, fontsize=9)
    _legend(figure, figure.axes, maps)
    return figure


@matplotlib.rc_context(STYLE)
def draw_comparisons(shown: Sequence[Comparison], title: str, maps: str = LABEL_MAPS[0]) -> Figure:
    """Draw figure 6b: for each image the photograph, then where every method sees the same true label."""
    columns = 1 + len(shown[0].views)
    figure = Figure(figsize=(1.6 * columns, 1.85 * len(shown) + 0.9), layout="constrained")
    for row, example in zip(_photographs(figure, [example.pixels for example in shown], columns), shown, strict=True):
        row[0].set_title(f"{example.label}\n{'seen' if example.seen else 'unseen'}, true", fontsize=6)
        for axis, view in zip(row[1:], example.views, strict=True):
            said = f"{TITLES.get(view.method, view.method)}\nrank {view.rank} of {example.classes}"
            _overlay(axis, example.pixels, view.response, said)
    figure.suptitle(title, fontsize=9)
    _legend(figure, figure.axes, maps)
    return figure


def _photographs(figure: Figure, photographs: Sequence[np.ndarray | None], columns: int) -> np.ndarray:
    """Return the panels (images, columns) of a figure without axes, with the photographs in the first column."""
    panels: np.ndarray = figure.subplots(len(photographs), columns, squeeze=False)
    for axis in panels.ravel():
        axis.set_axis_off()
    for axis, pixels in zip(panels[:, 0], photographs, strict=True):
        if pixels is not None:
            axis.imshow(pixels)
    return panels


@matplotlib.rc_context(STYLE)
def draw_responses(
    pixels: Sequence[np.ndarray], responses: Sequence[np.ndarray], titles: Sequence[str], maps: str = LABEL_MAPS[0]
) -> Figure:
    """Draw where the labels of one picture come from: the picture, then a panel for each label.

    pixels (224, 224, 3) uint8 and responses (7, 7), one of each for every label: labels may come from different crops.
    """
    figure = Figure(figsize=(1.5 * max(1 + len(titles), 3), 2.5), layout="constrained")
    first, *panels = figure.subplots(1, 1 + len(titles), squeeze=False)[0]
    first.imshow(pixels[0])
    for axis, own, response, title in zip(panels, pixels, responses, titles, strict=True):
        _overlay(axis, own, response, title)
    for axis in (first, *panels):
        axis.set_axis_off()
    _legend(figure, [first, *panels], maps)
    return figure


@matplotlib.rc_context(STYLE)
def draw_training(shown: Sequence[Training], title: str, narrow: bool = False) -> Figure:
    """Draw the loss of every run over its epochs, one colour for each method."""
    figure, (axis,) = _panels(1, 2.6, title, narrow)
    methods = list(dict.fromkeys(log.title for log in shown))
    for log in shown:
        labelled = log.title if log is next(other for other in shown if other.title == log.title) else None
        epochs, losses = [line.epoch for line in log.lines], [line.values["loss"] for line in log.lines]
        axis.plot(epochs, losses, ms=3, lw=1.2, label=labelled, clip_on=False, **_look(methods.index(log.title)))
    axis.set(xlabel="epoch", ylabel="training loss")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    _plain(axis, "y", [line.values["loss"] for log in shown for line in log.lines])
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=1 if narrow else 2)
    return figure


def heat(response: np.ndarray) -> np.ndarray:
    """Colour the map of a label (7, 7) as RGBA (7, 7, 4) uint8: evidence for the label, from clear to bright.

    Evidence against it stays clear; the strongest position has the same brightness in every map.
    """
    strength = np.clip(response, 0, None) / max(float(response.max()), np.finfo(np.float32).tiny)
    colours = HEAT(strength)
    colours[..., 3] = 0.75 * strength
    return np.asarray((255 * colours).round(), np.uint8)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as png (white ground, 200 dpi) and svg."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "svg")]
    for path in paths:
        save_as(figure, path)
    return paths


def save_as(figure: Figure, path: Path) -> None:
    """Write a figure as one file; the suffix decides its format."""
    kind = path.suffix.removeprefix(".")
    with matplotlib.rc_context(STYLE), writing(path) as scratch:
        figure.savefig(scratch, format=kind, facecolor="white", metadata=None if kind == "png" else {"Date": None})


def inline_svg(figure: Figure, label: str, kind: str) -> str:
    """Return a figure as an svg element: colours of the page, no background, no ids that could clash.

    `kind` is its class, `wide` or `narrow`.
    """
    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": f"{label} {kind}"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()[text.getvalue().index("<svg") :].replace(INK, "currentColor")
    for number, colour in enumerate(COLOURS):
        svg = svg.replace(colour.lower(), f"var(--series-{number})")  # one that can be seen on the page's ground
    svg = re.sub(r'<g id="[^"]+"', "<g", re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL))
    return svg.replace("<svg ", f'<svg class="{kind}" role="img" aria-label="{escape(label)}" ', 1)


def _panels(count: int, height: float, title: str, narrow: bool) -> tuple[Figure, list[Axes]]:
    """Return a figure with panels side by side, or below one another where it is `narrow`, for a phone."""
    figure = Figure(figsize=(3.6, height * count + 0.3) if narrow else (7.2, height), layout="constrained")
    figure.suptitle(_broken(title, narrow), fontsize=9)
    return figure, list(figure.subplots(*((count, 1) if narrow else (1, count)), squeeze=False).ravel())


def _broken(text: str, narrow: bool) -> str:
    """Break lines that are too long for a narrow figure."""
    width = 48 if narrow else 110
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, width, break_on_hyphens=False))


def _plain(axis: Axes, which: Literal["x", "y"], values: Sequence[float]) -> None:
    """Give an axis ticks in plain numbers, on a logarithmic scale where the values span more than a decade."""
    ticks = axis.xaxis if which == "x" else axis.yaxis
    if values and min(values) > 0 and max(values) > 10 * min(values):
        axis.set(**{f"{which}scale": "log"})
        decades = math.log10(max(values) / min(values))
        ticks.set_major_locator(LogLocator(subs=(1.0,) if decades > 1.5 else (1.0, 3.0), numticks=5))
        ticks.set_minor_formatter(NullFormatter())
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _look(number: int) -> dict[str, Any]:
    return {"color": COLOURS[number % len(COLOURS)], "marker": MARKERS[number % len(MARKERS)]}


def _legend(figure: Figure, axes: Sequence[Axes], maps: str) -> None:
    """Say below the panels what the colours of `heat` mean."""
    bar = figure.colorbar(ScalarMappable(cmap=HEAT), ax=axes, location="bottom", shrink=0.4, aspect=40, ticks=[0, 1])
    bar.ax.set_xticklabels(["nothing", "most in its panel"], fontsize=6)
    bar.set_label(LEGENDS[maps], fontsize=7)


def _overlay(axis: Axes, pixels: np.ndarray | None, response: np.ndarray | None, title: str) -> None:
    box = (0, 224, 224, 0)
    if pixels is not None:
        axis.imshow(pixels.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=box)
    if response is not None:
        axis.imshow(heat(response), extent=box, interpolation="bilinear")
    axis.set_title(title, fontsize=6)


def _short(names: Sequence[str], most: int = 2) -> list[str]:
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return [*names[:most], *more]
